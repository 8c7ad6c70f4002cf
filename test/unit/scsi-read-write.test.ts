// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Harness } from "../support/scsi.ts";
import {
	badCdb,
	badLba,
	type Case,
	fixedSense,
	rangeCdb,
	stamped,
	testCases,
} from "../support/scsi-cases.ts";

const BLOCKS = 1024;
const NO_OPCODE = fixedSense(5, 0x2000);

interface Form {
	readonly size: 10 | 12 | 16;
	readonly lengthByte: number;
	readonly read: number;
	readonly write: number;
}

const FORMS: readonly Form[] = [
	{ size: 10, lengthByte: 7, read: 0x28, write: 0x2a },
	{ size: 12, lengthByte: 6, read: 0xa8, write: 0xaa },
	{ size: 16, lengthByte: 10, read: 0x88, write: 0x8a },
];

function fill(h: Harness): void {
	h.disk.bytes.set(stamped(BLOCKS));
}

function part(lba: number, blocks: number): Buffer {
	return stamped(BLOCKS).subarray(lba * 512, (lba + blocks) * 512);
}

function unwritten(h: Harness): void {
	assert.deepEqual(h.disk.calls, []);
}

function readCases({ size, read, lengthByte }: Form): Case[] {
	const cdb = (fields: Parameters<typeof rangeCdb>[2]) =>
		rangeCdb(read, size, fields);
	const name = `READ (${size})`;
	return [
		{
			name: `${name} returns the blocks`,
			before: fill,
			cdb: cdb({ lba: 3, blocks: 2 }),
			room: 1024,
			data: part(3, 2),
		},
		{
			name: `${name} of the last block`,
			before: fill,
			cdb: cdb({ lba: BLOCKS - 1, blocks: 1 }),
			room: 512,
			data: part(BLOCKS - 1, 1),
		},
		{
			name: `${name} leaves a residual in a buffer that is larger`,
			before: fill,
			cdb: cdb({ lba: 0, blocks: 1 }),
			room: 2000,
			data: part(0, 1),
			residual: 2000 - 512,
		},
		{
			name: `${name} overruns a buffer that is shorter, and reads nothing`,
			cdb: cdb({ lba: 0, blocks: 2 }),
			room: 1023,
			overrun: true,
			after: unwritten,
		},
		{
			name: `${name} of no blocks`,
			cdb: cdb({ lba: BLOCKS }),
			room: 512,
			residual: 512,
			after: unwritten,
		},
		{
			name: `${name} of no blocks beyond the end`,
			cdb: cdb({ lba: BLOCKS + 1 }),
			sense: badLba(BLOCKS + 1),
		},
		{
			name: `${name} across the end`,
			cdb: cdb({ lba: BLOCKS - 1, blocks: 2 }),
			room: 1024,
			sense: badLba(BLOCKS),
			residual: 1024,
		},
		{
			name: `${name} far beyond the end`,
			cdb: cdb({ lba: 0xffffffff, blocks: 1 }),
			room: 512,
			sense: badLba(0xffffffff),
			residual: 512,
		},
		{
			name: `${name} of more than the maximum transfer length`,
			cdb: cdb({ lba: 0, blocks: 8193 }),
			disk: { blocks: 20000 },
			room: 512,
			sense: badCdb(lengthByte),
			residual: 512,
		},
		{
			name: `${name} with RDPROTECT`,
			cdb: cdb({ blocks: 1, flags: 0x20 }),
			room: 512,
			sense: badCdb(1, 5),
			residual: 512,
		},
		{
			name: `${name} with FUA_NV, which is obsolete`,
			cdb: cdb({ blocks: 1, flags: 0x02 }),
			sense: badCdb(1, 1),
		},
		{
			name: `${name} with a reserved bit`,
			cdb: cdb({ blocks: 1, flags: 0x04 }),
			sense: badCdb(1, 2),
		},
		{
			name: `${name} with NACA`,
			cdb: cdb({ blocks: 1, control: 0x04 }),
			sense: badCdb(size - 1, 2),
		},
		{
			name: `${name} with a reserved bit beside the group number`,
			cdb: cdb({ blocks: 1, group: 0x20 }),
			sense: badCdb({ 10: 6, 12: 10, 16: 14 }[size], 5),
		},
		{
			name: `${name} with DPO and a group number`,
			before: fill,
			cdb: cdb({ blocks: 1, flags: 0x10, group: 0x1f }),
			room: 512,
			data: part(0, 1),
			after: (h) =>
				assert.deepEqual(h.disk.calls, [{ op: "read", lba: 0, blocks: 1 }]),
		},
		{
			name: `${name} with FUA empties the cache first`,
			before: fill,
			cdb: cdb({ blocks: 1, flags: 0x08 }),
			room: 512,
			data: part(0, 1),
			after: (h) =>
				assert.deepEqual(
					h.disk.calls.map(({ op }) => op),
					["flush", "read"],
				),
		},
		{
			name: `${name} with FUA where there is no cache`,
			disk: { supports: { flush: false } },
			cdb: cdb({ blocks: 1, flags: 0x08 }),
			room: 512,
			data: Buffer.alloc(512),
		},
		{
			name: `${name} of a block that cannot be read`,
			before: (h) => h.disk.fail({ op: "read", errno: "EIO", lba: 1 }),
			cdb: cdb({ blocks: 2 }),
			room: 1024,
			sense: fixedSense(3, 0x1100),
			residual: 1024,
		},
	];
}

