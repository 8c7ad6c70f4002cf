// SPDX-License-Identifier: MIT
// What the block commands have in common: ranges of logical blocks in CDBs, and work in chunks.
import { Buffer } from "node:buffer";
import { OverrunError } from "./buffers.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { ASC, invalidCdbField, SENSE_KEY, SenseError } from "./sense.ts";
import { type Command, type Medium, MediumError } from "./task.ts";

/** A run of logical blocks as a CDB or a parameter list says it; nothing is checked yet. */
export interface BlockRange {
	readonly lba: bigint;
	readonly blocks: number;
}

/** Lengths of the CDBs that have a LOGICAL BLOCK ADDRESS at byte 2. */
export type CdbSize = 10 | 12 | 16;

interface Layout {
	readonly lba: readonly [byte: number, bytes: number];
	readonly length: readonly [byte: number, bytes: number];
	readonly group: number;
}

const LAYOUTS: Readonly<Record<CdbSize, Layout>> = {
	10: { lba: [2, 4], length: [7, 2], group: 6 },
	12: { lba: [2, 4], length: [6, 4], group: 10 },
	16: { lba: [2, 8], length: [10, 4], group: 14 },
};

/** The byte of a CDB where its number of blocks begins. */
export function lengthByte(size: CdbSize): number {
	return LAYOUTS[size].length[0];
}

/** LOGICAL BLOCK ADDRESS and the number of blocks. */
export function rangeOf(cdb: Buffer, size: CdbSize): BlockRange {
	const { lba, length } = LAYOUTS[size];
	return {
		lba:
			lba[1] === 8
				? cdb.readBigUInt64BE(lba[0])
				: BigInt(cdb.readUInt32BE(lba[0])),
		blocks: cdb.readUIntBE(length[0], length[1]),
	};
}

/** CDB USAGE DATA of a command with an address, a number of blocks and a GROUP NUMBER. */
export function rangeUsage(
	opcode: number,
	size: CdbSize,
	flags: number,
): number[] {
	const { lba, length, group } = LAYOUTS[size];
	const usage: number[] = new Array(size).fill(0);
	usage[0] = opcode;
	usage[1] = flags;
	for (const [byte, bytes] of [lba, length])
		usage.fill(0xff, byte, byte + bytes);
	// The whole field is evaluated: all groups are alike, as none is kept apart.
	usage[group] = 0x1f;
	return usage;
}

/** LOGICAL BLOCK ADDRESS OUT OF RANGE; INFORMATION is the first address that is. */
export function lbaOutOfRange(medium: Medium, lba: bigint): SenseError {
	const end = BigInt(medium.numBlocks);
	return new SenseError({
		key: SENSE_KEY.ILLEGAL_REQUEST,
		asc: ASC.LBA_OUT_OF_RANGE,
		information: lba > end ? lba : end,
	});
}

/**
 * The address of a range that lies on the medium; throws SenseError if it does
 * not. A range of no blocks may begin right behind the last one.
 */
export function checkRange(
	medium: Medium,
	{ lba, blocks }: BlockRange,
): number {
	if (lba + BigInt(blocks) > BigInt(medium.numBlocks))
		throw lbaOutOfRange(medium, lba);
	return Number(lba);
}

/** Refuses more blocks than a limit of VPD page B0h, pointing at the CDB's field. */
export function checkLength(blocks: number, most: number, byte: number): void {
	if (blocks > most) throw invalidCdbField(byte);
}

/** Throws OverrunError unless data-out holds that many bytes. */
export function needDataOut(command: Command, bytes: number): void {
	if (bytes > command.dataOutLength) throw new OverrunError();
}

/** Ends a command between two of its chunks: it was aborted, or SANITIZE has begun. */
export function goOn(lu: LogicalUnit, command: Command): void {
	if (command.signal.aborted)
		throw new SenseError({
			key: SENSE_KEY.ABORTED_COMMAND,
			asc: ASC.NO_ADDITIONAL_SENSE,
		});
	if (lu.background) throw new SenseError(lu.background.sense());
}

/** A part of a range. */
export interface Chunk {
	readonly lba: number;
	readonly blocks: number;
	/** Bytes from the start of the range to this part. */
	readonly offset: number;
	/** Bytes of this part. */
	readonly length: number;
}

/** Cuts a range into parts of at most `most` blocks. */
export function* chunks(
	medium: Medium,
	lba: number,
	blocks: number,
	most: number = medium.maxBlocks,
): Generator<Chunk> {
	for (let done = 0; done < blocks; done += most) {
		const count = Math.min(most, blocks - done);
		yield {
			lba: lba + done,
			blocks: count,
			offset: done * medium.blockSize,
			length: count * medium.blockSize,
		};
	}
}

/** Reads for a command that also writes: its failure is to be told from that of the write. */
export async function readBlocks(
	medium: Medium,
	lba: number,
	blocks: number,
): Promise<Buffer> {
	try {
		return await medium.read(lba, blocks);
	} catch (error) {
		if (!(error instanceof MediumError) || error.errno !== "EIO") throw error;
		throw new SenseError({
			key: SENSE_KEY.MEDIUM_ERROR,
			asc: ASC.UNRECOVERED_READ_ERROR,
		});
	}
}

/** Empties the write cache, if the medium has one. */
export async function flush(medium: Medium): Promise<void> {
	if (medium.supports.flush) await medium.flush();
}

/** Makes what a command without FUA changed durable where writes may not stay in a cache. */
export async function settle(lu: LogicalUnit): Promise<void> {
	if (!lu.writeback) await flush(lu.medium);
}

/** A block, or a piece of one, over and over, to fill `blocks` blocks. */
export function repeated(
	medium: Medium,
	pattern: Buffer,
	blocks: number,
): Buffer {
	const { blockSize } = medium;
	// Each block begins with the first byte of the pattern.
	const block = Buffer.alloc(blockSize, pattern);
	return Buffer.alloc(blocks * blockSize, block);
}

/** Throws MISCOMPARE with the offset of the first byte that differs as INFORMATION. */
export function mustEqual(medium: Buffer, given: Buffer, offset: number): void {
	if (medium.equals(given)) return;
	let at = 0;
	while (medium[at] === given[at]) at++;
	throw new SenseError({
		key: SENSE_KEY.MISCOMPARE,
		asc: ASC.MISCOMPARE_DURING_VERIFY,
		information: BigInt(offset + at),
	});
}

/** Zeroes a part of a range, whatever the medium offers for it. */
export async function writeZeroes(
	lu: LogicalUnit,
	{ lba, blocks, length }: Chunk,
	mayUnmap: boolean,
): Promise<void> {
	const { medium } = lu;
	if (medium.supports.writeZeroes)
		return medium.writeZeroes(lba, blocks, mayUnmap);
	return medium.write(lba, Buffer.alloc(length), !lu.writeback);
}
