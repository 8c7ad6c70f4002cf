// SPDX-License-Identifier: MIT
// COMPARE AND WRITE (SBC-3 5.2) and ORWRITE (16) (SBC-3 5.5): a read and a write
// that nothing comes between.
import type { Buffer } from "node:buffer";
import {
	type BlockRange,
	type Chunk,
	checkLength,
	checkRange,
	chunks,
	goOn,
	lengthByte,
	mustEqual,
	needDataOut,
	rangeOf,
	rangeUsage,
	readBlocks,
} from "./blocks.ts";
import { maxCompareAndWriteBlocks, maxTransferBlocks } from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { type Command, GOOD, type Outcome } from "./task.ts";

const DPO = 0x10;
const FUA = 0x08;

interface Fields extends BlockRange {
	readonly fua: boolean;
}

function fuaOf(cdb: Buffer): boolean {
	return (cdb.readUInt8(1) & FUA) !== 0;
}

/** Where COMPARE AND WRITE has its NUMBER OF LOGICAL BLOCKS. */
const COUNT_BYTE = 13;

/** Data-out is what the blocks must hold, then what they are to hold: all of them or none. */
async function compareAndWrite(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	const { blocks, fua } = fields;
	checkLength(blocks, maxCompareAndWriteBlocks(medium), COUNT_BYTE);
	const lba = checkRange(medium, fields);
	const bytes = blocks * medium.blockSize;
	needDataOut(command, 2 * bytes);
	if (blocks === 0) return GOOD;
	const parts = [...chunks(medium, lba, blocks)];
	await medium.exclusive(async () => {
		goOn(lu, command);
		for (const part of parts) await compare(lu, command, part);
		for (const { lba: at, offset, length } of parts) {
			const data = command.readDataOut(bytes + offset, length);
			await medium.write(at, data, fua || !lu.writeback);
		}
	});
	return GOOD;
}

async function compare(
	{ medium }: LogicalUnit,
	command: Command,
	{ lba, blocks, offset, length }: Chunk,
): Promise<void> {
	const found = await readBlocks(medium, lba, blocks);
	mustEqual(found, command.readDataOut(offset, length), offset);
}

async function orWrite(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	const { blocks, fua } = fields;
	checkLength(blocks, maxTransferBlocks(medium), lengthByte(16));
	const lba = checkRange(medium, fields);
	needDataOut(command, blocks * medium.blockSize);
	if (blocks === 0) return GOOD;
	await medium.exclusive(async () => {
		goOn(lu, command);
		for (const chunk of chunks(medium, lba, blocks)) {
			const data = await readBlocks(medium, chunk.lba, chunk.blocks);
			orInto(data, command.readDataOut(chunk.offset, chunk.length));
			await medium.write(chunk.lba, data, fua || !lu.writeback);
		}
	});
	return GOOD;
}

function orInto(target: Buffer, mask: Buffer): void {
	for (let at = 0; at < mask.length; at++)
		target[at] = (target[at] ?? 0) | (mask[at] ?? 0);
}

/** The number of blocks of COMPARE AND WRITE is one byte; the others are reserved. */
function compareAndWriteUsage(): number[] {
	const usage = rangeUsage(0x89, 16, DPO | FUA);
	return usage.fill(0, lengthByte(16), COUNT_BYTE);
}

export const atomicOperations: readonly Operation[] = [
	operation({
		opcode: 0x89,
		name: "COMPARE AND WRITE",
		reference: "SBC-3 5.2",
		usage: compareAndWriteUsage(),
		access: "write",
		reservation: "write",
		timeout: 30,
		parse: (cdb) => ({ ...rangeOf(cdb, 16), fua: fuaOf(cdb) }),
		execute: compareAndWrite,
	}),
	operation({
		opcode: 0x8b,
		name: "ORWRITE (16)",
		reference: "SBC-3 5.5",
		usage: rangeUsage(0x8b, 16, DPO | FUA),
		access: "write",
		reservation: "write",
		timeout: 30,
		parse: (cdb) => ({ ...rangeOf(cdb, 16), fua: fuaOf(cdb) }),
		execute: orWrite,
	}),
];
