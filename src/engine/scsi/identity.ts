// SPDX-License-Identifier: MIT
// Names of logical units, target ports and targets: the same after every restart,
// since they are made of nothing but the UUID of the disk and the name of the target.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Host, Identity } from "./task.ts";

/** Where a designator belongs (SPC-4 7.8.6.1). */
export const ASSOCIATION = { LUN: 0, PORT: 1, TARGET: 2 } as const;
type Association = (typeof ASSOCIATION)[keyof typeof ASSOCIATION];

const CODE_SET = { BINARY: 1, ASCII: 2, UTF8: 3 } as const;

const TYPE = {
	T10_VENDOR: 1,
	NAA: 3,
	RELATIVE_PORT: 4,
	PORT_GROUP: 5,
	SCSI_NAME: 8,
	UUID: 0xa,
} as const;

/** The one target port group. */
export const TARGET_PORT_GROUP = 1;

/** Eight bytes, NAA 3h (locally assigned), that are always the same for the same text. */
export function naaOf(text: string): Buffer {
	const naa = createHash("sha256").update(text).digest().subarray(0, 8);
	naa[0] = 0x30 | ((naa[0] ?? 0) & 0x0f);
	return naa;
}

/** The NAA designator of a logical unit. */
export function lunNaa(identity: Identity): Buffer {
	return naaOf(identity.uuid.toLowerCase());
}

/** The NAA designator of a target port. */
export function portNaa(host: Host, port: number): Buffer {
	return naaOf(`${host.targetNaa.toString("hex")} port ${port}`);
}

/** The UUID designator of a logical unit, 18 bytes; undefined if the UUID is none. */
export function uuidDesignator(identity: Identity): Buffer | undefined {
	const uuid = Buffer.from(identity.uuid.replaceAll("-", ""), "hex");
	if (uuid.length !== 16) return undefined;
	return Buffer.concat([Buffer.from([0x10, 0x00]), uuid]);
}

/** Left-aligned ASCII (SPC-4 4.4.1); what is not printable becomes a question mark. */
export function ascii(text: string, length: number): Buffer {
	const clean = text.replace(/[^\x20-\x7e]/g, "?");
	return Buffer.from(clean.slice(0, length).padEnd(length), "latin1");
}

/** A designation descriptor (SPC-4 7.8.6.1). */
function designation(
	association: Association,
	codeSet: number,
	type: number,
	designator: Buffer,
): Buffer {
	const header = [codeSet, (association << 4) | type, 0, designator.length];
	return Buffer.concat([Buffer.from(header), designator]);
}

/** A SCSI name string: null-terminated, its length a multiple of four. */
function scsiName(naa: Buffer): Buffer {
	const text = `naa.${naa.toString("hex").toUpperCase()}`;
	const out = Buffer.alloc(Math.ceil((text.length + 1) / 4) * 4);
	out.write(text, "latin1");
	return out;
}

function uint32(value: number): Buffer {
	const out = Buffer.alloc(4);
	out.writeUInt32BE(value, 0);
	return out;
}

/** Designators of a logical unit, the one that initiators should prefer first. */
export function lunDesignations(identity: Identity): Buffer {
	const { LUN } = ASSOCIATION;
	const naa = lunNaa(identity);
	const uuid = uuidDesignator(identity);
	const t10 = Buffer.concat([
		ascii(identity.vendor, 8),
		ascii(identity.product, 16),
		ascii(identity.serial, Math.min(32, identity.serial.length)),
	]);
	const all = [
		designation(LUN, CODE_SET.BINARY, TYPE.NAA, naa),
		designation(LUN, CODE_SET.ASCII, TYPE.T10_VENDOR, t10),
		designation(LUN, CODE_SET.UTF8, TYPE.SCSI_NAME, scsiName(naa)),
	];
	if (uuid) all.push(designation(LUN, CODE_SET.BINARY, TYPE.UUID, uuid));
	return Buffer.concat(all);
}

/** What names a target port to those who look for the same port elsewhere. */
export function portNameDesignation(host: Host, port: number): Buffer {
	const { PORT } = ASSOCIATION;
	return designation(PORT, CODE_SET.BINARY, TYPE.NAA, portNaa(host, port));
}

/** Designators of the target port that a command came through. */
export function portDesignations(host: Host, port: number): Buffer {
	const { PORT } = ASSOCIATION;
	const { BINARY } = CODE_SET;
	return Buffer.concat([
		portNameDesignation(host, port),
		designation(PORT, BINARY, TYPE.RELATIVE_PORT, uint32(port)),
		designation(PORT, BINARY, TYPE.PORT_GROUP, uint32(TARGET_PORT_GROUP)),
	]);
}

/** Designators of the target device. */
export function targetDesignations(host: Host): Buffer {
	const { TARGET } = ASSOCIATION;
	return Buffer.concat([
		designation(TARGET, CODE_SET.BINARY, TYPE.NAA, host.targetNaa),
		designation(
			TARGET,
			CODE_SET.UTF8,
			TYPE.SCSI_NAME,
			scsiName(host.targetNaa),
		),
	]);
}
