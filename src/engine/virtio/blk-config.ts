// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { VhostctlError } from "../errors.ts";

/** Bytes of a configuration space as vhost-user carries it; zeros follow the last field. */
export const CONFIG_SIZE = 256;

/** Up to here every field that QEMU and qemu-storage-daemon know. */
export const CONFIG_BASE_SIZE = 60;

/** Where the one field that a driver may write lies: writeback, one byte. */
export const WRITEBACK_OFFSET = 32;

/** The configuration space of a block device (virtio 5.2.4). Sectors have 512 bytes. */
export interface BlkConfig {
	/** Sectors. */
	capacity: bigint;
	/** Bytes in the largest segment. */
	sizeMax: number;
	/** Data segments in a request. */
	segMax: number;
	/** Bytes in a logical block. */
	blkSize: number;
	/** Logical blocks in a physical one, as a power of two. */
	physicalBlockExp: number;
	/** Logical blocks until the first aligned one. */
	alignmentOffset: number;
	/** Logical blocks. */
	minIoSize: number;
	optIoSize: number;
	/** Whether the cache is write-back. */
	writeback: boolean;
	numQueues: number;
	/** Sectors in a segment, segments in a request, sectors. */
	maxDiscardSectors: number;
	maxDiscardSeg: number;
	discardSectorAlignment: number;
	maxWriteZeroesSectors: number;
	maxWriteZeroesSeg: number;
	/** Whether WRITE_ZEROES may deallocate. */
	writeZeroesMayUnmap: boolean;
}

/** The whole space, CONFIG_SIZE bytes. */
export function encodeBlkConfig(c: BlkConfig): Buffer {
	const space = Buffer.alloc(CONFIG_SIZE);
	space.writeBigUInt64LE(c.capacity, 0);
	space.writeUInt32LE(c.sizeMax, 8);
	space.writeUInt32LE(c.segMax, 12);
	// 16..19: geometry, which is not offered
	space.writeUInt32LE(c.blkSize, 20);
	space.writeUInt8(c.physicalBlockExp, 24);
	space.writeUInt8(c.alignmentOffset, 25);
	space.writeUInt16LE(c.minIoSize, 26);
	space.writeUInt32LE(c.optIoSize, 28);
	space.writeUInt8(c.writeback ? 1 : 0, WRITEBACK_OFFSET);
	space.writeUInt16LE(c.numQueues, 34);
	space.writeUInt32LE(c.maxDiscardSectors, 36);
	space.writeUInt32LE(c.maxDiscardSeg, 40);
	space.writeUInt32LE(c.discardSectorAlignment, 44);
	space.writeUInt32LE(c.maxWriteZeroesSectors, 48);
	space.writeUInt32LE(c.maxWriteZeroesSeg, 52);
	space.writeUInt8(c.writeZeroesMayUnmap ? 1 : 0, 56);
	return space;
}

/** The reverse, from at least CONFIG_BASE_SIZE bytes. */
export function decodeBlkConfig(space: Buffer): BlkConfig {
	return {
		capacity: space.readBigUInt64LE(0),
		sizeMax: space.readUInt32LE(8),
		segMax: space.readUInt32LE(12),
		blkSize: space.readUInt32LE(20),
		physicalBlockExp: space.readUInt8(24),
		alignmentOffset: space.readUInt8(25),
		minIoSize: space.readUInt16LE(26),
		optIoSize: space.readUInt32LE(28),
		writeback: space.readUInt8(WRITEBACK_OFFSET) !== 0,
		numQueues: space.readUInt16LE(34),
		maxDiscardSectors: space.readUInt32LE(36),
		maxDiscardSeg: space.readUInt32LE(40),
		discardSectorAlignment: space.readUInt32LE(44),
		maxWriteZeroesSectors: space.readUInt32LE(48),
		maxWriteZeroesSeg: space.readUInt32LE(52),
		writeZeroesMayUnmap: space.readUInt8(56) !== 0,
	};
}

/** length bytes of a space from offset, copied. Throws E_INVALID beyond its end. */
export function readConfigSpace(
	space: Buffer,
	offset: number,
	length: number,
): Buffer {
	if (offset + length > space.length)
		throw new VhostctlError(
			"E_INVALID",
			`configuration bytes ${offset}..${offset + length} of ${space.length}`,
		);
	return Buffer.from(space.subarray(offset, offset + length));
}

/**
 * What a driver's write means: the new value of writeback. Throws E_INVALID for
 * any other field or value.
 */
export function decodeConfigWrite(offset: number, data: Buffer): boolean {
	if (offset !== WRITEBACK_OFFSET || data.length !== 1)
		throw new VhostctlError(
			"E_INVALID",
			`configuration bytes ${offset}..${offset + data.length} are read-only`,
		);
	const value = data.readUInt8(0);
	if (value > 1)
		throw new VhostctlError("E_INVALID", `writeback ${value} is not 0 or 1`);
	return value === 1;
}
