// SPDX-License-Identifier: MIT
// UNMAP and GET LBA STATUS.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { type Harness, harness } from "../support/scsi.ts";
import {
	badCdb,
	badLba,
	badList,
	type Case,
	expectAnswer,
	fixedSense,
	LIST_LENGTH_ERROR,
	rangeCdb,
	stamped,
	testCases,
	writeThrough,
} from "../support/scsi-cases.ts";

const BLOCKS = 64;
const DISK = { blocks: BLOCKS, maxBlocks: 4 };

function fill(h: Harness): void {
	h.disk.bytes.set(stamped(BLOCKS));
}

function untouched(h: Harness): void {
	assert.deepEqual(h.disk.calls, []);
}

type Range = readonly [lba: number | bigint, blocks: number];

function unmapList(ranges: readonly Range[]): Buffer {
	const list = Buffer.alloc(8 + 16 * ranges.length);
	list.writeUInt16BE(list.length - 2, 0);
	list.writeUInt16BE(list.length - 8, 2);
	for (const [index, [lba, blocks]] of ranges.entries()) {
		list.writeBigUInt64BE(BigInt(lba), 8 + 16 * index);
		list.writeUInt32BE(blocks, 8 + 16 * index + 8);
	}
	return list;
}

function unmapCdb(length: number, flags = 0): number[] {
	return [0x42, flags, 0, 0, 0, 0, 0, length >> 8, length & 0xff, 0];
}

function unmapCase(
	name: string,
	ranges: readonly Range[],
	rest: Partial<Case> = {},
): Case {
	const dataOut = unmapList(ranges);
	return { name, disk: DISK, cdb: unmapCdb(dataOut.length), dataOut, ...rest };
}

/** Says other lengths than the list has. */
function withLengths(list: Buffer, data: number, descriptors: number): Buffer {
	const copy = Buffer.from(list);
	copy.writeUInt16BE(data, 0);
	copy.writeUInt16BE(descriptors, 2);
	return copy;
}

function unmapped(h: Harness): number[] {
	return [...h.disk.mapped.keys()].filter((lba) => h.disk.mapped[lba] === 0);
}

const TWO: readonly Range[] = [
	[2, 3],
	[60, 4],
];
const ALL_OF_TWO = [2, 3, 4, 60, 61, 62, 63];

