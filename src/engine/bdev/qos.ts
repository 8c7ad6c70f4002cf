// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";

/** What all who use a bdev may do with it in a second, together; 0: as much as they can. */
export interface QosLimits {
	/** Reads and writes. */
	readonly ios: number;
	/** Bytes read and written. */
	readonly bytes: number;
	readonly readBytes: number;
	readonly writeBytes: number;
}

export const UNLIMITED: QosLimits = {
	ios: 0,
	bytes: 0,
	readBytes: 0,
	writeBytes: 0,
};

/** Most that a limit can be. */
export const MAX_LIMIT = 2 ** 50;

export function isLimited(limits: QosLimits): boolean {
	return Object.values(limits).some((limit) => limit > 0);
}

/** For people. */
export function describeLimits(limits: QosLimits): string {
	const { ios, bytes, readBytes, writeBytes } = limits;
	const of = (limit: number, what: string) =>
		limit > 0 ? [`${limit} ${what} a second`] : [];
	const all = [
		...of(ios, "reads and writes"),
		...of(bytes, "bytes read and written"),
		...of(readBytes, "bytes read"),
		...of(writeBytes, "bytes written"),
	];
	return all.length > 0 ? `at most ${all.join(", ")}` : "no limits";
}

/** Has C keep to limits, for `bdev` a struct vhc_bdev *. Throws E_INVALID (more than MAX_LIMIT), E_NO_MEMORY. */
export function applyLimits(bdev: bigint, limits: QosLimits): void {
	try {
		native.bdevSetQos(bdev, {
			ios: BigInt(limits.ios),
			bytes: BigInt(limits.bytes),
			read_bytes: BigInt(limits.readBytes),
			write_bytes: BigInt(limits.writeBytes),
		});
	} catch (error) {
		throw fromErrno(error, "cannot set limits");
	}
}
