// SPDX-License-Identifier: MIT
// Two disks, and parameter lists of EXTENDED COPY between them.
import { Buffer } from "node:buffer";
import type { CopyPeer, Outcome } from "../../src/engine/scsi/task.ts";
import { type ByteDisk, byteDisk } from "./byte-disk.ts";
import { type Harness, harness } from "./scsi.ts";
import { fixedSense, stamped } from "./scsi-cases.ts";

export const BLOCKS = 64;
export const NAA = Buffer.from("3111111111111111", "hex");
export const OTHER_NAA = Buffer.from("3222222222222222", "hex");
export const UUID = Buffer.from("1000000102030405060708090a0b0c0d0e0f", "hex");
export const ABSENT = Buffer.from("3999999999999999", "hex");

export interface Scene {
	readonly h: Harness;
	readonly own: ByteDisk;
	readonly other: ByteDisk;
	/** What the other disk refuses, for reads and writes. */
	readonly refusals: { read?: Outcome; write?: Outcome };
}

/** Two disks: the one that gets the commands, and another. */
export function scene(otherBlockSize = 512, blockSize = 512): Scene {
	const own = byteDisk({ blocks: BLOCKS, blockSize, maxBlocks: 4 });
	const other = byteDisk({
		blocks: BLOCKS,
		blockSize: otherBlockSize,
		maxBlocks: 4,
	});
	own.bytes.set(stamped(BLOCKS, 1, blockSize));
	other.bytes.set(stamped(BLOCKS, 2, otherBlockSize));
	const refusals: Scene["refusals"] = {};
	const ownPeer: CopyPeer = { medium: own, refusal: () => undefined };
	const otherPeer: CopyPeer = {
		medium: other,
		refusal: (_nexus, access) => refusals[access],
	};
	const peers = new Map([
		[NAA.toString("hex"), ownPeer],
		[OTHER_NAA.toString("hex"), otherPeer],
		[UUID.toString("hex"), otherPeer],
	]);
	const h = harness({ disk: own, peers, nexuses: 2 });
	return { h, own, other, refusals };
}

export interface TargetFields {
	readonly type?: number;
	readonly deviceType?: number;
	readonly association?: number;
	readonly pad?: boolean;
	readonly blockLength?: number;
}

export function target(designator: Buffer, fields: TargetFields = {}): Buffer {
	const { type = 0xe4, deviceType = 0, association = 0 } = fields;
	const bytes = Buffer.alloc(32);
	bytes[0] = type;
	bytes[1] = deviceType;
	bytes[4] = 1;
	bytes[5] = (association << 4) | 3;
	bytes[7] = designator.length;
	bytes.set(designator, 8);
	bytes[28] = fields.pad ? 4 : 0;
	bytes.writeUIntBE(fields.blockLength ?? 0, 29, 3);
	return bytes;
}

export interface SegmentFields {
	readonly from?: number;
	readonly to?: number;
	readonly blocks?: number;
	readonly source?: number | bigint;
	readonly destination?: number | bigint;
	/** DC 2, CAT 1. */
	readonly flags?: number;
}

export function segment(fields: SegmentFields = {}): Buffer {
	const bytes = Buffer.alloc(28);
	bytes[0] = 2;
	bytes[1] = fields.flags ?? 0;
	bytes.writeUInt16BE(24, 2);
	bytes.writeUInt16BE(fields.from ?? 0, 4);
	bytes.writeUInt16BE(fields.to ?? 1, 6);
	bytes.writeUInt16BE(fields.blocks ?? 1, 10);
	bytes.writeBigUInt64BE(BigInt(fields.source ?? 0), 12);
	bytes.writeBigUInt64BE(BigInt(fields.destination ?? 0), 20);
	return bytes;
}

export interface ListFields {
	readonly id?: number;
	/** Byte 1. */
	readonly flags?: number;
	readonly inlineLength?: number;
}

export const DISCARD = 0x10;
export const NO_ID = 0x18;

export function copyList(
	targets: readonly Buffer[],
	segments: readonly Buffer[],
	{ id = 7, flags = 0, inlineLength = 0 }: ListFields = {},
): Buffer {
	const header = Buffer.alloc(16);
	header[0] = id;
	header[1] = flags;
	header.writeUInt16BE(Buffer.concat(targets).length, 2);
	header.writeUInt32BE(Buffer.concat(segments).length, 8);
	header.writeUInt32BE(inlineLength, 12);
	return Buffer.concat([header, ...targets, ...segments]);
}

export function copyCdb(length: number): Buffer {
	const cdb = Buffer.alloc(16);
	cdb[0] = 0x83;
	cdb.writeUInt32BE(length, 10);
	return cdb;
}

export function copy(list: Buffer) {
	return { cdb: copyCdb(list.length), dataOut: list };
}

export const BOTH = [target(NAA), target(OTHER_NAA)];

export function part(disk: ByteDisk, lba: number, blocks: number): Buffer {
	const { blockSize } = disk;
	return disk.bytes.subarray(lba * blockSize, (lba + blocks) * blockSize);
}

export interface AbortParts {
	readonly information?: number;
	readonly segment?: number;
	/** In the segment descriptor. */
	readonly byte?: number;
}

/** COPY ABORTED. */
export function aborted(asc: number, parts: AbortParts = {}): Buffer {
	const { information, segment: number = 0, byte } = parts;
	const sense = fixedSense(0xa, asc, {
		...(information !== undefined && { information }),
		...(byte !== undefined && { specific: [0xa0, 0, byte] }),
	});
	sense.writeUInt16BE(number, 10);
	return sense;
}

/** With the status and the sense data of a source (8) or destination (9) behind it. */
export function forwarded(
	where: 8 | 9,
	status: number,
	inner: Buffer,
	parts: AbortParts,
): Buffer {
	const sense = Buffer.concat([
		aborted(0x0d01, parts),
		Buffer.of(status),
		inner,
	]);
	sense[7] = sense.length - 8;
	sense[where] = 18;
	return sense;
}
