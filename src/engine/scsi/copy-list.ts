// SPDX-License-Identifier: MIT
// The parameter list of EXTENDED COPY (LID1) (SPC-4 6.5), checked as far as it can be by itself.
import type { Buffer } from "node:buffer";
import { OverrunError } from "./buffers.ts";
import {
	ASC,
	type Asc,
	illegalRequest,
	invalidParameter,
	SENSE_KEY,
	SenseError,
} from "./sense.ts";
import type { Command } from "./task.ts";

/** What RECEIVE COPY OPERATING PARAMETERS promises, and what is enforced. */
export const COPY_LIMITS = {
	targets: 16,
	segments: 64,
	/** Bytes of target and segment descriptors together. */
	listLength: 4096,
	/** Bytes that one segment may copy: 64 MiB. */
	segmentBytes: 64 * 1024 * 1024,
	/** Copies that go on at a time in one logical unit. */
	concurrent: 64,
} as const;

/** Descriptor types that are known, in ascending order. */
export const COPY_DESCRIPTORS = { blockToBlock: 0x02, target: 0xe4 } as const;

/** LIST ID USAGE: what is kept for RECEIVE COPY RESULTS. */
export type ListIdUsage = "hold" | "discard" | "none";

/** Identification descriptor target descriptor (SPC-4 6.4.5.2). */
export interface CopyTarget {
	readonly designator: Buffer;
	readonly deviceType: number;
	readonly pad: boolean;
	/** Bytes; 0: not said. */
	readonly blockLength: number;
	/** Where it is in the parameter list, for field pointers. */
	readonly at: number;
}

/** Block device to block device segment descriptor (SPC-4 6.4.6.3). */
export interface CopySegment {
	readonly source: number;
	readonly destination: number;
	/** DC: the number of blocks is the destination's. */
	readonly countsDestination: boolean;
	/** CAT: what does not fill a block waits for the next segment. */
	readonly concatenate: boolean;
	readonly blocks: number;
	readonly sourceLba: bigint;
	readonly destinationLba: bigint;
}

export interface CopyList {
	readonly listId: number;
	readonly usage: ListIdUsage;
	readonly targets: readonly CopyTarget[];
	readonly segments: readonly CopySegment[];
}

const HEADER = 16;
const TARGET = 32;
const SEGMENT = 28;
const USAGES: readonly (ListIdUsage | undefined)[] = [
	"hold",
	undefined,
	"discard",
	"none",
];

function refused(asc: Asc, byte: number): SenseError {
	const { ILLEGAL_REQUEST: key } = SENSE_KEY;
	return new SenseError({ key, asc, field: { in: "data", byte } });
}

/** Reads and checks the parameter list, of `length` bytes. Throws SenseError or OverrunError. */
export function readCopyList(command: Command, length: number): CopyList {
	if (length > command.dataOutLength) throw new OverrunError();
	if (length < HEADER) throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	const header = command.readDataOut(0, HEADER);
	const { listId, usage } = listIdOf(header);
	const targetBytes = header.readUInt16BE(2);
	const segmentBytes = header.readUInt32BE(8);
	checkLengths(header, length, targetBytes, segmentBytes);
	const list = command.readDataOut(0, HEADER + targetBytes + segmentBytes);
	return {
		listId,
		usage,
		targets: targetsOf(list, HEADER + targetBytes),
		segments: segmentsOf(list, HEADER + targetBytes),
	};
}

function listIdOf(header: Buffer): Pick<CopyList, "listId" | "usage"> {
	const [listId = 0, flags = 0] = header;
	// STR and PRIORITY are accepted: they bear on nothing here.
	if (flags & 0xc0) throw invalidParameter(1, flags & 0x80 ? 7 : 6);
	const usage = USAGES[(flags >> 3) & 3];
	if (!usage) throw invalidParameter(1, 4);
	if (usage === "none" && listId !== 0) throw invalidParameter(0);
	const reserved = header.subarray(4, 8).findIndex((byte) => byte !== 0);
	if (reserved >= 0) throw invalidParameter(4 + reserved);
	return { listId, usage };
}

function checkLengths(
	header: Buffer,
	length: number,
	targetBytes: number,
	segmentBytes: number,
): void {
	const inlineBytes = header.readUInt32BE(12);
	const bytes = targetBytes + segmentBytes;
	if (bytes > COPY_LIMITS.listLength || HEADER + bytes + inlineBytes > length)
		throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	if (inlineBytes) throw refused(ASC.INLINE_DATA_LENGTH_EXCEEDED, 12);
	if (targetBytes % TARGET) throw invalidParameter(2);
	if (targetBytes > COPY_LIMITS.targets * TARGET)
		throw refused(ASC.TOO_MANY_TARGET_DESCRIPTORS, 2);
}

function targetsOf(list: Buffer, end: number): CopyTarget[] {
	const targets: CopyTarget[] = [];
	for (let at = HEADER; at < end; at += TARGET)
		targets.push(targetOf(list.subarray(at, at + TARGET), at));
	return targets;
}

function targetOf(bytes: Buffer, at: number): CopyTarget {
	if (bytes[0] !== COPY_DESCRIPTORS.target)
		throw refused(ASC.UNSUPPORTED_TARGET_DESCRIPTOR_TYPE, at);
	// ASSOCIATION: only logical units are known by designators.
	if (bytes.readUInt8(5) & 0x30) throw invalidParameter(at + 5, 5);
	const length = bytes.readUInt8(7);
	if (length === 0 || length > 20) throw invalidParameter(at + 7);
	return {
		designator: bytes.subarray(8, 8 + length),
		deviceType: bytes.readUInt8(1) & 0x1f,
		pad: (bytes.readUInt8(28) & 0x04) !== 0,
		blockLength: bytes.readUIntBE(29, 3),
		at,
	};
}

function segmentsOf(list: Buffer, start: number): CopySegment[] {
	const segments: CopySegment[] = [];
	for (let at = start; at < list.length; at += SEGMENT) {
		if (segments.length === COPY_LIMITS.segments)
			throw refused(ASC.TOO_MANY_SEGMENT_DESCRIPTORS, 8);
		segments.push(segmentOf(list.subarray(at, at + SEGMENT), at));
	}
	return segments;
}

function segmentOf(bytes: Buffer, at: number): CopySegment {
	if (bytes[0] !== COPY_DESCRIPTORS.blockToBlock)
		throw refused(ASC.UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE, at);
	if (bytes.length < SEGMENT)
		throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	if (bytes.readUInt16BE(2) !== SEGMENT - 4) throw invalidParameter(at + 2);
	const flags = bytes.readUInt8(1);
	return {
		source: bytes.readUInt16BE(4),
		destination: bytes.readUInt16BE(6),
		countsDestination: (flags & 0x02) !== 0,
		concatenate: (flags & 0x01) !== 0,
		blocks: bytes.readUInt16BE(10),
		sourceLba: bytes.readBigUInt64BE(12),
		destinationLba: bytes.readBigUInt64BE(20),
	};
}
