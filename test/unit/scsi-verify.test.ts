// SPDX-License-Identifier: MIT
// VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { type Harness, harness } from "../support/scsi.ts";
import {
	badCdb,
	badLba,
	type Case,
	expectAnswer,
	fixedSense,
	type RangeFields,
	rangeCdb,
	stamped,
	testCases,
	writeThrough,
} from "../support/scsi-cases.ts";

const BLOCKS = 64;
const DISK = { blocks: BLOCKS, maxBlocks: 4 };

function fill(h: Harness): void {
	h.disk.bytes.set(stamped(BLOCKS));
	h.disk.calls.length = 0;
}

function part(lba: number, blocks: number): Buffer {
	return stamped(BLOCKS).subarray(lba * 512, (lba + blocks) * 512);
}

/** The same bytes but for one. */
function changed(data: Buffer, at: number): Buffer {
	const copy = Buffer.from(data);
	copy.writeUInt8(copy.readUInt8(at) ^ 0x40, at);
	return copy;
}

function miscompare(offset: number): Buffer {
	return fixedSense(0xe, 0x1d00, { information: offset });
}

function unchanged(h: Harness): void {
	assert(h.disk.bytes.equals(stamped(BLOCKS)));
}

interface Form {
	readonly size: 10 | 12 | 16;
	readonly lengthByte: number;
	readonly verify: number;
	readonly write: number;
}

const FORMS: readonly Form[] = [
	{ size: 10, lengthByte: 7, verify: 0x2f, write: 0x2e },
	{ size: 12, lengthByte: 6, verify: 0xaf, write: 0xae },
	{ size: 16, lengthByte: 10, verify: 0x8f, write: 0x8e },
];

const BYTCHK_DATA = 0x02;
const BYTCHK_RESERVED = 0x04;
const BYTCHK_BLOCK = 0x06;

function verifyCases({ size, verify, lengthByte }: Form): Case[] {
	const cdb = (fields: RangeFields) => rangeCdb(verify, size, fields);
	const cases: Case[] = [
		{
			name: "without BYTCHK reads, in chunks, and takes no data",
			cdb: cdb({ lba: 1, blocks: 6, flags: 0x10 }),
			dataOut: stamped(1),
			residual: 512,
			after: (h) =>
				assert.deepEqual(h.disk.calls, [
					{ op: "read", lba: 1, blocks: 4 },
					{ op: "read", lba: 5, blocks: 2 },
				]),
		},
		{
			name: "without BYTCHK passes over what is not mapped",
			before: (h) => {
				h.disk.mapped.fill(0, 0, 10);
				h.disk.mapped.fill(0, 11, BLOCKS);
			},
			cdb: cdb({ lba: 2, blocks: BLOCKS - 2 }),
			after: (h) =>
				assert.deepEqual(h.disk.calls, [{ op: "read", lba: 10, blocks: 1 }]),
		},
		{
			name: "of a block that cannot be read",
			before: (h) => h.disk.fail({ op: "read", errno: "EIO", lba: 3 }),
			cdb: cdb({ lba: 0, blocks: 4 }),
			sense: fixedSense(3, 0x1100),
		},
		{
			name: "compares",
			cdb: cdb({ lba: 3, blocks: 9, flags: BYTCHK_DATA }),
			dataOut: part(3, 9),
		},
		{
			name: "tells the first byte that differs",
			cdb: cdb({ lba: 3, blocks: 9, flags: BYTCHK_DATA }),
			dataOut: changed(changed(part(3, 9), 2500), 4000),
			sense: miscompare(2500),
			// What comes after the chunk that differs is not looked at.
			residual: 512,
		},
		{
			name: "compares zeroes with what is not mapped",
			before: (h) => h.disk.unmap(3, 2),
			cdb: cdb({ lba: 3, blocks: 2, flags: BYTCHK_DATA }),
			dataOut: Buffer.alloc(1024),
		},
		{
			name: "compares with one block",
			before: (h) => {
				for (let lba = 3; lba < 12; lba++)
					h.disk.bytes.set(stamped(1, 5), lba * 512);
			},
			cdb: cdb({ lba: 3, blocks: 9, flags: BYTCHK_BLOCK }),
			dataOut: stamped(1, 5),
		},
		{
			name: "tells the first byte that differs from one block",
			before: (h) => {
				for (let lba = 3; lba < 12; lba++)
					h.disk.bytes.set(stamped(1, 5), lba * 512);
				h.disk.bytes.writeUInt8(0, (3 + 6) * 512 + 17);
			},
			cdb: cdb({ lba: 3, blocks: 9, flags: BYTCHK_BLOCK }),
			dataOut: stamped(1, 5),
			sense: miscompare(6 * 512 + 17),
		},
		{
			name: "with BYTCHK 10b",
			cdb: cdb({ blocks: 1, flags: BYTCHK_RESERVED }),
			dataOut: part(0, 1),
			sense: badCdb(1, 2),
			residual: 512,
		},
		{
			name: "with VRPROTECT",
			cdb: cdb({ blocks: 1, flags: 0x40 }),
			sense: badCdb(1, 6),
		},
		{
			name: "with a reserved bit",
			cdb: cdb({ blocks: 1, flags: 0x08 }),
			sense: badCdb(1, 3),
		},
		{
			name: "of no blocks",
			cdb: cdb({ lba: 5, flags: BYTCHK_DATA }),
			after: (h) => assert.deepEqual(h.disk.calls, []),
		},
		{
			name: "of no blocks beyond the end",
			cdb: cdb({ lba: BLOCKS + 1, flags: BYTCHK_DATA }),
			sense: badLba(BLOCKS + 1),
		},
		{
			name: "across the end",
			cdb: cdb({ lba: BLOCKS - 1, blocks: 2 }),
			sense: badLba(BLOCKS),
		},
		{
			name: "of more data than there is",
			cdb: cdb({ blocks: 2, flags: BYTCHK_DATA }),
			dataOut: part(0, 1),
			overrun: true,
		},
		{
			name: "of less than one block where one is wanted",
			cdb: cdb({ blocks: 2, flags: BYTCHK_BLOCK }),
			dataOut: part(0, 1).subarray(1),
			overrun: true,
		},
		{
			name: "of more data than the maximum transfer length",
			disk: { blocks: 10000 },
			cdb: cdb({ blocks: 8193, flags: BYTCHK_DATA }),
			sense: badCdb(lengthByte),
		},
		{
			name: "of more blocks than the maximum transfer length, without data",
			disk: { blocks: 10000 },
			cdb: cdb({ blocks: 10000 }),
		},
	];
	return cases.map((one) => ({
		disk: DISK,
		...one,
		name: `VERIFY (${size}) ${one.name}`,
		async before(h) {
			if (h.disk.numBlocks === BLOCKS) fill(h);
			await one.before?.(h);
			h.disk.calls.length = 0;
		},
	}));
}

