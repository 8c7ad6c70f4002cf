// SPDX-License-Identifier: MIT
/** What a load may ask of a disk. */
import type { Buffer } from "node:buffer";
import { VhostctlError } from "./errors.ts";

const F_RO = 1n << 5n;
const F_BLK_SIZE = 1n << 6n;
const F_MQ = 1n << 12n;
const SECTOR = 512;

/** Offsets in struct virtio_blk_config. */
const CAPACITY = 0;
const BLK_SIZE = 20;
const NUM_QUEUES = 34;

/** The features and configuration space of a virtio-blk device (virtio 5.2.4). */
export interface BlkDevice {
	readonly features: bigint;
	readonly config: Buffer;
}

/** What a load has to know of a disk, however it is reached. */
export interface DiskShape {
	readonly bytes: number;
	/** Bytes. */
	readonly blockSize: number;
	/** Queues for requests. */
	readonly queues: number;
	readonly readonly: boolean;
	/** Bytes of the largest request, if the device tells. */
	readonly maxRequest?: number;
}

export interface LoadShape {
	readonly blockSize: number;
	readonly iodepth: number;
	readonly queues: number;
	readonly size?: number;
	readonly writes: boolean;
	readonly verify: boolean;
}

/** The shape of a virtio-blk device. */
export function blkShape({ features, config }: BlkDevice): DiskShape {
	return {
		bytes: Number(config.readBigUInt64LE(CAPACITY)) * SECTOR,
		blockSize: features & F_BLK_SIZE ? config.readUInt32LE(BLK_SIZE) : SECTOR,
		queues: features & F_MQ ? config.readUInt16LE(NUM_QUEUES) : 1,
		readonly: (features & F_RO) !== 0n,
	};
}

/**
 * Bytes of the disk that the load goes over: `size`, or as many whole requests as it holds. Throws
 * E_INVALID or E_PERMISSION with what the disk, called `name`, can do.
 */
export function usableSize(
	name: string,
	disk: DiskShape,
	load: LoadShape,
): number {
	const invalid = (message: string) =>
		new VhostctlError("E_INVALID", `${name}: ${message}`);
	if (load.queues > disk.queues)
		throw invalid(`${load.queues} queues: the device has ${disk.queues}`);
	if (load.blockSize === 0 || load.blockSize % disk.blockSize !== 0)
		throw invalid(
			`${load.blockSize} bytes a request: not a multiple of the device's block size, ${disk.blockSize}`,
		);
	if (disk.maxRequest !== undefined && load.blockSize > disk.maxRequest)
		throw invalid(
			`${load.blockSize} bytes a request: the device takes at most ${disk.maxRequest}`,
		);
	if (load.writes && disk.readonly)
		throw new VhostctlError("E_PERMISSION", `${name}: the device is read-only`);
	const size =
		load.size ?? Math.floor(disk.bytes / load.blockSize) * load.blockSize;
	if (size > disk.bytes)
		throw invalid(`size ${size}: the device has ${disk.bytes} bytes`);
	if (size === 0 || size % load.blockSize !== 0)
		throw invalid(
			`size ${size}: not a multiple of the request size, ${load.blockSize}`,
		);
	const inFlight = load.iodepth * load.queues;
	if (load.verify && size / load.blockSize < inFlight)
		throw invalid(
			`verify with ${inFlight} requests in flight needs as many blocks: size ${size} has ${size / load.blockSize}`,
		);
	return size;
}
