// SPDX-License-Identifier: MIT
// Who a bdev is when nobody said: the same after every restart.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { VhostctlError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import type { Inquiry } from "./bdev.ts";

/** A random UUID that names the names below. */
const NAMESPACE = Buffer.from("6f1c7a52b6f94e0c9d0e3a8f5b7d2c41", "hex");
const VENDOR = "VHOSTCTL";
const LIMITS = { vendor: 8, product: 16, serial: 32 } as const;

/** How a bdev is to be known. */
export interface Identity {
	/** Unique among names and UUIDs. */
	name: string;
	/** Default: made of the kind, the name and the file, the same after every restart. */
	uuid?: string | undefined;
	/** ASCII, up to 8 bytes; default: VHOSTCTL. */
	vendor?: string | undefined;
	/** ASCII, up to 16 bytes; default: the backend's product name. */
	product?: string | undefined;
	/** ASCII, up to 32 bytes; default: the bdev's name. */
	serial?: string | undefined;
}

/** A UUID made of a name (RFC 9562, version 5). */
function uuid5(name: string): string {
	const hash = createHash("sha1").update(NAMESPACE).update(name).digest();
	const bytes = hash.subarray(0, 16);
	bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x50;
	bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
	return bytes
		.toString("hex")
		.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function defaultUuid(name: string, backend: Backend): string {
	return uuid5([backend.kind, name, backend.path ?? ""].join("\0"));
}

/** Printable ASCII of a text, cut to a length. */
function asciiOf(text: string, length: number): string {
	return text.replace(/[^\x20-\x7e]/g, "?").slice(0, length);
}

/** Throws E_INVALID. */
export function checkInquiry(identity: Partial<Identity>): void {
	for (const [key, length] of Object.entries(LIMITS)) {
		const value = identity[key as keyof typeof LIMITS];
		if (value !== undefined && value !== asciiOf(value, length))
			throw new VhostctlError(
				"E_INVALID",
				`${key} '${value}': must be up to ${length} printable ASCII characters`,
			);
	}
}

/** What SCSI guests are to see. */
export function inquiryOf(
	name: string,
	identity: Partial<Identity>,
	backend: Backend,
): Inquiry {
	return {
		vendor: identity.vendor ?? VENDOR,
		product: identity.product ?? asciiOf(backend.productName, LIMITS.product),
		serial: identity.serial ?? asciiOf(name, LIMITS.serial),
	};
}