function writeAndVerifyCases({ size, write, lengthByte }: Form): Case[] {
	const cdb = (fields: RangeFields) => rangeCdb(write, size, fields);
	const name = `WRITE AND VERIFY (${size})`;
	const data = stamped(6, 3);
	return [
		{
			name: `${name} writes to the medium and reads back`,
			disk: DISK,
			cdb: cdb({ lba: 2, blocks: 6, flags: 0x12 }),
			dataOut: data,
			after: (h) => {
				assert(h.disk.stable.subarray(1024, 8 * 512).equals(data));
				assert.deepEqual(
					h.disk.calls.map(({ op }) => op),
					["write", "read", "write", "read"],
				);
			},
		},
		{
			name: `${name} finds what reads back otherwise`,
			disk: DISK,
			before: ({ disk }) => {
				const { read } = disk;
				disk.read = async (lba, blocks) =>
					changed(await read(lba, blocks), 100);
			},
			cdb: cdb({ lba: 2, blocks: 6, flags: BYTCHK_DATA }),
			dataOut: data,
			sense: miscompare(100),
			residual: 1024,
		},
		{
			name: `${name} without BYTCHK only has to read`,
			disk: DISK,
			before: ({ disk }) => {
				const { read } = disk;
				disk.read = async (lba, blocks) =>
					changed(await read(lba, blocks), 100);
			},
			cdb: cdb({ lba: 2, blocks: 6 }),
			dataOut: data,
		},
		{
			name: `${name} that cannot be read back`,
			disk: DISK,
			before: (h) => h.disk.fail({ op: "read", errno: "EIO" }),
			cdb: cdb({ lba: 2, blocks: 4 }),
			dataOut: data,
			sense: fixedSense(3, 0x1100),
			residual: 1024,
		},
		{
			name: `${name} with BYTCHK 10b`,
			cdb: cdb({ blocks: 1, flags: BYTCHK_RESERVED }),
			sense: badCdb(1, 2),
		},
		{
			name: `${name} with WRPROTECT`,
			cdb: cdb({ blocks: 1, flags: 0x20 }),
			sense: badCdb(1, 5),
		},
		{
			name: `${name} across the end writes nothing`,
			disk: DISK,
			cdb: cdb({ lba: BLOCKS - 5, blocks: 6 }),
			dataOut: data,
			sense: badLba(BLOCKS),
			residual: data.length,
			after: (h) => assert.deepEqual(h.disk.calls, []),
		},
		{
			name: `${name} of more than there is`,
			disk: DISK,
			cdb: cdb({ blocks: 7 }),
			dataOut: data,
			overrun: true,
			after: (h) => assert.deepEqual(h.disk.calls, []),
		},
		{
			name: `${name} of no blocks`,
			disk: DISK,
			cdb: cdb({ lba: 3 }),
			after: (h) => assert.deepEqual(h.disk.calls, []),
		},
		{
			name: `${name} of more than the maximum transfer length`,
			disk: { blocks: 10000 },
			cdb: cdb({ blocks: 8193 }),
			sense: badCdb(lengthByte),
		},
	];
}

