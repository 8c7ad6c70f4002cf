// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Harness } from "../support/scsi.ts";
import {
	badCdb,
	badLba,
	type Case,
	fixedSense,
	type RangeFields,
	rangeCdb,
	stamped,
	testCases,
} from "../support/scsi-cases.ts";

const BLOCKS = 64;
const DISK = { blocks: BLOCKS, maxBlocks: 4 };

function fill(h: Harness): void {
	h.disk.bytes.set(stamped(BLOCKS));
}

function untouched(h: Harness): void {
	assert.deepEqual(h.disk.calls, []);
}

/** All of the disk, with some blocks replaced. */
function expectDisk(h: Harness, lba: number, data: Buffer): void {
	const wanted = stamped(BLOCKS);
	wanted.set(data, lba * 512);
	assert(h.disk.bytes.equals(wanted));
}

function repeat(block: Buffer, count: number): Buffer {
	return Buffer.concat(new Array(count).fill(block));
}

const BLOCK = stamped(1, 50);
const ZERO = Buffer.alloc(512);
const UNMAP = 0x08;
const NDOB = 0x01;

function writeSameCases(
	opcode: number,
	size: 10 | 16,
	lengthByte: number,
): Case[] {
	const cdb = (fields: RangeFields) => rangeCdb(opcode, size, fields);
	const cases: Case[] = [
		{
			name: "writes a block over and over, in chunks",
			cdb: cdb({ lba: 3, blocks: 9 }),
			dataOut: BLOCK,
			after: (h) => {
				expectDisk(h, 3, repeat(BLOCK, 9));
				assert.deepEqual(
					h.disk.calls.map(({ op, blocks }) => [op, blocks]),
					[
						["write", 4],
						["write", 4],
						["write", 1],
					],
				);
			},
		},
		{
			name: "of zeroes leaves them mapped",
			cdb: cdb({ lba: 3, blocks: 9 }),
			dataOut: ZERO,
			after: (h) => {
				expectDisk(h, 3, Buffer.alloc(9 * 512));
				assert(h.disk.mapped.every((one) => one === 1));
				assert(h.disk.calls.every(({ op }) => op === "writeZeroes"));
			},
		},
		{
			name: "of zeroes with UNMAP unmaps them",
			cdb: cdb({ lba: 3, blocks: 9, flags: UNMAP }),
			dataOut: ZERO,
			after: (h) => {
				expectDisk(h, 3, Buffer.alloc(9 * 512));
				assert.equal(h.disk.mapped.indexOf(0), 3);
				assert.equal(h.disk.mapped.lastIndexOf(0), 11);
			},
		},
		{
			name: "with UNMAP, of what unmapped blocks do not read as, writes it",
			cdb: cdb({ lba: 3, blocks: 9, flags: UNMAP }),
			dataOut: BLOCK,
			after: (h) => {
				expectDisk(h, 3, repeat(BLOCK, 9));
				assert(h.disk.mapped.every((one) => one === 1));
			},
		},
		{
			name: "of zeroes where nothing else than a write can make them",
			disk: { ...DISK, supports: { writeZeroes: false, unmap: false } },
			cdb: cdb({ lba: 3, blocks: 9 }),
			dataOut: ZERO,
			after: (h) => expectDisk(h, 3, Buffer.alloc(9 * 512)),
		},
		{
			name: "with UNMAP where nothing is ever unmapped",
			disk: { ...DISK, supports: { unmap: false } },
			cdb: cdb({ blocks: 1, flags: UNMAP }),
			dataOut: ZERO,
			sense: badCdb(1, 3),
			residual: 512,
			after: untouched,
		},
		{
			name: "with ANCHOR",
			cdb: cdb({ blocks: 1, flags: UNMAP | 0x10 }),
			dataOut: ZERO,
			sense: badCdb(1, 4),
			residual: 512,
			after: untouched,
		},
		{
			name: "with ANCHOR alone",
			cdb: cdb({ blocks: 1, flags: 0x10 }),
			sense: badCdb(1, 4),
		},
		{
			name: "with WRPROTECT",
			cdb: cdb({ blocks: 1, flags: 0x20 }),
			sense: badCdb(1, 5),
		},
		{
			name: "with LBDATA, which is obsolete",
			cdb: cdb({ blocks: 1, flags: 0x02 }),
			sense: badCdb(1, 1),
		},
		{
			name: "of no blocks, which would be all",
			cdb: cdb({ blocks: 0 }),
			dataOut: BLOCK,
			sense: badCdb(lengthByte),
			residual: 512,
			after: untouched,
		},
		{
			name: "of more than the maximum write same length",
			disk: { blocks: 40000 },
			cdb: cdb({ blocks: 32769 }),
			dataOut: BLOCK,
			sense: badCdb(lengthByte),
			residual: 512,
			after: untouched,
		},
		{
			name: "across the end",
			cdb: cdb({ lba: BLOCKS - 1, blocks: 2 }),
			dataOut: BLOCK,
			sense: badLba(BLOCKS),
			residual: 512,
			after: untouched,
		},
		{
			name: "of less than a block",
			cdb: cdb({ blocks: 2 }),
			dataOut: BLOCK.subarray(1),
			overrun: true,
			after: untouched,
		},
		{
			name: "of more than a block",
			cdb: cdb({ blocks: 2 }),
			dataOut: Buffer.alloc(1024, 7),
			residual: 512,
		},
		{
			name: "that cannot be written",
			before: (h) => h.disk.fail({ op: "write", errno: "EIO", lba: 9 }),
			cdb: cdb({ lba: 3, blocks: 9 }),
			dataOut: BLOCK,
			sense: fixedSense(3, 0x0c00),
		},
	];
	return cases.map((one) => ({
		disk: DISK,
		...one,
		name: `WRITE SAME (${size}) ${one.name}`,
		async before(h) {
			if (h.disk.numBlocks === BLOCKS) fill(h);
			await one.before?.(h);
		},
	}));
}

testCases([
	...writeSameCases(0x41, 10, 7),
	...writeSameCases(0x93, 16, 10),
	{
		name: "WRITE SAME (10) has no NDOB",
		cdb: rangeCdb(0x41, 10, { blocks: 1, flags: NDOB }),
		sense: badCdb(1, 0),
	},
	{
		name: "WRITE SAME (16) with NDOB takes no data and writes zeroes",
		disk: DISK,
		before: fill,
		cdb: rangeCdb(0x93, 16, { lba: 3, blocks: 9, flags: NDOB }),
		dataOut: BLOCK,
		residual: 512,
		after: (h) => {
			expectDisk(h, 3, Buffer.alloc(9 * 512));
			assert(h.disk.mapped.every((one) => one === 1));
		},
	},
	{
		name: "WRITE SAME (16) with NDOB and UNMAP unmaps",
		disk: DISK,
		before: fill,
		cdb: rangeCdb(0x93, 16, { lba: 3, blocks: 9, flags: NDOB | UNMAP }),
		after: (h) => {
			expectDisk(h, 3, Buffer.alloc(9 * 512));
			assert.equal(h.disk.mapped.indexOf(0), 3);
		},
	},
]);
