// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { Nexus } from "../../src/engine/scsi/task.ts";
import { type Harness, harness } from "../support/scsi.ts";
import {
	badCdb,
	badList,
	type Case,
	expectAnswer,
	fixedSense,
	LIST_LENGTH_ERROR,
	rangeCdb,
	stamped,
	testCases,
} from "../support/scsi-cases.ts";

const BLOCKS = 64;
const DISK = { blocks: BLOCKS, maxBlocks: 16 };

const OVERWRITE = 0x01;
const BLOCK_ERASE = 0x02;
const CRYPTOGRAPHIC_ERASE = 0x03;
const EXIT_FAILURE_MODE = 0x1f;
const IMMED = 0x80;
const AUSE = 0x20;

function cdbOf(action: number, length = 0): number[] {
	return [0x48, action, 0, 0, 0, 0, 0, length >> 8, length & 0xff, 0];
}

/** Byte 0 of the list, and the pattern. */
function overwriteList(flags: number, pattern: Buffer): Buffer {
	const list = Buffer.concat([Buffer.of(flags, 0, 0, 0), pattern]);
	list.writeUInt16BE(pattern.length, 2);
	return list;
}

function overwrite(list: Buffer, flags = 0): Omit<Case, "name"> {
	return { cdb: cdbOf(OVERWRITE | flags, list.length), dataOut: list };
}

function fill(h: Harness): void {
	h.disk.bytes.set(stamped(BLOCKS));
	h.disk.stable.set(stamped(BLOCKS));
}

function untouched(h: Harness): void {
	assert(!h.disk.calls.some(({ op }) => op === "write" || op === "unmap"));
	assert.equal(h.lu.background, undefined);
}

function blockOf(pattern: Buffer): Buffer {
	const block = Buffer.alloc(512);
	for (let at = 0; at < 512; at++)
		block[at] = pattern.readUInt8(at % pattern.length);
	return block;
}

function holdsPattern(h: Harness, pattern: Buffer): void {
	const wanted = Buffer.concat(new Array(BLOCKS).fill(blockOf(pattern)));
	assert(h.disk.bytes.equals(wanted));
	assert(h.disk.stable.equals(wanted));
	assert.equal(h.lu.background, undefined);
}

/** The first byte of the disk after each pass. */
function passes(h: Harness): number[] {
	const first: number[] = [];
	const { write } = h.disk;
	h.disk.write = async (lba, data, durable) => {
		if (lba === 0) first.push(data.readUInt8(0));
		await write(lba, data, durable);
	};
	return first;
}

const PATTERN = Buffer.from("0badc0de55", "hex");
const ONE_PASS = overwriteList(1, PATTERN);