testCases(
	FORMS.flatMap((form) => [...verifyCases(form), ...writeAndVerifyCases(form)]),
);

function compareAndWrite(
	lba: number | bigint,
	count: number,
	fields: RangeFields = {},
): Buffer {
	const cdb = rangeCdb(0x89, 16, { ...fields, lba });
	cdb[13] = count;
	return cdb;
}

const NEW = stamped(6, 77);

testCases(
	[
		{
			name: "writes if it finds what it should, with nothing in between",
			cdb: compareAndWrite(2, 6),
			dataOut: Buffer.concat([part(2, 6), NEW]),
			after: (h: Harness) => {
				assert(h.disk.bytes.subarray(2 * 512, 8 * 512).equals(NEW));
				assert.deepEqual(
					h.disk.calls.map(({ op, durable }) => [op, durable]),
					[
						["exclusive", undefined],
						["read", undefined],
						["read", undefined],
						["write", false],
						["write", false],
						["end", undefined],
					],
				);
			},
		},
		{
			name: "with FUA is durable",
			cdb: compareAndWrite(2, 6, { flags: 0x18 }),
			dataOut: Buffer.concat([part(2, 6), NEW]),
			after: (h: Harness) =>
				assert(h.disk.stable.subarray(2 * 512, 8 * 512).equals(NEW)),
		},
		{
			name: "writes nothing if one byte differs, and tells which",
			cdb: compareAndWrite(2, 6),
			dataOut: Buffer.concat([changed(part(2, 6), 3071), NEW]),
			sense: miscompare(3071),
			residual: NEW.length,
			after: unchanged,
		},
		{
			name: "tells that the first byte differs",
			cdb: compareAndWrite(2, 1),
			dataOut: Buffer.concat([changed(part(2, 1), 0), NEW.subarray(0, 512)]),
			sense: miscompare(0),
			residual: 512,
			after: unchanged,
		},
		{
			name: "of no blocks",
			cdb: compareAndWrite(2, 0),
			after: unchanged,
		},
		{
			name: "of no blocks beyond the end",
			cdb: compareAndWrite(BLOCKS + 1, 0),
			sense: badLba(BLOCKS + 1),
		},
		{
			name: "across the end",
			cdb: compareAndWrite(BLOCKS - 1, 2),
			dataOut: Buffer.alloc(2048),
			sense: badLba(BLOCKS),
			residual: 2048,
		},
		{
			name: "with half of the data",
			cdb: compareAndWrite(2, 2),
			dataOut: part(2, 2),
			overrun: true as const,
			after: unchanged,
		},
		{
			name: "of more than the maximum compare and write length",
			disk: { blocks: 64, blockSize: 8192 },
			cdb: compareAndWrite(0, 129),
			sense: badCdb(13),
		},
		{
			name: "with a number of blocks in what is reserved",
			cdb: rangeCdb(0x89, 16, { blocks: 0x101 }),
			sense: badCdb(12, 0),
		},
		{
			name: "with WRPROTECT",
			cdb: compareAndWrite(0, 1, { flags: 0x20 }),
			sense: badCdb(1, 5),
		},
		{
			name: "of a block that cannot be read",
			before: (h: Harness) =>
				h.disk.fail({ op: "read", errno: "EIO" as const }),
			cdb: compareAndWrite(0, 1),
			dataOut: Buffer.alloc(1024),
			sense: fixedSense(3, 0x1100),
			residual: 1024,
		},
	].map((one) => ({
		disk: DISK,
		...one,
		name: `COMPARE AND WRITE ${one.name}`,
		before(h: Harness) {
			if (h.disk.numBlocks === BLOCKS && h.disk.blockSize === 512) fill(h);
			one.before?.(h);
		},
	})),
);

