// SPDX-License-Identifier: MIT
// What the event queue tells (virtio 5.6.6.3).
import { Buffer } from "node:buffer";
import { encodeAddress } from "./scsi-address.ts";
import { EVENT_BYTES } from "./scsi-config.ts";

const T_NO_EVENT = 0;
const T_TRANSPORT_RESET = 1;
const T_PARAM_CHANGE = 3;
const EVENTS_MISSED = 0x80000000;
const RESET_RESCAN = 1;
const RESET_REMOVED = 2;

export type ScsiEvent =
	/** A logical unit is there that was not. */
	| { readonly kind: "added"; readonly target: number; readonly lun: number }
	| { readonly kind: "removed"; readonly target: number; readonly lun: number }
	/** A parameter changed; asc: ASC in the high byte, ASCQ in the low one. */
	| {
			readonly kind: "changed";
			readonly target: number;
			readonly lun: number;
			readonly asc: number;
	  }
	/** Events were lost: the driver had better look for itself. */
	| { readonly kind: "missed" };

function pack(event: number, lun: Buffer, reason: number): Buffer {
	const out = Buffer.alloc(EVENT_BYTES);
	out.writeUInt32LE(event, 0);
	lun.copy(out, 4);
	out.writeUInt32LE(reason, 12);
	return out;
}

/** struct virtio_scsi_event. */
export function encodeEvent(event: ScsiEvent): Buffer {
	if (event.kind === "missed")
		return pack((T_NO_EVENT | EVENTS_MISSED) >>> 0, Buffer.alloc(8), 0);
	const lun = encodeAddress(event.target, event.lun);
	if (event.kind === "added") return pack(T_TRANSPORT_RESET, lun, RESET_RESCAN);
	if (event.kind === "removed")
		return pack(T_TRANSPORT_RESET, lun, RESET_REMOVED);
	// ASC in bits 0 to 7, ASCQ in bits 8 to 15.
	const reason = (event.asc >> 8) | ((event.asc & 0xff) << 8);
	return pack(T_PARAM_CHANGE, lun, reason);
}