testCases([
	unmapCase("UNMAP unmaps all ranges", TWO, {
		before: fill,
		after: (h) => {
			assert.deepEqual(unmapped(h), ALL_OF_TWO);
			assert(h.disk.bytes.subarray(1024, 5 * 512).every((byte) => byte === 0));
			assert.equal(h.disk.calls.length, 2);
		},
	}),
	unmapCase("UNMAP of no blocks, also right behind the end", [
		[0, 0],
		[BLOCKS, 0],
	]),
	unmapCase("UNMAP of ranges that overlap", [
		[1, 3],
		[2, 3],
	]),
	unmapCase("UNMAP without descriptors", []),
	{ name: "UNMAP without a parameter list", cdb: unmapCdb(0) },
	{
		name: "UNMAP without a parameter list but with data",
		cdb: unmapCdb(0),
		dataOut: Buffer.alloc(24),
		residual: 24,
	},
	{
		name: "UNMAP with half a header",
		cdb: unmapCdb(7),
		dataOut: Buffer.alloc(7),
		sense: LIST_LENGTH_ERROR,
	},
	unmapCase("UNMAP of a list that is longer than data-out", TWO, {
		cdb: unmapCdb(41),
		overrun: true,
		after: untouched,
	}),
	unmapCase("UNMAP does not count a descriptor that is cut off", TWO, {
		cdb: unmapCdb(39),
		residual: 1,
		after: (h) => assert.deepEqual(unmapped(h), [2, 3, 4]),
	}),
	unmapCase("UNMAP of as many descriptors as their length says", TWO, {
		dataOut: withLengths(unmapList(TWO), 38, 31),
		after: (h) => assert.deepEqual(unmapped(h), [2, 3, 4]),
	}),
	unmapCase("UNMAP of as many descriptors as the data length says", TWO, {
		dataOut: withLengths(unmapList(TWO), 22, 32),
		after: (h) => assert.deepEqual(unmapped(h), [2, 3, 4]),
	}),
	unmapCase(
		"UNMAP checks all ranges before it unmaps one",
		[
			[0, 1],
			[63, 2],
		],
		{ sense: badLba(BLOCKS), after: untouched },
	),
	unmapCase(
		"UNMAP of an address of 64 bits",
		[[0xffffffffffffffffn, 0xffffffff]],
		{ sense: badList(16), after: untouched },
	),
	unmapCase("UNMAP far beyond the end", [[0xffffffffffffffffn, 1]], {
		sense: fixedSense(5, 0x2100),
		after: untouched,
	}),
	unmapCase(
		"UNMAP of as many descriptors as there may be",
		Array.from({ length: 256 }, (_, lba) => [lba % BLOCKS, 1] as const),
		{ after: (h) => assert.equal(unmapped(h).length, BLOCKS) },
	),
	unmapCase(
		"UNMAP of one descriptor too many",
		Array.from({ length: 257 }, () => [0, 1] as const),
		{ sense: badList(2), after: untouched },
	),
	unmapCase(
		"UNMAP of more blocks than there may be, all together",
		[
			[0, 131072],
			[0, 1],
		],
		{ disk: { blocks: 131073 }, sense: badList(32), after: untouched },
	),
	unmapCase(
		"UNMAP of as many blocks as there may be",
		[
			[0, 131071],
			[5, 1],
		],
		{ disk: { blocks: 131073 } },
	),
	{
		name: "UNMAP with ANCHOR",
		cdb: unmapCdb(8, 1),
		dataOut: unmapList([]),
		sense: badCdb(1, 0),
		residual: 8,
	},
	{
		name: "UNMAP with a reserved byte",
		cdb: [0x42, 0, 0x80, 0, 0, 0, 0, 0, 8, 0],
		sense: badCdb(2, 7),
	},
	{
		name: "UNMAP with a group number",
		cdb: [0x42, 0, 0, 0, 0, 0, 0x1f, 0, 0, 0],
	},
	unmapCase("UNMAP where nothing is ever unmapped", TWO, {
		disk: { ...DISK, supports: { unmap: false } },
		sense: fixedSense(5, 0x2000),
		residual: 40,
	}),
	unmapCase("UNMAP that fails", TWO, {
		before: (h) => h.disk.fail({ op: "unmap", errno: "EIO", lba: 61 }),
		sense: fixedSense(3, 0x0c00),
		after: (h) => assert.deepEqual(unmapped(h), [2, 3, 4]),
	}),
	unmapCase("UNMAP of a disk that is read-only", TWO, {
		disk: { ...DISK, readonly: true },
		sense: fixedSense(7, 0x2700),
		residual: 40,
	}),
]);

test("without a write cache what is unmapped or zeroed is durable", async () => {
	const h = harness({ disk: DISK });
	await writeThrough(h);
	h.disk.stable.fill(1);
	const dataOut = unmapList([[0, 4]]);
	await expectAnswer(h, { cdb: unmapCdb(dataOut.length), dataOut });
	const cdb = rangeCdb(0x93, 16, { lba: 4, blocks: 4, flags: 0x01 });
	await expectAnswer(h, { cdb });
	await expectAnswer(h, {
		cdb: rangeCdb(0x41, 10, { lba: 8, blocks: 8 }),
		dataOut: stamped(1, 50),
	});
	assert(h.disk.stable.equals(h.disk.bytes));
});

type Status = readonly [lba: number, blocks: number, status: 0 | 1];

function lbaStatus(list: readonly Status[]): Buffer {
	const data = Buffer.alloc(8 + 16 * list.length);
	data.writeUInt32BE(data.length - 4, 0);
	for (const [index, [lba, blocks, status]] of list.entries()) {
		data.writeBigUInt64BE(BigInt(lba), 8 + 16 * index);
		data.writeUInt32BE(blocks, 8 + 16 * index + 8);
		data[8 + 16 * index + 12] = status;
	}
	return data;
}