function ored(lba: number, mask: Buffer): Buffer {
	const before = part(lba, mask.length / 512);
	return Buffer.from(mask.map((byte, at) => byte | before.readUInt8(at)));
}

const MASK = stamped(6, 200);

testCases(
	[
		{
			name: "sets bits, with nothing in between",
			cdb: rangeCdb(0x8b, 16, { lba: 4, blocks: 6 }),
			dataOut: MASK,
			after: (h: Harness) => {
				assert(h.disk.bytes.subarray(2048, 2048 + 3072).equals(ored(4, MASK)));
				assert(h.disk.stable.every((byte) => byte === 0));
				assert.deepEqual(
					h.disk.calls.map(({ op }) => op),
					["exclusive", "read", "write", "read", "write", "end"],
				);
			},
		},
		{
			name: "with DPO and FUA is durable",
			cdb: rangeCdb(0x8b, 16, { lba: 4, blocks: 6, flags: 0x18 }),
			dataOut: MASK,
			after: (h: Harness) =>
				assert(h.disk.stable.subarray(2048, 2048 + 3072).equals(ored(4, MASK))),
		},
		{
			name: "of no blocks",
			cdb: rangeCdb(0x8b, 16, { lba: BLOCKS }),
			after: unchanged,
		},
		{
			name: "of no blocks beyond the end",
			cdb: rangeCdb(0x8b, 16, { lba: 0x8000000000000000n }),
			sense: fixedSense(5, 0x2100),
		},
		{
			name: "across the end",
			cdb: rangeCdb(0x8b, 16, { lba: BLOCKS - 5, blocks: 6 }),
			dataOut: MASK,
			sense: badLba(BLOCKS),
			residual: MASK.length,
			after: unchanged,
		},
		{
			name: "of more than there is",
			cdb: rangeCdb(0x8b, 16, { blocks: 7 }),
			dataOut: MASK,
			overrun: true as const,
			after: unchanged,
		},
		{
			name: "of more than the maximum transfer length",
			disk: { blocks: 10000 },
			cdb: rangeCdb(0x8b, 16, { blocks: 8193 }),
			sense: badCdb(10),
		},
		{
			name: "with WRPROTECT",
			cdb: rangeCdb(0x8b, 16, { blocks: 1, flags: 0xe0 }),
			sense: badCdb(1, 7),
		},
	].map((one) => ({
		disk: DISK,
		...one,
		name: `ORWRITE (16) ${one.name}`,
		before(h: Harness) {
			if (h.disk.numBlocks === BLOCKS) fill(h);
		},
	})),
);

test("COMPARE AND WRITE lets one of many at a time have its way", async () => {
	const h = harness({ disk: { blocks: 4 }, nexuses: 8 });
	const block = (value: number) => Buffer.alloc(512, value);
	const answers = await Promise.all(
		Array.from({ length: 8 }, (_, n) =>
			h.send(n, compareAndWrite(0, 1), {
				dataOut: Buffer.concat([block(0), block(n + 1)]),
			}),
		),
	);
	const won = answers.findIndex(({ status }) => status === 0);
	assert.equal(answers.filter(({ status }) => status === 0).length, 1);
	assert(h.disk.bytes.subarray(0, 512).equals(block(won + 1)));
	for (const { status, sense } of answers)
		if (status) assert.deepEqual(sense, miscompare(0));
});

test("without a write cache all writes are durable", async () => {
	const h = harness({ disk: DISK });
	await writeThrough(h);
	await expectAnswer(h, {
		cdb: compareAndWrite(0, 1),
		dataOut: Buffer.concat([Buffer.alloc(512), stamped(1)]),
	});
	await expectAnswer(h, {
		cdb: rangeCdb(0x8b, 16, { lba: 1, blocks: 1 }),
		dataOut: stamped(1),
	});
	await expectAnswer(h, {
		cdb: rangeCdb(0x2a, 10, { lba: 2, blocks: 1 }),
		dataOut: stamped(1),
	});
	assert(
		h.disk.stable.subarray(0, 1536).equals(h.disk.bytes.subarray(0, 1536)),
	);
	assert(h.disk.stable.subarray(1024, 1536).equals(stamped(1)));
});
