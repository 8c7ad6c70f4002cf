// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";

export const MAX_TARGET = 255;
export const MAX_LUN = 255;

/** What the eight LUN bytes of a request name (virtio 5.6.6.1). */
export type ScsiAddress =
	| { readonly kind: "unit"; readonly target: number; readonly lun: number }
	/** The REPORT LUNS well known logical unit. */
	| { readonly kind: "report-luns" }
	/** Nothing that a device has. */
	| { readonly kind: "invalid" };

const LENGTH = 8;
const SINGLE_LEVEL = 0x01;
const WELL_KNOWN = 0xc1;
const REPORT_LUNS = 0x01;
/** Methods in the two highest bits of a LUN (SAM-5 4.7.5). */
const PERIPHERAL = 0;
const FLAT = 1;
const INVALID: ScsiAddress = { kind: "invalid" };

/**
 * Reads a request's LUN bytes: 01h, the target, a single level LUN with peripheral
 * (00h, lun) or flat space addressing (40h and 14 bits), four zero bytes. A LUN
 * may come out greater than MAX_LUN: it is one that is not there.
 */
export function decodeAddress(bytes: Uint8Array): ScsiAddress {
	const [format = 0, target = 0, high = 0, low = 0] = bytes;
	if (bytes.length !== LENGTH || bytes.subarray(4).some((byte) => byte !== 0))
		return INVALID;
	if (format === WELL_KNOWN && target === REPORT_LUNS)
		return high === 0 && low === 0 ? { kind: "report-luns" } : INVALID;
	if (format !== SINGLE_LEVEL) return INVALID;
	const method = high >> 6;
	const bus = high & 0x3f;
	if (method === FLAT) return { kind: "unit", target, lun: (bus << 8) | low };
	// A bus identifier other than 0 is another level of the hierarchy.
	if (method === PERIPHERAL && bus === 0)
		return { kind: "unit", target, lun: low };
	return INVALID;
}

/**
 * The LUN bytes that name a logical unit, with peripheral addressing up to 255:
 * Linux takes a LUN in an event as it stands, so it must be what REPORT LUNS says.
 */
export function encodeAddress(target: number, lun: number): Buffer {
	const high = lun > 255 ? (FLAT << 6) | (lun >> 8) : 0;
	return Buffer.from([SINGLE_LEVEL, target, high, lun & 0xff, 0, 0, 0, 0]);
}