function writeCases({ size, write, lengthByte }: Form): Case[] {
	const cdb = (fields: Parameters<typeof rangeCdb>[2]) =>
		rangeCdb(write, size, fields);
	const name = `WRITE (${size})`;
	const data = stamped(2, 9);
	return [
		{
			name: `${name} writes the blocks, to the cache`,
			cdb: cdb({ lba: 5, blocks: 2 }),
			dataOut: data,
			after: (h) => {
				assert(h.disk.bytes.subarray(5 * 512, 7 * 512).equals(data));
				assert(h.disk.stable.every((byte) => byte === 0));
			},
		},
		{
			name: `${name} with FUA writes to the medium`,
			cdb: cdb({ lba: 5, blocks: 2, flags: 0x18 }),
			dataOut: data,
			after: (h) =>
				assert(h.disk.stable.subarray(5 * 512, 7 * 512).equals(data)),
		},
		{
			name: `${name} of less than there is`,
			cdb: cdb({ lba: 0, blocks: 1 }),
			dataOut: data,
			residual: 512,
		},
		{
			name: `${name} of more than there is`,
			cdb: cdb({ lba: 0, blocks: 3 }),
			dataOut: data,
			overrun: true,
			after: unwritten,
		},
		{
			name: `${name} of no blocks`,
			cdb: cdb({ lba: 0 }),
			after: unwritten,
		},
		{
			name: `${name} of no blocks beyond the end`,
			cdb: cdb({ lba: BLOCKS + 1 }),
			sense: badLba(BLOCKS + 1),
		},
		{
			name: `${name} across the end writes nothing`,
			cdb: cdb({ lba: BLOCKS - 1, blocks: 2 }),
			dataOut: data,
			sense: badLba(BLOCKS),
			residual: 1024,
			after: unwritten,
		},
		{
			name: `${name} of more than the maximum transfer length`,
			cdb: cdb({ lba: 0, blocks: 8193 }),
			disk: { blocks: 20000 },
			sense: badCdb(lengthByte),
			after: unwritten,
		},
		{
			name: `${name} with WRPROTECT`,
			cdb: cdb({ blocks: 1, flags: 0x80 }),
			dataOut: data,
			sense: badCdb(1, 7),
			residual: 1024,
			after: unwritten,
		},
		{
			name: `${name} on a disk that is read-only`,
			disk: { readonly: true },
			cdb: cdb({ blocks: 1 }),
			dataOut: data,
			sense: fixedSense(7, 0x2700),
			residual: 1024,
			after: unwritten,
		},
		{
			name: `${name} that finds no space`,
			before: (h) => h.disk.fail({ op: "write", errno: "ENOSPC" }),
			cdb: cdb({ blocks: 2 }),
			dataOut: data,
			sense: fixedSense(7, 0x2707),
		},
	];
}

testCases(FORMS.flatMap((form) => [...readCases(form), ...writeCases(form)]));

testCases([
	{
		name: "READ (6) has an address of 21 bits",
		disk: { blocks: 0x10203 + 2 },
		before: (h) => {
			h.disk.bytes.fill(0x5a, 0x10203 * 512, 0x10204 * 512);
		},
		cdb: [0x08, 0x01, 0x02, 0x03, 1, 0],
		room: 512,
		data: Buffer.alloc(512, 0x5a),
	},
	{
		name: "READ (6) of 0 blocks is one of 256",
		before: fill,
		cdb: [0x08, 0, 0, 0, 0, 0],
		room: 256 * 512,
		data: part(0, 256),
	},
	{
		name: "READ (6) with a bit of what was the LUN once",
		cdb: [0x08, 0x20, 0, 0, 1, 0],
		room: 512,
		sense: badCdb(1, 5),
		residual: 512,
	},
	{
		name: "READ (6) of 0 blocks across the end",
		disk: { blocks: 255 },
		cdb: [0x08, 0, 0, 0, 0, 0],
		room: 256 * 512,
		sense: badLba(255),
		residual: 256 * 512,
	},
	{
		name: "WRITE (6) of 0 blocks is one of 256",
		cdb: [0x0a, 0, 0, 1, 0, 0],
		dataOut: stamped(256),
		after: (h) =>
			assert(h.disk.bytes.subarray(512, 257 * 512).equals(stamped(256))),
	},
	{
		name: "WRITE (6) with reserved bits",
		cdb: [0x0a, 0xe0, 0, 0, 1, 0],
		dataOut: stamped(1),
		sense: badCdb(1, 7),
		residual: 512,
	},
	{
		name: "READ (16) of an address of 64 bits",
		cdb: rangeCdb(0x88, 16, { lba: 0xfffffffffffffffen, blocks: 4 }),
		room: 2048,
		// INFORMATION has 32 bits in this format: it is left out.
		sense: fixedSense(5, 0x2100),
		residual: 2048,
	},
	{
		name: "READ (16) of 2^31 blocks and more does not wrap",
		cdb: rangeCdb(0x88, 16, { lba: 1, blocks: 0xffffffff }),
		room: 512,
		sense: badCdb(10),
		residual: 512,
	},
	{
		name: "READ (32) is not there",
		cdb: [0x7f, ...new Array(31).fill(0)],
		sense: NO_OPCODE,
	},
	{
		name: "WRITE ATOMIC (16) is not there: no backend promises it",
		cdb: rangeCdb(0x9c, 16, { blocks: 1 }),
		dataOut: stamped(1),
		sense: NO_OPCODE,
		residual: 512,
	},
]);
