// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import * as limits from "./limits.ts";
import { type Operation, operation } from "./operation.ts";
import type { Medium } from "./task.ts";

const LBPME = 0x80;
const LBPRZ = 0x40;

function lastBlock(medium: Medium): number {
	return Math.max(0, medium.numBlocks - 1);
}

function capacity10(medium: Medium): Buffer {
	const out = Buffer.alloc(8);
	out.writeUInt32BE(Math.min(lastBlock(medium), 0xffffffff), 0);
	out.writeUInt32BE(medium.blockSize, 4);
	return out;
}

function capacity16(medium: Medium): Buffer {
	const out = Buffer.alloc(32);
	out.writeBigUInt64BE(BigInt(lastBlock(medium)), 0);
	out.writeUInt32BE(medium.blockSize, 8);
	// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT; no protection.
	out[13] = Math.log2(limits.blocksPerPhysical(medium));
	out[14] = medium.supports.unmap ? LBPME | LBPRZ : 0;
	return out;
}

const common = {
	access: "medium",
	reservation: "allowed",
	timeout: 10,
} as const;

/** The obsolete LOGICAL BLOCK ADDRESS and PMI must be zero, as if they were reserved. */
export const capacityOperations: readonly Operation[] = [
	operation({
		...common,
		opcode: 0x25,
		name: "READ CAPACITY (10)",
		reference: "SBC-3 5.15",
		usage: [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
		parse: () => undefined,
		execute: (lu, command) => dataIn(command, capacity10(lu.medium), 8),
	}),
	operation({
		...common,
		opcode: 0x9e,
		serviceAction: 0x10,
		name: "READ CAPACITY (16)",
		reference: "SBC-3 5.16",
		usage: [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
		parse: (cdb) => cdb.readUInt32BE(10),
		execute: (lu, command, allocation) =>
			dataIn(command, capacity16(lu.medium), allocation),
	}),
];
