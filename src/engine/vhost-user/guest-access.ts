// SPDX-License-Identifier: MIT
// Guest memory by its guest-physical addresses, copied: for devices whose requests name some.
import { Buffer } from "node:buffer";
import { type Iov, native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import type { VringHost } from "./vring.ts";

/** A stretch of memory may cross as many regions as there are. */
const MAX_PIECES = 512;
/** What one copy takes. */
const MAX_BYTES = 1 << 30;

type Host = Pick<VringHost, "memory" | "features" | "log" | "unlogged">;

function pieces({ memory }: Host, gpa: bigint, length: number): Iov[] {
	const where = `${length} bytes at guest address 0x${gpa.toString(16)}`;
	if (!Number.isInteger(length) || length < 0 || length > MAX_BYTES || gpa < 0n)
		throw new VhostctlError("E_INVALID", where);
	if (length === 0) return [];
	if (!memory) throw new VhostctlError("E_INVALID", `${where}: no memory`);
	try {
		return native.memTranslate(memory.handle, gpa, BigInt(length), MAX_PIECES);
	} catch (error) {
		throw fromErrno(error, where);
	}
}

/** Throws E_INVALID for what is not wholly shared. */
export function readGuest(host: Host, gpa: bigint, length: number): Buffer {
	const parts = pieces(host, gpa, length).map(({ addr, len }) =>
		native.copyOut(addr, Number(len)),
	);
	return Buffer.concat(parts);
}

/** Writes, and marks it in the log if what is written is logged. Throws as above. */
export function writeGuest(host: Host, gpa: bigint, data: Uint8Array): void {
	let done = 0;
	for (const { addr, len } of pieces(host, gpa, data.length)) {
		native.copyIn(addr, data.subarray(done, done + Number(len)));
		done += Number(len);
	}
	const { features, log } = host;
	if ((features & VIRTIO_F.LOG_ALL) === 0n) return;
	if (log.handle === undefined) host.unlogged = true;
	else native.logMark(log.handle, gpa, BigInt(data.length));
}
