// SPDX-License-Identifier: MIT
// SYNCHRONIZE CACHE (SBC-3 5.26 and 5.27) and PRE-FETCH (SBC-3 5.8 and 5.9) of 10 and 16 bytes.
import type { Buffer } from "node:buffer";
import {
	type BlockRange,
	type CdbSize,
	checkRange,
	chunks,
	flush,
	goOn,
	rangeOf,
	rangeUsage,
} from "./blocks.ts";
import { maxTransferBlocks } from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { type Command, GOOD, type Outcome } from "./task.ts";

const IMMED = 0x02;

interface Fields extends BlockRange {
	/** Status comes before the work is done. */
	readonly immediate: boolean;
}

function parser(size: CdbSize): (cdb: Buffer) => Fields {
	return (cdb) => ({
		...rangeOf(cdb, size),
		immediate: (cdb.readUInt8(1) & IMMED) !== 0,
	});
}

/** Ends the command now or when the work has ended. */
async function work(
	fields: Fields,
	running: () => Promise<void>,
): Promise<Outcome> {
	// Nobody is left to be told of a failure: there are no deferred errors.
	if (fields.immediate) running().catch(() => undefined);
	else await running();
	return GOOD;
}

/** The whole cache is emptied, whatever the range is: zero blocks is up to the end. */
function synchronize(
	{ medium }: LogicalUnit,
	_command: Command,
	fields: Fields,
): Promise<Outcome> {
	checkRange(medium, fields);
	return work(fields, () => flush(medium));
}

/**
 * The backend's cache, if it has one, is warmed by reading. How long the blocks
 * stay there is not ours to say, hence GOOD, never CONDITION MET.
 */
function prefetch(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	const lba = checkRange(medium, fields);
	const wanted = fields.blocks || medium.numBlocks - lba;
	const blocks = Math.min(wanted, maxTransferBlocks(medium));
	return work(fields, async () => {
		for (const chunk of chunks(medium, lba, blocks)) {
			goOn(lu, command);
			await medium.read(chunk.lba, chunk.blocks);
		}
	});
}

function synchronizeOperation(
	opcode: number,
	size: CdbSize,
	section: string,
): Operation {
	return operation({
		opcode,
		name: `SYNCHRONIZE CACHE (${size})`,
		reference: `SBC-3 ${section}`,
		usage: rangeUsage(opcode, size, IMMED),
		access: "medium",
		reservation: "write",
		timeout: 60,
		parse: parser(size),
		execute: synchronize,
	});
}

function prefetchOperation(
	opcode: number,
	size: CdbSize,
	section: string,
): Operation {
	return operation({
		opcode,
		name: `PRE-FETCH (${size})`,
		reference: `SBC-3 ${section}`,
		usage: rangeUsage(opcode, size, IMMED),
		access: "read",
		reservation: "read",
		timeout: 30,
		parse: parser(size),
		execute: prefetch,
	});
}

export const cacheOperations: readonly Operation[] = [
	synchronizeOperation(0x35, 10, "5.26"),
	synchronizeOperation(0x91, 16, "5.27"),
	prefetchOperation(0x34, 10, "5.8"),
	prefetchOperation(0x90, 16, "5.9"),
];
