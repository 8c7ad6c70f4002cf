// SPDX-License-Identifier: MIT
// What is kept of copies for RECEIVE COPY RESULTS, and that command (SPC-4 6.22, 6.23 and 6.25).
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import { COPY_DESCRIPTORS, COPY_LIMITS } from "./copy-list.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { encodeSense, invalidCdbField, type Sense, STATUS } from "./sense.ts";
import type { Command, Nexus, Outcome } from "./task.ts";

const ACTION = { STATUS: 0x00, PARAMETERS: 0x03, FAILURE: 0x04 } as const;
type RecordAction = typeof ACTION.STATUS | typeof ACTION.FAILURE;

/** COPY COMMAND STATUS. */
const PROGRESS = { RUNNING: 0, DONE: 1, FAILED: 2 } as const;

function prefixOf({ initiator, targetPort }: Nexus): string {
	return `${targetPort} ${initiator} `;
}

function keyOf(nexus: Nexus, listId: number, action: RecordAction): string {
	return `${prefixOf(nexus)}${listId} ${action}`;
}

/** A nexus is gone: nobody can ask for its copies any more. */
export function forgetCopyResults(
	results: Map<string, Buffer>,
	nexus: Nexus,
): void {
	for (const key of results.keys())
		if (key.startsWith(prefixOf(nexus))) results.delete(key);
}

/** A copy that goes on, as RECEIVE COPY STATUS tells of it. */
export interface CopyRecord {
	/** A segment was processed. */
	segmentDone(): void;
	transferred(bytes: number): void;
	/** It has ended; with sense, it failed. */
	end(sense?: Sense): void;
	/** It was aborted: nothing is told of it. */
	drop(): void;
}

/** A copy that has no list identifier. */
export const NO_RECORD: CopyRecord = {
	segmentDone() {},
	transferred() {},
	end() {},
	drop() {},
};

/** Whether a copy with that list identifier goes on. */
export function copyGoesOn(
	lu: LogicalUnit,
	nexus: Nexus,
	listId: number,
): boolean {
	const status = lu.copyResults.get(keyOf(nexus, listId, ACTION.STATUS));
	return status?.[4] === PROGRESS.RUNNING;
}

/** Begins the record of a copy; what was kept under its list identifier is forgotten. */
export function copyRecord(
	lu: LogicalUnit,
	nexus: Nexus,
	listId: number,
): CopyRecord {
	const results = lu.copyResults;
	const statusKey = keyOf(nexus, listId, ACTION.STATUS);
	const failureKey = keyOf(nexus, listId, ACTION.FAILURE);
	const status = Buffer.alloc(12);
	status.writeUInt32BE(status.length - 4);
	let segments = 0;
	let bytes = 0;
	results.set(statusKey, status);
	results.delete(failureKey);
	return {
		segmentDone() {
			segments++;
			status.writeUInt16BE(segments, 5);
		},
		transferred(count) {
			bytes += count;
			writeCount(status, bytes);
		},
		end(sense) {
			status[4] = sense ? PROGRESS.FAILED : PROGRESS.DONE;
			results.set(failureKey, failureDetails(sense, lu.descriptorSense));
		},
		drop() {
			results.delete(statusKey);
			results.delete(failureKey);
		},
	};
}

/** TRANSFER COUNT in bytes, or in KiB if it is too large for that. */
function writeCount(status: Buffer, bytes: number): void {
	const fits = bytes <= 0xffffffff;
	status[7] = fits ? 0 : 1;
	status.writeUInt32BE(fits ? bytes : Math.floor(bytes / 1024), 8);
}

const FAILURE_HEADER = 60;

/** Of a copy that did not fail there are no details: AVAILABLE DATA is zero. */
function failureDetails(sense: Sense | undefined, descriptor: boolean): Buffer {
	if (!sense) return Buffer.alloc(4);
	const encoded = encodeSense(sense, descriptor);
	const data = Buffer.concat([Buffer.alloc(FAILURE_HEADER), encoded]);
	data.writeUInt32BE(data.length - 4);
	data[56] = STATUS.CHECK_CONDITION;
	data.writeUInt16BE(encoded.length, 58);
	return data;
}

interface Fields {
	readonly listId: number;
	readonly allocation: number;
}

function parse(cdb: Buffer): Fields {
	return { listId: cdb.readUInt8(2), allocation: cdb.readUInt32BE(10) };
}

/** Tells what is kept; once told of a copy that has ended, it is forgotten. */
function receiveRecord(action: RecordAction) {
	return (
		lu: LogicalUnit,
		command: Command,
		{ listId, allocation }: Fields,
	): Outcome => {
		const key = keyOf(command.nexus, listId, action);
		const kept = lu.copyResults.get(key);
		if (!kept) throw invalidCdbField(2);
		const running = copyGoesOn(lu, command.nexus, listId);
		// What goes on changes the record in place.
		const outcome = dataIn(command, Buffer.from(kept), allocation);
		if (!running && outcome.kind === "good") lu.copyResults.delete(key);
		return outcome;
	};
}

/** Data segment granularity: no block is smaller than 2^9 bytes. */
const GRANULARITY = 9;

function operatingParameters(
	_lu: LogicalUnit,
	command: Command,
	{ allocation }: Fields,
): Outcome {
	const types = [COPY_DESCRIPTORS.blockToBlock, COPY_DESCRIPTORS.target];
	const data = Buffer.concat([Buffer.alloc(44), Buffer.from(types)]);
	data.writeUInt32BE(data.length - 4);
	data[4] = 0x01; // SNLID: a list identifier is not needed
	data.writeUInt16BE(COPY_LIMITS.targets, 8);
	data.writeUInt16BE(COPY_LIMITS.segments, 10);
	data.writeUInt32BE(COPY_LIMITS.listLength, 12);
	data.writeUInt32BE(COPY_LIMITS.segmentBytes, 16);
	data.writeUInt16BE(COPY_LIMITS.concurrent, 34);
	data[36] = COPY_LIMITS.concurrent;
	data[37] = GRANULARITY;
	data[43] = types.length;
	return dataIn(command, data, allocation);
}

function receiveOperation(
	serviceAction: number,
	name: string,
	section: string,
	execute: (lu: LogicalUnit, command: Command, fields: Fields) => Outcome,
): Operation {
	const listId = serviceAction === ACTION.PARAMETERS ? 0 : 0xff;
	return operation({
		opcode: 0x84,
		serviceAction,
		name,
		reference: `SPC-4 ${section}`,
		usage: [
			...[0x84, serviceAction, listId, 0, 0, 0, 0, 0, 0, 0],
			...[0xff, 0xff, 0xff, 0xff, 0, 0],
		],
		access: "none",
		reservation: "allowed",
		timeout: 30,
		parse,
		execute,
	});
}

export const copyResultOperations: readonly Operation[] = [
	receiveOperation(
		ACTION.STATUS,
		"RECEIVE COPY STATUS (LID1)",
		"6.25",
		receiveRecord(ACTION.STATUS),
	),
	receiveOperation(
		ACTION.PARAMETERS,
		"RECEIVE COPY OPERATING PARAMETERS",
		"6.23",
		operatingParameters,
	),
	receiveOperation(
		ACTION.FAILURE,
		"RECEIVE COPY FAILURE DETAILS (LID1)",
		"6.22",
		receiveRecord(ACTION.FAILURE),
	),
];
