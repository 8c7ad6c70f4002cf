// SPDX-License-Identifier: MIT
// Tables of SCSI commands and their answers, compared whole.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import type { ByteDiskOptions } from "./byte-disk.ts";
import { type Harness, harness } from "./scsi.ts";

export interface SenseParts {
	/** INFORMATION. */
	readonly information?: number;
	/** SENSE KEY SPECIFIC, three bytes. */
	readonly specific?: readonly number[];
}

/** Fixed format sense data, put together byte by byte (SPC-4 4.5.3). */
export function fixedSense(
	key: number,
	asc: number,
	{ information, specific }: SenseParts = {},
): Buffer {
	const sense = Buffer.alloc(18);
	sense[0] = information === undefined ? 0x70 : 0xf0;
	sense[2] = key;
	sense.writeUInt32BE(information ?? 0, 3);
	sense[7] = 10;
	sense.writeUInt16BE(asc, 12);
	sense.set(specific ?? [], 15);
	return sense;
}

/** INVALID FIELD IN CDB. */
export function badCdb(byte: number, bit?: number): Buffer {
	const flags = bit === undefined ? 0xc0 : 0xc8 | bit;
	return fixedSense(5, 0x2400, { specific: [flags, 0, byte] });
}

/** INVALID FIELD IN PARAMETER LIST. */
export function badList(byte: number, bit?: number): Buffer {
	const flags = bit === undefined ? 0x80 : 0x88 | bit;
	const specific = [flags, byte >> 8, byte & 0xff];
	return fixedSense(5, 0x2600, { specific });
}

/** LOGICAL BLOCK ADDRESS OUT OF RANGE, with the first address that is. */
export function badLba(information: number): Buffer {
	return fixedSense(5, 0x2100, { information });
}

export const LIST_LENGTH_ERROR = fixedSense(5, 0x1a00);

/** What a command ends with; GOOD, without data and residual, where nothing is said. */
export interface Expected {
	readonly status?: number;
	/** CHECK CONDITION with just this sense data. */
	readonly sense?: Buffer;
	readonly data?: Buffer;
	readonly residual?: number;
	readonly overrun?: true;
}

export interface Case extends Expected {
	readonly name: string;
	readonly cdb: readonly number[] | Buffer;
	readonly dataOut?: Buffer;
	/** Bytes of data-in. */
	readonly room?: number;
	readonly disk?: ByteDiskOptions;
	/** Prepares the disk. */
	readonly before?: (h: Harness) => void | Promise<void>;
	/** Looks at the disk. */
	readonly after?: (h: Harness) => void;
}

/** Makes a test of each case, on a disk of its own. */
export function testCases(cases: readonly Case[]): void {
	for (const one of cases)
		test(one.name, async () => {
			const h = harness(one.disk ? { disk: one.disk } : {});
			await one.before?.(h);
			await expectAnswer(h, one);
			one.after?.(h);
		});
}

/** Sends one command and compares all of its answer. */
export async function expectAnswer(
	h: Harness,
	one: Omit<Case, "name">,
	nexus = 0,
): Promise<void> {
	const { cdb, dataOut, room = 0 } = one;
	const answer = await h.send(nexus, cdb, { dataOut, room });
	const wanted = {
		status: one.status ?? (one.sense ? 2 : 0),
		sense: one.sense?.toString("hex"),
		data: (one.data ?? Buffer.alloc(0)).toString("hex"),
		residual: one.overrun ? answer.residual : (one.residual ?? 0),
		overrun: one.overrun ?? false,
	};
	const found = {
		status: answer.status,
		sense: answer.sense?.toString("hex"),
		data: answer.data.toString("hex"),
		residual: answer.residual,
		overrun: answer.overrun,
	};
	assert.deepEqual(found, wanted);
}

/** Fields of a CDB with an address and a number of blocks. */
export interface RangeFields {
	readonly lba?: number | bigint;
	readonly blocks?: number;
	/** Byte 1. */
	readonly flags?: number;
	readonly group?: number;
	readonly control?: number;
}

/** A CDB of 10, 12 or 16 bytes in the usual layout of block commands. */
export function rangeCdb(
	opcode: number,
	size: 10 | 12 | 16,
	{ lba = 0, blocks = 0, flags = 0, group = 0, control = 0 }: RangeFields = {},
): Buffer {
	const cdb = Buffer.alloc(size);
	cdb[0] = opcode;
	cdb[1] = flags;
	if (size === 16) cdb.writeBigUInt64BE(BigInt(lba), 2);
	else cdb.writeUInt32BE(Number(lba), 2);
	if (size === 10) cdb.writeUInt16BE(blocks, 7);
	else cdb.writeUInt32BE(blocks, size === 12 ? 6 : 10);
	cdb[{ 10: 6, 12: 10, 16: 14 }[size]] = group;
	cdb[size - 1] = control;
	return cdb;
}

/** Blocks whose bytes tell where they are from. */
export function stamped(blocks: number, seed = 1, blockSize = 512): Buffer {
	const data = Buffer.alloc(blocks * blockSize);
	for (let i = 0; i < data.length; i++)
		data[i] = (i * 7 + (i >> 9) * 13 + seed * 31 + 1) & 0xff;
	return data;
}

/** Turns the write cache off, as MODE SELECT does: all writes are durable from then on. */
export async function writeThrough(h: Harness): Promise<void> {
	const { data } = await h.send(0, [0x1a, 0x08, 0x08, 0, 24, 0], { room: 24 });
	const list = Buffer.from(data);
	list.fill(0, 0, 4);
	list.writeUInt8(list.readUInt8(4) & 0x3f, 4);
	list.writeUInt8(list.readUInt8(6) & ~0x04, 6);
	const select = [0x15, 0x10, 0, 0, list.length, 0];
	assert.equal((await h.send(0, select, { dataOut: list })).status, 0);
	assert.equal(h.lu.writeback, false);
	h.disk.calls.length = 0;
}
