// SPDX-License-Identifier: MIT
// What goes along with a session of a SCSI controller: to another process, and to another host.
import { Buffer } from "node:buffer";
import { VhostctlError } from "../errors.ts";
import { ASC, type Asc } from "../scsi/sense.ts";
import {
	DEFAULT_SIZES,
	decodeScsiConfigWrite,
	type ScsiSizes,
	SIZES_OFFSET,
} from "../virtio/scsi-config.ts";
import type { ScsiLun } from "./lun.ts";
import type { ScsiSession } from "./session.ts";

/** For a process that takes over the connection; JSON. */
export interface ScsiSessionImage {
	readonly slot: number;
	readonly sizes: ScsiSizes;
	/** An event found no ring to go in. */
	readonly missed: boolean;
	/** Unit attentions that are pending, by VHC_LUN_ADDRESS. */
	readonly attentions: readonly (readonly [number, readonly Asc[]])[];
}

export function sessionImage(
	{ slot, sizes, missed, nexus }: ScsiSession,
	units: readonly ScsiLun[],
): ScsiSessionImage {
	return {
		slot,
		sizes,
		missed,
		attentions: units.map(({ address, unit }) => [
			address,
			unit.attentions.list(nexus),
		]),
	};
}

const KNOWN: readonly number[] = Object.values(ASC);

function isAsc(value: unknown): value is Asc {
	return typeof value === "number" && KNOWN.includes(value);
}

function isAttentions(value: unknown): value is [number, Asc[]] {
	if (!Array.isArray(value)) return false;
	const [address, conditions]: unknown[] = value;
	return (
		typeof address === "number" &&
		Array.isArray(conditions) &&
		conditions.every(isAsc)
	);
}

function isImage(value: unknown): value is ScsiSessionImage {
	if (typeof value !== "object" || value === null) return false;
	const { slot, sizes, missed, attentions } = value as Partial<
		Record<string, unknown>
	>;
	const { senseSize, cdbSize } = (sizes ?? {}) as Partial<
		Record<string, unknown>
	>;
	return (
		Number.isInteger(slot) &&
		typeof senseSize === "number" &&
		typeof cdbSize === "number" &&
		typeof missed === "boolean" &&
		Array.isArray(attentions) &&
		attentions.every(isAttentions)
	);
}

/** Throws E_INVALID for what is no image of a session. */
export function readSessionImage(value: unknown): ScsiSessionImage {
	if (isImage(value)) return value;
	throw new VhostctlError("E_INVALID", "not the image of a SCSI session");
}

/** Makes a fresh session, and what logical units know of its nexus, what the image says. */
export function restoreSession(
	session: ScsiSession,
	image: ScsiSessionImage,
	units: readonly ScsiLun[],
): void {
	session.sizes = image.sizes;
	session.missed = image.missed;
	const pending = new Map(image.attentions);
	for (const { address, unit } of units) {
		const known = pending.get(address);
		// One that came meanwhile is as new to the initiator as it is to a new one.
		if (!known) unit.nexusCame(session.nexus);
		for (const asc of known ?? [])
			unit.attentions.establish(asc, [session.nexus]);
	}
}

const STATE_VERSION = 1;

/** For the host that a guest migrates to: what its driver wrote to the configuration space. */
export function encodeScsiState({ senseSize, cdbSize }: ScsiSizes): Buffer {
	const state = Buffer.alloc(12);
	state.writeUInt32LE(STATE_VERSION, 0);
	state.writeUInt32LE(senseSize, 4);
	state.writeUInt32LE(cdbSize, 8);
	return state;
}

/** Throws E_INVALID. */
export function decodeScsiState(state: Buffer): ScsiSizes {
	if (state.length !== 12 || state.readUInt32LE(0) !== STATE_VERSION)
		throw new VhostctlError("E_INVALID", "not the state of a SCSI host device");
	return decodeScsiConfigWrite(DEFAULT_SIZES, SIZES_OFFSET, state.subarray(4));
}