testCases([
	{
		name: "SANITIZE, OVERWRITE writes the pattern to each block",
		disk: DISK,
		before: fill,
		...overwrite(ONE_PASS),
		after: (h) => holdsPattern(h, PATTERN),
	},
	{
		name: "SANITIZE, OVERWRITE with a pattern as long as a block",
		disk: DISK,
		before: fill,
		...overwrite(overwriteList(1, stamped(1, 4))),
		after: (h) => holdsPattern(h, stamped(1, 4)),
	},
	{
		name: "SANITIZE, OVERWRITE on a disk whose size is no multiple of a chunk",
		disk: { blocks: BLOCKS, maxBlocks: 13 },
		before: fill,
		...overwrite(ONE_PASS),
		after: (h) => holdsPattern(h, PATTERN),
	},
	{
		name: "SANITIZE, OVERWRITE, list of a header alone",
		...overwrite(ONE_PASS.subarray(0, 4)),
		sense: badCdb(7),
		residual: 4,
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE without a list",
		cdb: cdbOf(OVERWRITE),
		sense: badCdb(7),
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE, list longer than a block",
		...overwrite(overwriteList(1, Buffer.alloc(513))),
		sense: badCdb(7),
		residual: 517,
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE, list longer than data-out",
		cdb: cdbOf(OVERWRITE, 100),
		dataOut: ONE_PASS,
		overrun: true,
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE without a pass",
		...overwrite(overwriteList(0, PATTERN)),
		sense: badList(0, 4),
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE with TEST",
		...overwrite(overwriteList(0x41, PATTERN)),
		sense: badList(0, 6),
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE with a reserved byte",
		...overwrite(Buffer.from([1, 9, 0, 1, 0])),
		sense: badList(1),
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE with no pattern length",
		...overwrite(Buffer.from([1, 0, 0, 0, 0])),
		sense: badList(2),
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE with a pattern length of more than a block",
		...overwrite(Buffer.from([1, 0, 2, 1, 0])),
		sense: badList(2),
		after: untouched,
	},
	{
		name: "SANITIZE, OVERWRITE with a pattern that is cut off",
		...overwrite(Buffer.from([1, 0, 0, 2, 0])),
		sense: LIST_LENGTH_ERROR,
		after: untouched,
	},
	{
		name: "SANITIZE, BLOCK ERASE unmaps everything",
		disk: DISK,
		before: fill,
		cdb: cdbOf(BLOCK_ERASE),
		after: (h) => {
			holdsPattern(h, Buffer.alloc(1));
			assert(h.disk.mapped.every((one) => one === 0));
		},
	},
	{
		name: "SANITIZE, BLOCK ERASE with a list",
		cdb: cdbOf(BLOCK_ERASE, 8),
		dataOut: Buffer.alloc(8),
		sense: badCdb(7),
		residual: 8,
		after: untouched,
	},
	{
		name: "SANITIZE, BLOCK ERASE where nothing is ever unmapped",
		disk: { supports: { unmap: false } },
		cdb: cdbOf(BLOCK_ERASE),
		sense: badCdb(1, 4),
		after: untouched,
	},
	{
		name: "SANITIZE, CRYPTOGRAPHIC ERASE is not there",
		cdb: cdbOf(CRYPTOGRAPHIC_ERASE),
		sense: badCdb(1, 4),
		after: untouched,
	},
	{
		name: "SANITIZE, EXIT FAILURE MODE where nothing has failed",
		cdb: cdbOf(EXIT_FAILURE_MODE),
	},
	{
		name: "SANITIZE, EXIT FAILURE MODE with a list",
		cdb: cdbOf(EXIT_FAILURE_MODE, 8),
		dataOut: Buffer.alloc(8),
		sense: badCdb(7),
		residual: 8,
	},
	{
		name: "SANITIZE with ZNR, which is of zoned devices",
		cdb: cdbOf(BLOCK_ERASE | 0x40),
		sense: badCdb(1, 6),
		after: untouched,
	},
	{
		name: "SANITIZE with a reserved byte",
		cdb: [0x48, BLOCK_ERASE, 0, 0, 0, 0, 6, 0, 0, 0],
		sense: badCdb(6, 2),
		after: untouched,
	},
	{
		name: "SANITIZE of a disk that is read-only",
		disk: { readonly: true },
		cdb: cdbOf(BLOCK_ERASE),
		sense: fixedSense(7, 0x2700),
		after: untouched,
	},
	{
		name: "SANITIZE of a disk that is stopped",
		before: (h) => {
			h.lu.started = false;
		},
		cdb: cdbOf(BLOCK_ERASE),
		sense: fixedSense(2, 0x0402),
		after: untouched,
	},
]);

for (const [name, flags, wanted] of [
	["three passes alike", 3, [0x0f, 0x0f, 0x0f]],
	[
		"an even number of passes, inverted in turn",
		0x84,
		[0xf0, 0x0f, 0xf0, 0x0f],
	],
	["an odd number of passes, inverted in turn", 0x83, [0x0f, 0xf0, 0x0f]],
] as const)
	test(`SANITIZE, OVERWRITE makes ${name}`, async () => {
		const h = harness({ disk: DISK });
		const seen = passes(h);
		await expectAnswer(h, overwrite(overwriteList(flags, Buffer.of(0x0f))));
		assert.deepEqual(seen, wanted);
		holdsPattern(h, Buffer.of(0x0f));
	});

