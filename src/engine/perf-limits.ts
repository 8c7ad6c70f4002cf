// SPDX-License-Identifier: MIT
/** What a load may ask of a virtio-blk device (virtio 5.2.4). */
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

/** The device's features and configuration space. */
export interface BlkDevice {
	readonly features: bigint;
	readonly config: Buffer;
}

export interface LoadShape {
	readonly blockSize: number;
	readonly iodepth: number;
	readonly queues: number;
	readonly size?: number;
	readonly writes: boolean;
	readonly verify: boolean;
}

/**
 * Bytes of the device that the load goes over: `size`, or as many whole requests as the device
 * holds. Throws E_INVALID or E_PERMISSION with what the device at `path` can do.
 */
export function usableSize(
	path: string,
	device: BlkDevice,
	load: LoadShape,
): number {
	const invalid = (message: string) =>
		new VhostctlError("E_INVALID", `${path}: ${message}`);
	const { features, config } = device;
	const capacity = Number(config.readBigUInt64LE(CAPACITY)) * SECTOR;
	const block = features & F_BLK_SIZE ? config.readUInt32LE(BLK_SIZE) : SECTOR;
	const queues = features & F_MQ ? config.readUInt16LE(NUM_QUEUES) : 1;
	if (load.queues > queues)
		throw invalid(`${load.queues} queues: the device has ${queues}`);
	if (load.blockSize === 0 || load.blockSize % block !== 0)
		throw invalid(
			`${load.blockSize} bytes a request: not a multiple of the device's block size, ${block}`,
		);
	if (load.writes && features & F_RO)
		throw new VhostctlError("E_PERMISSION", `${path}: the device is read-only`);
	const size =
		load.size ?? Math.floor(capacity / load.blockSize) * load.blockSize;
	if (size > capacity)
		throw invalid(`size ${size}: the device has ${capacity} bytes`);
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
