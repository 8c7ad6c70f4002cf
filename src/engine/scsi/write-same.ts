// SPDX-License-Identifier: MIT
// WRITE SAME (10) and (16) (SBC-3 5.43 and 5.44).
import type { Buffer } from "node:buffer";
import {
	type BlockRange,
	type CdbSize,
	checkLength,
	checkRange,
	chunks,
	goOn,
	lengthByte,
	needDataOut,
	rangeOf,
	rangeUsage,
	repeated,
	settle,
	writeZeroes,
} from "./blocks.ts";
import { maxWriteSameBlocks } from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { invalidCdbField } from "./sense.ts";
import { type Command, GOOD, type Outcome } from "./task.ts";

// ANCHOR (10h) is not in the usage: ANC_SUP is zero, so it is refused (SBC-3 5.43).
const UNMAP = 0x08;
const NDOB = 0x01;

interface Fields extends BlockRange {
	/** Zeroes may be left unmapped. */
	readonly unmap: boolean;
	/** No data-out: zeroes. */
	readonly noData: boolean;
	readonly lengthByte: number;
}

function parser(size: CdbSize): (cdb: Buffer) => Fields {
	return (cdb) => {
		const flags = cdb.readUInt8(1);
		return {
			...rangeOf(cdb, size),
			unmap: (flags & UNMAP) !== 0,
			noData: (flags & NDOB) !== 0,
			lengthByte: lengthByte(size),
		};
	};
}

/** The block to write, or undefined if it is all zero. */
function pattern(
	{ medium: { blockSize } }: LogicalUnit,
	command: Command,
	{ noData }: Fields,
): Buffer | undefined {
	if (noData) return undefined;
	needDataOut(command, blockSize);
	const block = command.readDataOut(0, blockSize);
	return block.some((byte) => byte !== 0) ? block : undefined;
}

async function writeSame(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	const { blocks, unmap } = fields;
	// LBPWS and LBPWS10 say whether UNMAP may be set.
	if (unmap && !medium.supports.unmap) throw invalidCdbField(1, 3);
	// WSNZ: zero blocks would be all up to the end.
	if (blocks === 0) throw invalidCdbField(fields.lengthByte);
	checkLength(blocks, maxWriteSameBlocks(medium), fields.lengthByte);
	const lba = checkRange(medium, fields);
	const block = pattern(lu, command, fields);
	if (block) await fill(lu, command, lba, blocks, block);
	else await zero(lu, command, lba, blocks, unmap);
	return GOOD;
}

async function fill(
	lu: LogicalUnit,
	command: Command,
	lba: number,
	blocks: number,
	block: Buffer,
): Promise<void> {
	const { medium } = lu;
	const copies = repeated(medium, block, Math.min(blocks, medium.maxBlocks));
	for (const chunk of chunks(medium, lba, blocks)) {
		goOn(lu, command);
		const data = copies.subarray(0, chunk.length);
		await medium.write(chunk.lba, data, !lu.writeback);
	}
}

async function zero(
	lu: LogicalUnit,
	command: Command,
	lba: number,
	blocks: number,
	unmap: boolean,
): Promise<void> {
	for (const chunk of chunks(lu.medium, lba, blocks)) {
		goOn(lu, command);
		await writeZeroes(lu, chunk, unmap);
	}
	await settle(lu);
}

function writeSameOperation(
	opcode: number,
	size: CdbSize,
	flags: number,
	section: string,
): Operation {
	return operation({
		opcode,
		name: `WRITE SAME (${size})`,
		reference: `SBC-3 ${section}`,
		usage: rangeUsage(opcode, size, flags),
		access: "write",
		reservation: "write",
		timeout: 60,
		parse: parser(size),
		execute: writeSame,
	});
}

export const writeSameOperations: readonly Operation[] = [
	writeSameOperation(0x41, 10, UNMAP, "5.43"),
	writeSameOperation(0x93, 16, UNMAP | NDOB, "5.44"),
];
