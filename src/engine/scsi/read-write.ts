// SPDX-License-Identifier: MIT
// READ and WRITE of 6, 10, 12 and 16 bytes (SBC-2 5.5 and 5.24, SBC-3 5.11 to 5.13 and 5.33 to 5.35).
// The data is moved by the controller, see Transfer.
import type { Buffer } from "node:buffer";
import {
	type BlockRange,
	type CdbSize,
	checkLength,
	checkRange,
	flush,
	lengthByte,
	rangeOf,
	rangeUsage,
} from "./blocks.ts";
import { maxTransferBlocks } from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { type Command, GOOD, type Outcome } from "./task.ts";

const DPO = 0x10;
const FUA = 0x08;

interface Fields extends BlockRange {
	readonly fua: boolean;
	/** Where the number of blocks is, for the field pointer. */
	readonly lengthByte: number;
}

/** The six byte CDBs have 21 bits of address, and 0 blocks stands for 256. */
function parse6(cdb: Buffer): Fields {
	return {
		lba: BigInt(cdb.readUIntBE(1, 3) & 0x1fffff),
		blocks: cdb.readUInt8(4) || 256,
		fua: false,
		lengthByte: 4,
	};
}

function parser(size: CdbSize): (cdb: Buffer) => Fields {
	return (cdb) => ({
		...rangeOf(cdb, size),
		fua: (cdb.readUInt8(1) & FUA) !== 0,
		lengthByte: lengthByte(size),
	});
}

/** The checked address of what is to be transferred. */
function address({ medium }: LogicalUnit, fields: Fields): number {
	checkLength(fields.blocks, maxTransferBlocks(medium), fields.lengthByte);
	return checkRange(medium, fields);
}

async function read(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const lba = address(lu, fields);
	const { blocks, fua } = fields;
	if (blocks * lu.medium.blockSize > command.dataInLength)
		return { kind: "overrun" };
	if (blocks === 0) return GOOD;
	// FUA: what is read is on the medium, also when a cache would have had it.
	if (fua) await flush(lu.medium);
	return {
		kind: "transfer",
		transfer: { op: "read", lba, blocks, durable: false },
	};
}

function write(lu: LogicalUnit, command: Command, fields: Fields): Outcome {
	const lba = address(lu, fields);
	const { blocks, fua } = fields;
	if (blocks * lu.medium.blockSize > command.dataOutLength)
		return { kind: "overrun" };
	if (blocks === 0) return GOOD;
	const durable = fua || !lu.writeback;
	return { kind: "transfer", transfer: { op: "write", lba, blocks, durable } };
}

const READ = {
	access: "read",
	reservation: "read",
	timeout: 30,
	execute: read,
} as const;
const WRITE = {
	access: "write",
	reservation: "write",
	timeout: 30,
	execute: write,
} as const;

function usage6(opcode: number): number[] {
	return [opcode, 0x1f, 0xff, 0xff, 0xff, 0];
}

function ranged(opcode: number, size: CdbSize) {
	return {
		opcode,
		usage: rangeUsage(opcode, size, DPO | FUA),
		parse: parser(size),
	};
}

export const readWriteOperations: readonly Operation[] = [
	operation({
		...READ,
		opcode: 0x08,
		name: "READ (6)",
		reference: "SBC-2 5.5",
		usage: usage6(0x08),
		parse: parse6,
	}),
	operation({
		...READ,
		...ranged(0x28, 10),
		name: "READ (10)",
		reference: "SBC-3 5.11",
	}),
	operation({
		...READ,
		...ranged(0xa8, 12),
		name: "READ (12)",
		reference: "SBC-3 5.12",
	}),
	operation({
		...READ,
		...ranged(0x88, 16),
		name: "READ (16)",
		reference: "SBC-3 5.13",
	}),
	operation({
		...WRITE,
		opcode: 0x0a,
		name: "WRITE (6)",
		reference: "SBC-2 5.24",
		usage: usage6(0x0a),
		parse: parse6,
	}),
	operation({
		...WRITE,
		...ranged(0x2a, 10),
		name: "WRITE (10)",
		reference: "SBC-3 5.33",
	}),
	operation({
		...WRITE,
		...ranged(0xaa, 12),
		name: "WRITE (12)",
		reference: "SBC-3 5.34",
	}),
	operation({
		...WRITE,
		...ranged(0x8a, 16),
		name: "WRITE (16)",
		reference: "SBC-3 5.35",
	}),
];