function nexusOf(h: Harness, number: number): Nexus {
	const nexus = h.nexuses[number];
	assert(nexus);
	return nexus;
}

const TEST_UNIT_READY = [0, 0, 0, 0, 0, 0];

function inProgress(progress: number): Buffer {
	const specific = [0x80, progress >> 8, progress & 0xff];
	return fixedSense(2, 0x041b, { specific });
}

/** Lets writes through one by one. */
function stepper(h: Harness): () => Promise<void> {
	const waiting: (() => void)[] = [];
	const { write } = h.disk;
	h.disk.write = async (...args) => {
		await new Promise<void>((resolve) => waiting.push(resolve));
		await write(...args);
	};
	return async () => {
		while (waiting.length === 0) await setImmediate();
		waiting.shift()?.();
		for (let turn = 0; turn < 5; turn++) await setImmediate();
	};
}

async function finished(h: Harness): Promise<void> {
	while (h.lu.background) await setImmediate();
}

test("SANITIZE with IMMED goes on behind, and all else is refused with its progress", async () => {
	const h = harness({ disk: DISK, nexuses: 2 });
	const step = stepper(h);
	const changes = h.changes();
	await expectAnswer(h, overwrite(overwriteList(2, PATTERN), IMMED));
	assert(h.changes() > changes, "the gates are to be asked for again");
	assert.equal(h.lu.gates(nexusOf(h, 1)).read, "ask");
	await expectAnswer(h, { cdb: TEST_UNIT_READY, sense: inProgress(0) });
	await step();
	await step();
	// Two of eight chunks in two passes.
	const sense = inProgress(0x4000);
	await expectAnswer(h, { cdb: TEST_UNIT_READY, sense }, 1);
	const read = rangeCdb(0x28, 10, { blocks: 1 });
	await expectAnswer(h, { cdb: read, room: 512, sense, residual: 512 }, 1);
	await expectAnswer(h, { cdb: [0x1b, 0, 0, 0, 1, 0], sense });
	await expectAnswer(h, { cdb: cdbOf(BLOCK_ERASE), sense });
	await expectAnswer(h, { cdb: cdbOf(EXIT_FAILURE_MODE), sense });
	const request = await h.send(0, [3, 0, 0, 0, 252, 0], { room: 252 });
	assert.equal(request.status, 0);
	assert.deepEqual(request.data, sense);
	const inquiry = await h.send(0, [0x12, 0, 0, 0, 36, 0], { room: 36 });
	assert.equal(inquiry.status, 0);
	for (let more = 0; more < 6; more++) await step();
	await finished(h);
	await expectAnswer(h, { cdb: TEST_UNIT_READY });
	holdsPattern(h, PATTERN);
});

test("SANITIZE goes on when its command is aborted, and at a reset", async () => {
	const h = harness({ disk: DISK });
	const step = stepper(h);
	const abort = new AbortController();
	const { cdb, dataOut } = overwrite(ONE_PASS);
	const sending = h.send(0, cdb, { dataOut, signal: abort.signal });
	await step();
	abort.abort();
	await sending;
	h.lu.reset();
	h.lu.attentions.take(nexusOf(h, 0));
	await expectAnswer(h, { cdb: TEST_UNIT_READY, sense: inProgress(0x4000) });
	for (let more = 0; more < 3; more++) await step();
	await finished(h);
	holdsPattern(h, PATTERN);
});

