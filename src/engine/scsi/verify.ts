// SPDX-License-Identifier: MIT
// VERIFY and WRITE AND VERIFY of 10, 12 and 16 bytes (SBC-3 5.29 to 5.31 and 5.37 to 5.39).
import type { Buffer } from "node:buffer";
import {
	type BlockRange,
	type CdbSize,
	type Chunk,
	checkLength,
	checkRange,
	chunks,
	goOn,
	lbaOutOfRange,
	lengthByte,
	mustEqual,
	needDataOut,
	rangeOf,
	rangeUsage,
	readBlocks,
	repeated,
} from "./blocks.ts";
import { maxTransferBlocks } from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { invalidCdbField } from "./sense.ts";
import { type Command, GOOD, type Medium, type Outcome } from "./task.ts";

const DPO = 0x10;

/** BYTCHK: what the blocks are compared with. */
type Comparison =
	/** 00b: nothing; they only have to be readable. */
	| "none"
	/** 01b: as many blocks of data-out. */
	| "data"
	/** 11b: one block of data-out, each of them. */
	| "block";

interface Fields extends BlockRange {
	readonly compare: Comparison;
	readonly lengthByte: number;
}

const BYTCHK: readonly (Comparison | undefined)[] = [
	"none",
	"data",
	undefined,
	"block",
];

function parser(size: CdbSize): (cdb: Buffer) => Fields {
	return (cdb) => {
		const compare = BYTCHK[(cdb.readUInt8(1) >> 1) & 3];
		if (!compare) throw invalidCdbField(1, 2);
		return { ...rangeOf(cdb, size), compare, lengthByte: lengthByte(size) };
	};
}

/** Bytes of data-out that a comparison takes. */
function dataOutBytes({ blocks, compare }: Fields, medium: Medium): number {
	if (compare === "none" || blocks === 0) return 0;
	return (compare === "data" ? blocks : 1) * medium.blockSize;
}

/** Skips what is not mapped: a verify of it always succeeds (SBC-3 5.29). */
function nextMapped(medium: Medium, lba: number, end: number): number {
	let at = lba;
	while (at < end) {
		// It may have been made smaller meanwhile.
		if (at >= medium.numBlocks) throw lbaOutOfRange(medium, BigInt(at));
		const { blocks, mapped } = medium.extent(at);
		if (mapped) break;
		at += blocks;
	}
	return Math.min(at, end);
}

/** Reads all blocks that are mapped. */
async function readable(
	lu: LogicalUnit,
	command: Command,
	lba: number,
	blocks: number,
): Promise<void> {
	const { medium } = lu;
	const end = lba + blocks;
	for (let at = lba; ; ) {
		goOn(lu, command);
		at = nextMapped(medium, at, end);
		if (at === end) return;
		const count = Math.min(
			medium.maxBlocks,
			medium.extent(at).blocks,
			end - at,
		);
		await medium.read(at, count);
		at += count;
	}
}

/** Compares blocks with what `expected` gives for each chunk. */
async function compareBlocks(
	lu: LogicalUnit,
	command: Command,
	lba: number,
	blocks: number,
	expected: (chunk: Chunk) => Buffer,
): Promise<void> {
	for (const chunk of chunks(lu.medium, lba, blocks)) {
		goOn(lu, command);
		const found = await lu.medium.read(chunk.lba, chunk.blocks);
		mustEqual(found, expected(chunk), chunk.offset);
	}
}

async function verify(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	const { blocks, compare } = fields;
	// MAXIMUM TRANSFER LENGTH is of what is transferred.
	if (compare === "data")
		checkLength(blocks, maxTransferBlocks(medium), fields.lengthByte);
	const lba = checkRange(medium, fields);
	needDataOut(command, dataOutBytes(fields, medium));
	if (blocks === 0) return GOOD;
	if (compare === "none") await readable(lu, command, lba, blocks);
	else if (compare === "data")
		await compareBlocks(lu, command, lba, blocks, (chunk) =>
			command.readDataOut(chunk.offset, chunk.length),
		);
	else {
		const block = command.readDataOut(0, medium.blockSize);
		const copies = repeated(medium, block, Math.min(blocks, medium.maxBlocks));
		await compareBlocks(lu, command, lba, blocks, (chunk) =>
			copies.subarray(0, chunk.length),
		);
	}
	return GOOD;
}

/** Writes to the medium, past the cache, and reads back from there. */
async function writeAndVerify(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	checkLength(fields.blocks, maxTransferBlocks(medium), fields.lengthByte);
	const lba = checkRange(medium, fields);
	needDataOut(command, fields.blocks * medium.blockSize);
	for (const chunk of chunks(medium, lba, fields.blocks)) {
		goOn(lu, command);
		const data = command.readDataOut(chunk.offset, chunk.length);
		await medium.write(chunk.lba, data, true);
		const found = await readBlocks(medium, chunk.lba, chunk.blocks);
		if (fields.compare === "data") mustEqual(found, data, chunk.offset);
	}
	return GOOD;
}

function verifyOperation(
	opcode: number,
	size: CdbSize,
	section: string,
): Operation {
	return operation({
		opcode,
		name: `VERIFY (${size})`,
		reference: `SBC-3 ${section}`,
		usage: rangeUsage(opcode, size, DPO | 0x06),
		access: "read",
		reservation: "read",
		timeout: 60,
		parse: parser(size),
		execute: verify,
	});
}

function writeAndVerifyOperation(
	opcode: number,
	size: CdbSize,
	section: string,
): Operation {
	return operation({
		opcode,
		name: `WRITE AND VERIFY (${size})`,
		reference: `SBC-3 ${section}`,
		// BYTCHK has no value with its high bit set here.
		usage: rangeUsage(opcode, size, DPO | 0x02),
		access: "write",
		reservation: "write",
		timeout: 60,
		parse: parser(size),
		execute: writeAndVerify,
	});
}

export const verifyOperations: readonly Operation[] = [
	verifyOperation(0x2f, 10, "5.29"),
	verifyOperation(0xaf, 12, "5.30"),
	verifyOperation(0x8f, 16, "5.31"),
	writeAndVerifyOperation(0x2e, 10, "5.37"),
	writeAndVerifyOperation(0xae, 12, "5.38"),
	writeAndVerifyOperation(0x8e, 16, "5.39"),
];