function statusCdb(lba: number | bigint, allocation: number): Buffer {
	return rangeCdb(0x9e, 16, { flags: 0x12, lba, blocks: allocation });
}

function holes(h: Harness): void {
	h.disk.mapped.fill(0, 10, 20);
	h.disk.mapped.fill(0, 30, 31);
}

const FROM_5: readonly Status[] = [
	[5, 5, 0],
	[10, 10, 1],
	[20, 10, 0],
	[30, 1, 1],
	[31, 33, 0],
];

testCases([
	{
		name: "GET LBA STATUS tells all runs from an address on",
		disk: DISK,
		before: holes,
		cdb: statusCdb(5, 1000),
		room: 1000,
		data: lbaStatus(FROM_5),
		residual: 1000 - 88,
	},
	{
		name: "GET LBA STATUS tells as many runs as there is room for",
		disk: DISK,
		before: holes,
		cdb: statusCdb(5, 8 + 32 + 15),
		room: 8 + 32 + 15,
		data: lbaStatus(FROM_5.slice(0, 2)),
		residual: 15,
	},
	{
		name: "GET LBA STATUS with room for one run",
		disk: DISK,
		before: holes,
		cdb: statusCdb(15, 24),
		room: 24,
		data: lbaStatus([[15, 5, 1]]),
	},
	{
		name: "GET LBA STATUS cuts a run to a short allocation length",
		disk: DISK,
		cdb: statusCdb(0, 10),
		room: 20,
		data: lbaStatus([[0, BLOCKS, 0]]).subarray(0, 10),
		residual: 10,
	},
	{
		name: "GET LBA STATUS without an allocation length",
		disk: DISK,
		cdb: statusCdb(0, 0),
	},
	{
		name: "GET LBA STATUS with an allocation length that is not there",
		disk: DISK,
		cdb: statusCdb(0, 25),
		room: 24,
		overrun: true,
	},
	{
		name: "GET LBA STATUS makes one run of pieces that are alike",
		disk: DISK,
		before: ({ disk }) => {
			disk.extent = (lba) => ({
				blocks: Math.min(2 - (lba % 2), BLOCKS - lba),
				mapped: lba < 40,
			});
		},
		cdb: statusCdb(1, 100),
		room: 100,
		data: lbaStatus([
			[1, 39, 0],
			[40, 24, 1],
		]),
		residual: 100 - 40,
	},
	{
		name: "GET LBA STATUS splits a run that has too many blocks for a descriptor",
		disk: DISK,
		before: ({ disk }) => {
			disk.numBlocks = 2 ** 32 + 10;
			disk.extent = (lba) => ({ blocks: 2 ** 32 + 10 - lba, mapped: true });
		},
		cdb: statusCdb(3, 100),
		room: 100,
		data: lbaStatus([
			[3, 2 ** 32 - 1, 0],
			[2 ** 32 + 2, 8, 0],
		]),
		residual: 60,
	},
	{
		name: "GET LBA STATUS of the last block",
		disk: DISK,
		cdb: statusCdb(BLOCKS - 1, 24),
		room: 24,
		data: lbaStatus([[BLOCKS - 1, 1, 0]]),
	},
	{
		name: "GET LBA STATUS right behind the end",
		disk: DISK,
		cdb: statusCdb(BLOCKS, 24),
		room: 24,
		sense: badLba(BLOCKS),
		residual: 24,
	},
	{
		name: "GET LBA STATUS far beyond the end",
		disk: DISK,
		cdb: statusCdb(0xffffffffffffffffn, 24),
		room: 24,
		sense: fixedSense(5, 0x2100),
		residual: 24,
	},
	{
		name: "GET LBA STATUS with a report type, which SBC-3 does not know",
		cdb: rangeCdb(0x9e, 16, { flags: 0x12, group: 1 }),
		sense: badCdb(14, 0),
	},
	{
		name: "GET LBA STATUS with a reserved bit",
		cdb: rangeCdb(0x9e, 16, { flags: 0x32 }),
		sense: badCdb(1, 5),
	},
]);
