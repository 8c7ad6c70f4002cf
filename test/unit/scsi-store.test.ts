// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openStore } from "../../src/engine/virtio-scsi/store.ts";

const UUID = "0b5f7c1e-3d2a-4f60-9e8d-7c6b5a493827";
const base = mkdtempSync(join(tmpdir(), "vhostctl-store-"));
after(() => rmSync(base, { recursive: true }));

let folders = 0;
function scene() {
	const dir = join(base, `${folders++}`, "kept");
	return { dir, file: join(dir, `${UUID}.json`), store: openStore(dir) };
}

test("what was never saved is undefined, and asking makes nothing", () => {
	const { dir, store } = scene();
	assert.equal(store.load(UUID), undefined);
	assert.equal(existsSync(dir), false);
});

test("a document comes back, also from another store of the folder", () => {
	const { dir, store } = scene();
	const document = { text: 'ä\u2028"', list: [1, null, { deep: true }] };
	store.save(UUID, document);
	assert.deepEqual(store.load(UUID), document);
	assert.deepEqual(openStore(dir).load(UUID.toUpperCase()), document);
	assert.deepEqual(readdirSync(dir), [`${UUID}.json`]);
});

test("a later document replaces it; others stay", () => {
	const { dir, store } = scene();
	const other = UUID.replace(/^0/, "1");
	store.save(UUID, { version: 1, long: "x".repeat(10_000) });
	store.save(other, { version: 3 });
	store.save(UUID, { version: 2 });
	assert.deepEqual(store.load(UUID), { version: 2 });
	assert.deepEqual(store.load(other), { version: 3 });
	assert.deepEqual(readdirSync(dir).length, 2);
});

test("null removes, also what is not there", () => {
	const { dir, store } = scene();
	store.save(UUID, null);
	assert.equal(existsSync(dir), false);
	store.save(UUID, { version: 1 });
	store.save(UUID, null);
	assert.equal(store.load(UUID), undefined);
	assert.deepEqual(readdirSync(dir), []);
	store.save(UUID, null);
});

test("folder and file are their owner's alone, whatever a crash left", () => {
	const { dir, file, store } = scene();
	store.save(UUID, { version: 1 });
	assert.equal(statSync(dir).mode & 0o777, 0o700);
	assert.equal(statSync(file).mode & 0o777, 0o600);
	writeFileSync(`${file}.new`, "half of a docu", { mode: 0o644 });
	store.save(UUID, { version: 2 });
	assert.equal(statSync(file).mode & 0o777, 0o600);
	assert.deepEqual(readdirSync(dir), [`${UUID}.json`]);
});

test("a draft that is a link is not followed", () => {
	const { dir, file, store } = scene();
	const victim = join(dir, "..", "victim");
	mkdirSync(dir, { recursive: true });
	writeFileSync(victim, "precious");
	symlinkSync(victim, `${file}.new`);
	store.save(UUID, { version: 1 });
	assert.equal(readFileSync(victim, "utf8"), "precious");
	assert.deepEqual(store.load(UUID), { version: 1 });
});

test("a save that fails leaves the old document, and no draft", () => {
	const { dir, file, store } = scene();
	store.save(UUID, { version: 1 });
	const cycle: Record<string, unknown> = {};
	cycle.self = cycle;
	assert.throws(() => store.save(UUID, cycle), TypeError);
	assert.deepEqual(store.load(UUID), { version: 1 });
	assert.deepEqual(readdirSync(dir), [`${UUID}.json`]);
	// A rename that cannot be done: there is a folder with something in it.
	rmSync(file);
	mkdirSync(join(file, "in the way"), { recursive: true });
	assert.throws(() => store.save(UUID, { version: 2 }), /EISDIR|ENOTEMPTY/);
	assert.deepEqual(readdirSync(dir), [`${UUID}.json`]);
	assert.throws(() => store.save(UUID, null), /EISDIR|is a directory/i);
});

test("a folder that cannot be made is an error", () => {
	const { dir, store } = scene();
	mkdirSync(join(dir, ".."), { recursive: true });
	writeFileSync(dir, "a file");
	assert.throws(() => store.save(UUID, { version: 1 }), /EEXIST|ENOTDIR/);
	assert.throws(() => store.load(UUID), /ENOTDIR/);
});

const WRONG: [string, string, RegExp][] = [
	["empty", "", /is not JSON/],
	["cut off", '{"version": 1', /is not JSON/],
	["bytes that are no text", "\u0000\ufffd\u0001", /is not JSON/],
	["too large", " ".repeat(1024 * 1024 + 1), /is larger than 1048576 bytes/],
];

for (const [name, text, reason] of WRONG) {
	test(`a file that is ${name} is refused`, () => {
		const { dir, file, store } = scene();
		mkdirSync(dir, { recursive: true });
		writeFileSync(file, text);
		assert.throws(() => store.load(UUID), reason);
		store.save(UUID, { version: 1 });
		assert.deepEqual(store.load(UUID), { version: 1 });
	});
}

test("a folder in the place of the file is refused", () => {
	const { file, store } = scene();
	mkdirSync(file, { recursive: true });
	assert.throws(() => store.load(UUID), /is not a file|EISDIR/);
});

test("a FIFO in the place of the file is refused without waiting for a writer", () => {
	const { dir, file, store } = scene();
	mkdirSync(dir, { recursive: true });
	execFileSync("mkfifo", [file]);
	assert.throws(() => store.load(UUID), /is not a file/);
});

const NAMES = [
	"",
	"..",
	"../../etc/passwd",
	`../${UUID}`,
	`${UUID}/`,
	`${UUID}\n`,
	`${UUID}\0`,
	`${UUID}0`,
	UUID.slice(1),
	UUID.replace("0", "g"),
	UUID.replaceAll("-", ""),
];

for (const name of NAMES) {
	test(`${JSON.stringify(name)} is refused as a name`, () => {
		const { dir, store } = scene();
		assert.throws(() => store.load(name), /is no UUID/);
		assert.throws(() => store.save(name, { version: 1 }), /is no UUID/);
		assert.throws(() => store.save(name, null), /is no UUID/);
		assert.equal(existsSync(dir), false);
	});
}
