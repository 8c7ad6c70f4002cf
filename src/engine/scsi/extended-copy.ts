// SPDX-License-Identifier: MIT
// EXTENDED COPY (LID1) (SPC-4 6.5): a copy manager for the logical units of a controller.
import { Buffer } from "node:buffer";
import { goOn } from "./blocks.ts";
import {
	COPY_LIMITS,
	type CopyList,
	type CopySegment,
	type CopyTarget,
	readCopyList,
} from "./copy-list.ts";
import {
	type CopyRecord,
	copyGoesOn,
	copyRecord,
	copyResultOperations,
	NO_RECORD,
} from "./copy-results.ts";
import { type CopyEnd, copyAborted, copySegment } from "./copy-segment.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import {
	ASC,
	illegalRequest,
	invalidParameter,
	SENSE_KEY,
	SenseError,
	STATUS,
} from "./sense.ts";
import { type Command, GOOD, type Outcome } from "./task.ts";

/** Copies that go on, by logical unit. */
const running = new WeakMap<LogicalUnit, number>();

/** The logical units of the target descriptors; those that are not there leave a gap. */
function endsOf(
	lu: LogicalUnit,
	targets: readonly CopyTarget[],
): (CopyEnd | undefined)[] {
	return targets.map((target) => {
		const peer = lu.host.findByDesignator(target.designator);
		if (!peer) return undefined;
		const { blockLength, at } = target;
		if (blockLength !== 0 && blockLength !== peer.medium.blockSize)
			throw invalidParameter(at + 29);
		return { target, peer };
	});
}

/** The logical unit that a segment means. Throws SenseError. */
function endOf(
	{ targets }: CopyList,
	ends: readonly (CopyEnd | undefined)[],
	index: number,
	byte: number,
): CopyEnd {
	const field = { in: "segment", byte } as const;
	const target = targets[index];
	if (!target) throw copyAborted(ASC.UNREACHABLE_COPY_TARGET, { field });
	if (target.deviceType !== 0)
		throw copyAborted(ASC.INCORRECT_COPY_TARGET_TYPE, { field });
	const end = ends[index];
	if (!end) throw copyAborted(ASC.COPY_TARGET_NOT_REACHABLE, { field });
	return end;
}

/** Processes the segments in order. Throws SenseError with the number of the one that failed. */
async function copyAll(
	lu: LogicalUnit,
	command: Command,
	list: CopyList,
	ends: readonly (CopyEnd | undefined)[],
	record: CopyRecord,
): Promise<void> {
	let residual: Buffer = Buffer.alloc(0);
	const copy = (segment: CopySegment) =>
		copySegment(
			segment,
			endOf(list, ends, segment.source, 4),
			endOf(list, ends, segment.destination, 6),
			{
				nexus: command.nexus,
				residual,
				goOn: () => goOn(lu, command),
				transferred: (bytes) => record.transferred(bytes),
			},
		);
	for (const [number, segment] of list.segments.entries()) {
		try {
			residual = await copy(segment);
		} catch (error) {
			throw ofSegment(error, number);
		}
		record.segmentDone();
	}
}

/** Says which segment failed, if it was the copy that failed. */
function ofSegment(error: unknown, segment: number): unknown {
	if (!(error instanceof SenseError)) return error;
	if (error.sense.key !== SENSE_KEY.COPY_ABORTED) return error;
	return new SenseError({ ...error.sense, segment });
}

async function extendedCopy(
	lu: LogicalUnit,
	command: Command,
	length: number,
): Promise<Outcome> {
	if (length === 0) return GOOD;
	const list = readCopyList(command, length);
	const { listId, usage } = list;
	if (usage !== "none" && copyGoesOn(lu, command.nexus, listId))
		throw illegalRequest(ASC.OPERATION_IN_PROGRESS);
	const ends = endsOf(lu, list.targets);
	const others = running.get(lu) ?? 0;
	if (others >= COPY_LIMITS.concurrent)
		return { kind: "status", status: STATUS.TASK_SET_FULL };
	const record =
		usage === "none" ? NO_RECORD : copyRecord(lu, command.nexus, listId);
	running.set(lu, others + 1);
	try {
		await copyAll(lu, command, list, ends, record);
		record.end();
	} catch (error) {
		finish(record, command, error);
		throw error;
	} finally {
		running.set(lu, (running.get(lu) ?? 1) - 1);
	}
	return GOOD;
}

function finish(record: CopyRecord, command: Command, error: unknown): void {
	if (command.signal.aborted) record.drop();
	else if (error instanceof SenseError) record.end(error.sense);
	else
		record.end({
			key: SENSE_KEY.HARDWARE_ERROR,
			asc: ASC.INTERNAL_TARGET_FAILURE,
		});
}

export const copyOperations: readonly Operation[] = [
	operation({
		opcode: 0x83,
		serviceAction: 0x00,
		name: "EXTENDED COPY (LID1)",
		reference: "SPC-4 6.5",
		usage: [
			...[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0],
			...[0xff, 0xff, 0xff, 0xff, 0, 0],
		],
		// Which logical units are read and written is in its parameter list.
		access: "medium",
		reservation: "write",
		timeout: 300,
		parse: (cdb) => cdb.readUInt32BE(10),
		execute: extendedCopy,
	}),
	...copyResultOperations,
];
