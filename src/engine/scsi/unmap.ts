// SPDX-License-Identifier: MIT
// UNMAP (SBC-3 5.28) and GET LBA STATUS (SBC-3 5.4): which blocks have storage behind them.
import { Buffer } from "node:buffer";
import {
	type BlockRange,
	checkRange,
	goOn,
	lbaOutOfRange,
	settle,
} from "./blocks.ts";
import { dataIn, readParameterList } from "./buffers.ts";
import { MAX_UNMAP_DESCRIPTORS, maxUnmapBlocks } from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { ASC, illegalRequest, invalidParameter } from "./sense.ts";
import { type Command, GOOD, type Medium, type Outcome } from "./task.ts";

const HEADER = 8;
const DESCRIPTOR = 16;

/** The block descriptors of an UNMAP parameter list; one that is cut off does not count. */
function unmapRanges(list: Buffer): BlockRange[] {
	if (list.length < HEADER)
		throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	const length = Math.min(
		list.length - HEADER,
		// UNMAP DATA LENGTH counts the six bytes of the header that follow it.
		Math.max(0, list.readUInt16BE(0) - 6),
		list.readUInt16BE(2),
	);
	const ranges: BlockRange[] = [];
	for (let at = HEADER; at + DESCRIPTOR <= HEADER + length; at += DESCRIPTOR)
		ranges.push({
			lba: list.readBigUInt64BE(at),
			blocks: list.readUInt32BE(at + 8),
		});
	return ranges;
}

/** Checks all ranges before any of them is unmapped; returns their addresses. */
function checkUnmap(medium: Medium, ranges: readonly BlockRange[]): number[] {
	// UNMAP BLOCK DESCRIPTOR DATA LENGTH is what is too much.
	if (ranges.length > MAX_UNMAP_DESCRIPTORS) throw invalidParameter(2);
	let left = maxUnmapBlocks(medium);
	return ranges.map((range, index) => {
		left -= range.blocks;
		if (left < 0) throw invalidParameter(HEADER + index * DESCRIPTOR + 8);
		return checkRange(medium, range);
	});
}

async function unmap(
	lu: LogicalUnit,
	command: Command,
	length: number,
): Promise<Outcome> {
	const { medium } = lu;
	if (!medium.supports.unmap) throw illegalRequest(ASC.INVALID_OPCODE);
	if (length === 0) return GOOD;
	const ranges = unmapRanges(readParameterList(command, length));
	const addresses = checkUnmap(medium, ranges);
	for (const [index, lba] of addresses.entries()) {
		const blocks = ranges[index]?.blocks ?? 0;
		if (blocks === 0) continue;
		goOn(lu, command);
		await medium.unmap(lba, blocks);
	}
	await settle(lu);
	return GOOD;
}

/** A run of blocks of one provisioning status. */
interface Run {
	readonly lba: number;
	blocks: number;
	readonly mapped: boolean;
}

/** Bounds the answer of one command: 16 KiB. */
const MAX_RUNS = 1024;
/** Bounds the work of one command, where runs come in small pieces. */
const MAX_EXTENTS = 4096;

/** At most `most` runs from a block on, neighbours that are alike made one. */
function runsFrom(medium: Medium, lba: number, most: number): Run[] {
	const runs: Run[] = [];
	let at = lba;
	for (let n = 0; n < MAX_EXTENTS && at < medium.numBlocks; n++) {
		const { blocks, mapped } = medium.extent(at);
		const last = runs.at(-1);
		if (last && last.mapped === mapped) last.blocks += blocks;
		else if (runs.length === most) break;
		else runs.push({ lba: at, blocks, mapped });
		at += blocks;
	}
	return runs;
}

const MAPPED = 0;
const DEALLOCATED = 1;

/** NUMBER OF LOGICAL BLOCKS has 32 bits: the descriptors of one run. */
function* statusDescriptors({ lba, blocks, mapped }: Run): Generator<Buffer> {
	for (let done = 0; done < blocks; done += 0xffffffff) {
		const descriptor = Buffer.alloc(DESCRIPTOR);
		descriptor.writeBigUInt64BE(BigInt(lba + done));
		descriptor.writeUInt32BE(Math.min(0xffffffff, blocks - done), 8);
		descriptor[12] = mapped ? MAPPED : DEALLOCATED;
		yield descriptor;
	}
}

interface StatusFields {
	readonly lba: bigint;
	readonly allocation: number;
}

function getLbaStatus(
	{ medium }: LogicalUnit,
	command: Command,
	{ lba, allocation }: StatusFields,
): Outcome {
	if (lba >= BigInt(medium.numBlocks)) throw lbaOutOfRange(medium, lba);
	const room = Math.floor((allocation - HEADER) / DESCRIPTOR);
	const most = Math.min(Math.max(1, room), MAX_RUNS);
	const runs = runsFrom(medium, Number(lba), most);
	const list = runs.flatMap((run) => [...statusDescriptors(run)]);
	const header = Buffer.alloc(HEADER);
	const data = Buffer.concat([header, ...list.slice(0, most)]);
	data.writeUInt32BE(data.length - 4);
	return dataIn(command, data, allocation);
}

export const unmapOperations: readonly Operation[] = [
	operation({
		opcode: 0x42,
		name: "UNMAP",
		reference: "SBC-3 5.28",
		// ANCHOR is not in it: ANC_SUP is zero.
		usage: [0x42, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0],
		access: "write",
		reservation: "write",
		timeout: 60,
		// LBPU says the same.
		supported: (medium) => medium.supports.unmap,
		parse: (cdb) => cdb.readUInt16BE(7),
		execute: unmap,
	}),
	operation({
		opcode: 0x9e,
		serviceAction: 0x12,
		name: "GET LBA STATUS",
		reference: "SBC-3 5.4",
		usage: [0x9e, 0x12, ...new Array(12).fill(0xff), 0, 0],
		access: "read",
		reservation: "read",
		timeout: 30,
		parse: (cdb) => ({
			lba: cdb.readBigUInt64BE(2),
			allocation: cdb.readUInt32BE(10),
		}),
		execute: getLbaStatus,
	}),
];