test("SANITIZE waits for what is written already", async () => {
	const h = harness({ disk: DISK });
	let leave = () => {};
	const busy = h.disk.exclusive(
		() =>
			new Promise<void>((resolve) => {
				leave = resolve;
			}),
	);
	await expectAnswer(h, overwrite(ONE_PASS, IMMED));
	for (let turn = 0; turn < 5; turn++) await setImmediate();
	assert(!h.disk.calls.some(({ op }) => op === "write"));
	leave();
	await busy;
	await finished(h);
	holdsPattern(h, PATTERN);
});

test("SANITIZE ends commands that go on, between two of their chunks", async () => {
	const h = harness({ disk: DISK });
	const release = h.disk.hold();
	const cdb = rangeCdb(0x41, 10, { blocks: BLOCKS });
	const writing = h.send(0, cdb, { dataOut: stamped(1) });
	await setImmediate();
	await expectAnswer(h, overwrite(ONE_PASS, IMMED));
	release();
	const { status, sense } = await writing;
	assert.deepEqual([status, sense], [2, inProgress(0)]);
	await finished(h);
	holdsPattern(h, PATTERN);
});

test("SANITIZE ends, and has failed, when the logical unit is taken away", async () => {
	const h = harness({ disk: DISK });
	const step = stepper(h);
	const { cdb, dataOut } = overwrite(ONE_PASS);
	const sending = h.send(0, cdb, { dataOut });
	await step();
	const closing = h.lu.close();
	await step();
	await closing;
	const written = h.disk.calls.filter(({ op }) => op === "write").length;
	assert(written < 4, `${written} chunks were written`);
	const { status, sense } = await sending;
	assert.deepEqual([status, sense], [2, FAILED]);
});

const FAILED = fixedSense(3, 0x3103);

async function failedSanitize(flags: number): Promise<Harness> {
	const h = harness({ disk: DISK });
	h.disk.fail({ op: "write", errno: "EIO", lba: 40 });
	await expectAnswer(h, { ...overwrite(ONE_PASS, flags), sense: FAILED });
	await expectAnswer(h, { cdb: TEST_UNIT_READY, sense: FAILED });
	assert.equal(h.lu.gates(nexusOf(h, 0)).read, "ask");
	const read = rangeCdb(0x28, 10, { blocks: 1 });
	await expectAnswer(h, { cdb: read, room: 512, sense: FAILED, residual: 512 });
	return h;
}

test("SANITIZE that failed leaves the data out of reach until EXIT FAILURE MODE", async () => {
	const h = await failedSanitize(AUSE);
	await expectAnswer(h, { cdb: cdbOf(EXIT_FAILURE_MODE) });
	await expectAnswer(h, { cdb: TEST_UNIT_READY });
});

test("SANITIZE that failed without AUSE is left by another one alone", async () => {
	const h = await failedSanitize(0);
	const sense = badCdb(1, 4);
	await expectAnswer(h, { cdb: cdbOf(EXIT_FAILURE_MODE), sense });
	const unrestricted = overwrite(ONE_PASS, AUSE);
	const residual = ONE_PASS.length;
	await expectAnswer(h, { ...unrestricted, sense: badCdb(1, 5), residual });
	await expectAnswer(h, { ...overwrite(ONE_PASS), sense: FAILED });
	h.disk.heal();
	await expectAnswer(h, overwrite(ONE_PASS));
	await expectAnswer(h, { cdb: TEST_UNIT_READY });
	holdsPattern(h, PATTERN);
});

test("SANITIZE with IMMED that fails is told of by other commands", async () => {
	const h = harness({ disk: DISK });
	h.disk.fail({ op: "unmap", errno: "EIO" });
	await expectAnswer(h, { cdb: cdbOf(BLOCK_ERASE | IMMED) });
	for (let turn = 0; turn < 20; turn++) await setImmediate();
	await expectAnswer(h, { cdb: TEST_UNIT_READY, sense: FAILED });
	const request = await h.send(0, [3, 0, 0, 0, 252, 0], { room: 252 });
	assert.deepEqual(request.data, FAILED);
});
