// SPDX-License-Identifier: MIT
// Requests of the control queue (virtio 5.6.6.2).
import { Buffer } from "node:buffer";
import type { ScsiResponse } from "./scsi-codes.ts";

const TYPE_TMF = 0;
const TYPE_AN_QUERY = 1;
const TYPE_AN_SUBSCRIBE = 2;
const TMF_BYTES = 24;
const TMF_RESPONSE_BYTES = 1;
const AN_BYTES = 16;
const AN_RESPONSE_BYTES = 5;

/** The device-readable part of the longest request. */
export const MAX_CONTROL_BYTES = TMF_BYTES;

export type ControlRequest =
	| {
			readonly kind: "tmf";
			readonly subtype: number;
			/** Eight bytes. */
			readonly lun: Buffer;
			/** The command that it is about, where it is about one. */
			readonly tag: bigint;
	  }
	| {
			/** AN_QUERY or AN_SUBSCRIBE: they are answered alike. */
			readonly kind: "notifications";
			readonly lun: Buffer;
			readonly requested: number;
	  };

/**
 * Reads a request: what the device may read of it, and how many bytes it may
 * write. Undefined: one that cannot be answered, for it is of no known type, cut
 * short, or has no room for its response.
 */
export function decodeControl(
	out: Buffer,
	room: number,
): ControlRequest | undefined {
	if (out.length < 4) return undefined;
	const type = out.readUInt32LE(0);
	if (type === TYPE_TMF) {
		if (out.length < TMF_BYTES || room < TMF_RESPONSE_BYTES) return undefined;
		return {
			kind: "tmf",
			subtype: out.readUInt32LE(4),
			lun: Buffer.from(out.subarray(8, 16)),
			tag: out.readBigUInt64LE(16),
		};
	}
	if (type !== TYPE_AN_QUERY && type !== TYPE_AN_SUBSCRIBE) return undefined;
	if (out.length < AN_BYTES || room < AN_RESPONSE_BYTES) return undefined;
	return {
		kind: "notifications",
		lun: Buffer.from(out.subarray(4, 12)),
		requested: out.readUInt32LE(12),
	};
}

export function encodeTmfResponse(response: ScsiResponse): Buffer {
	return Buffer.of(response);
}

/** events: the mask of those that the device can report. */
export function encodeNotificationsResponse(
	events: number,
	response: ScsiResponse,
): Buffer {
	const out = Buffer.alloc(AN_RESPONSE_BYTES);
	out.writeUInt32LE(events, 0);
	out[4] = response;
	return out;
}
