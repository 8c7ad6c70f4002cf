// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { VhostctlError } from "../errors.ts";
import { CONFIG_SIZE } from "./blk-config.ts";
import { MAX_LUN, MAX_TARGET } from "./scsi-address.ts";

/** Bytes of struct virtio_scsi_config. */
export const SCSI_CONFIG_BYTES = 36;
/** Bytes of an event (virtio 5.6.6.3). */
export const EVENT_BYTES = 16;
/** What a driver finds and gets back by a reset (virtio 5.6.4). */
export const DEFAULT_SIZES: ScsiSizes = { senseSize: 96, cdbSize: 32 };

const SENSE_SIZE_OFFSET = 20;
/** The two fields that a driver may write lie together. */
export const SIZES_OFFSET = SENSE_SIZE_OFFSET;
const CDB_SIZE_OFFSET = 24;
/** Largest sense data (SPC-4 4.5.1), smallest and largest CDB (SPC-4 4.2.1). */
const MAX_SENSE_SIZE = 252;
const MIN_CDB_SIZE = 6;
const MAX_CDB_SIZE = 260;
/** 4 MiB in sectors of 512 bytes. */
const MAX_SECTORS = 8192;
/** Two less than the smallest ring in use, 128: a request fits it without indirection. */
const SEG_MAX = 126;
const CMD_PER_LUN = 128;

/** The two fields that a driver may write. Bytes. */
export interface ScsiSizes {
	/** 0..252. */
	readonly senseSize: number;
	/** 6..260. */
	readonly cdbSize: number;
}

/** The configuration space (virtio 5.6.4), CONFIG_SIZE bytes: zeros follow the last field. */
export function encodeScsiConfig(queues: number, sizes: ScsiSizes): Buffer {
	const space = Buffer.alloc(CONFIG_SIZE);
	const words = [
		queues,
		SEG_MAX,
		MAX_SECTORS,
		CMD_PER_LUN,
		EVENT_BYTES,
		sizes.senseSize,
		sizes.cdbSize,
	];
	for (const [i, word] of words.entries()) space.writeUInt32LE(word, 4 * i);
	// 28: max_channel, 0
	space.writeUInt16LE(MAX_TARGET, 30);
	space.writeUInt32LE(MAX_LUN, 32);
	return space;
}

function inBounds(value: number, low: number, high: number, name: string) {
	if (value >= low && value <= high) return value;
	throw new VhostctlError(
		"E_INVALID",
		`${name} ${value} is not ${low} to ${high}`,
	);
}

/**
 * What a driver's write makes of the sizes: one of the two fields or both, whole.
 * Throws E_INVALID for any other field or a value out of bounds.
 */
export function decodeScsiConfigWrite(
	sizes: ScsiSizes,
	offset: number,
	data: Buffer,
): ScsiSizes {
	const end = offset + data.length;
	const senseSize = offset === SENSE_SIZE_OFFSET;
	const cdbSize = end === CDB_SIZE_OFFSET + 4;
	const whole =
		(senseSize && (data.length === 4 || cdbSize)) ||
		(cdbSize && data.length === 4);
	if (!whole)
		throw new VhostctlError(
			"E_INVALID",
			`configuration bytes ${offset}..${end} are read-only`,
		);
	return {
		senseSize: senseSize
			? inBounds(data.readUInt32LE(0), 0, MAX_SENSE_SIZE, "sense_size")
			: sizes.senseSize,
		cdbSize: cdbSize
			? inBounds(
					data.readUInt32LE(data.length - 4),
					MIN_CDB_SIZE,
					MAX_CDB_SIZE,
					"cdb_size",
				)
			: sizes.cdbSize,
	};
}
