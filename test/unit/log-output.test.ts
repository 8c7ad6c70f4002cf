// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import {
	closeSync,
	mkdtempSync,
	openSync,
	readFileSync,
	readSync,
	rmSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createOutput, writerOf } from "../../src/engine/log-output.ts";
import { NativeError, native } from "../../src/ffi/native.ts";

const { EAGAIN, EPIPE } = constants.errno;
const note = (lost: number) => `lost ${lost}\n`;

function folder(t: TestContext): string {
	const path = mkdtempSync(join(tmpdir(), "vhostctl-log-"));
	t.after(() => rmSync(path, { recursive: true }));
	return path;
}

/** Writes until nothing is taken any more. Returns how many bytes were. */
function fill(write: (data: Uint8Array) => number, line: Uint8Array): number {
	for (let total = 0; ; ) {
		try {
			total += write(line);
		} catch (error) {
			assert(
				error instanceof NativeError && error.errno === EAGAIN,
				`${error}`,
			);
			return total;
		}
		assert(total < 64 * 1024 * 1024, "it is never full");
	}
}

test("lines that find no room are counted, and the count is told before the next", () => {
	let room = 1;
	let text = "";
	const output = createOutput((data) => {
		if (room-- <= 0) throw new NativeError("write", EAGAIN);
		text += Buffer.from(data).toString();
		return data.length;
	}, note);
	for (const line of ["a\n", "b\n", "c\n"]) output(line);
	room = 2;
	for (const line of ["d\n", "e\n"]) output(line);
	room = 10;
	output("f\n");
	assert.equal(text, "a\nlost 2\nd\nlost 1\nf\n");
});

test("a line of which a part was taken does not run into the next", () => {
	let part = 2;
	let text = "";
	const output = createOutput((data) => {
		const taken = Buffer.from(data).toString().slice(0, part);
		text += taken;
		return taken.length;
	}, note);
	output("first\n");
	part = 100;
	output("second\n");
	assert.equal(text, "fi\nlost 1\nsecond\n");
});

test("when the reader has gone nothing is tried any more", () => {
	let tries = 0;
	const output = createOutput(() => {
		tries++;
		throw new NativeError("write", EPIPE);
	}, note);
	for (let i = 0; i < 10; i++) output("line\n");
	assert.equal(tries, 1);
});

test("a full socket takes nothing and holds nobody; room brings it back", () => {
	const [ours, theirs] = native.socketPair();
	try {
		const write = writerOf(ours);
		const line = Buffer.from(`${"x".repeat(999)}\n`);
		const total = fill(write, line);
		assert.equal(total % line.length, 0, "whole lines");
		const buffer = Buffer.alloc(total);
		for (let got = 0; got < total; )
			got += readSync(theirs, buffer, got, total - got, null);
		assert.equal(write(line), line.length);
	} finally {
		native.fdClose(ours);
		native.fdClose(theirs);
	}
});

test("a full pipe takes nothing and holds nobody, and stays as it is for others", (t) => {
	const path = join(folder(t), "pipe");
	assert.equal(spawnSync("mkfifo", [path]).status, 0);
	const both = openSync(path, "r+");
	const ours = openSync(path, "a");
	t.after(() => {
		closeSync(both);
		closeSync(ours);
	});
	const flags = () => readFileSync(`/proc/self/fdinfo/${ours}`, "utf8");
	const before = flags();
	const write = writerOf(ours);
	const line = Buffer.from(`${"x".repeat(999)}\n`);
	const total = fill(write, line);
	assert.equal(total % line.length, 0, "whole lines");
	readSync(both, Buffer.alloc(total), 0, total, null);
	assert.equal(write(line), line.length);
	assert.equal(flags(), before);
});

test("a file takes everything, behind what is there", (t) => {
	const path = join(folder(t), "file");
	const fd = openSync(path, "w");
	const write = writerOf(fd);
	for (let i = 0; i < 100; i++)
		assert.equal(write(Buffer.from("0123456789\n")), 11);
	closeSync(fd);
	assert.equal(readFileSync(path).length, 1100);
});
