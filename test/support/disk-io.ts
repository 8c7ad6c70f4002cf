// SPDX-License-Identifier: MIT
// Single requests to a virtio-blk device, through the driver side of a ring.
import { Buffer } from "node:buffer";
import type { Frontend } from "../../src/engine/vhost-user/frontend.ts";
import { native } from "../../src/ffi/native.ts";
import { waitUntil } from "./processes.ts";

/** Types and results of requests (virtio 5.2.6). */
export const T_IN = 0;
export const T_OUT = 1;
export const T_FLUSH = 4;
export const T_GET_ID = 8;
export const T_DISCARD = 11;
export const T_WRITE_ZEROES = 13;
export const S_OK = 0;
export const S_IOERR = 1;
export const S_UNSUPP = 2;

const HEADER = 16;
const NOT_WRITTEN = 0xff;
const IN_TIME = 10_000;

export interface DiskAnswer {
	/** S_OK, S_IOERR or S_UNSUPP. */
	status: number;
	data: Buffer;
}

/**
 * Sends a request and waits for its end. `data` is what the device is to read,
 * or how many bytes it is to write. Requests to one frontend are made one at a
 * time: they share its memory.
 */
export async function request(
	frontend: Frontend,
	type: number,
	sector: number,
	data: Uint8Array | number = 0,
	ring = 0,
): Promise<DiskAnswer> {
	const handle = frontend.rings[ring]?.handle;
	if (handle === undefined) throw new Error(`no ring ${ring}`);
	const length = typeof data === "number" ? data : data.length;
	const { addr } = frontend.memory;
	const header = Buffer.alloc(HEADER);
	header.writeUInt32LE(type, 0);
	header.writeBigUInt64LE(BigInt(sector), 8);
	const statusAt = addr + BigInt(HEADER);
	const dataAt = addr + 4096n;
	native.copyIn(addr, header);
	native.copyIn(statusAt, Buffer.of(NOT_WRITTEN));
	if (typeof data !== "number") native.copyIn(dataAt, data);
	const body = { addr: dataAt, len: BigInt(length) };
	const out = [{ addr, len: BigInt(HEADER) }];
	const into = [{ addr: statusAt, len: 1n }];
	if (length > 0 && typeof data === "number") into.unshift(body);
	else if (length > 0) out.push(body);
	native.driverRingAdd(handle, out, into, 1n);
	native.driverRingKick(handle);
	await waitUntil(
		() => native.driverRingGet(handle) !== undefined,
		IN_TIME,
		() => `the end of request ${type} at sector ${sector}`,
	);
	const status = native.copyOut(statusAt, 1).readUInt8();
	return { status, data: native.copyOut(dataAt, length) };
}
