// SPDX-License-Identifier: MIT
// Requests of any shape to any device, through the driver side of a ring.
import { Buffer } from "node:buffer";
import type { Frontend } from "../../src/engine/vhost-user/frontend.ts";
import { type Iov, native } from "../../src/ffi/native.ts";
import { waitUntil } from "./processes.ts";

const IN_TIME = 10_000;
/** Of memory, for each request that is under way. */
const SLOT_BYTES = 65536n;
/** What the device did not write is still that. */
const UNTOUCHED = 0xee;

/** A request that was offered to the device. */
export interface Offered {
	/** Bytes that the used ring says were written, and the writable part whole; once it is used. */
	used(): Promise<{ written: number; data: Buffer }>;
	/** Whether it has ended. */
	ended(): boolean;
}

/** Requests to the rings of a front end; at most 8 at a time. */
export interface RingIo {
	/**
	 * Offers a chain: pieces for the device to read, and how long the pieces are that
	 * it may write. Together at most 64 KiB.
	 */
	offer(
		out: readonly Uint8Array[],
		into: readonly number[],
		ring?: number,
	): Offered;
	/** The same, to its end. */
	exchange(
		out: readonly Uint8Array[],
		into: readonly number[],
		ring?: number,
	): Promise<{ written: number; data: Buffer }>;
}

export function makeRingIo(frontend: Frontend): RingIo {
	const { addr } = frontend.memory;
	const ends = new Map<bigint, number>();
	let last = 0n;

	const collect = (handle: bigint): void => {
		for (;;) {
			const end = native.driverRingGet(handle);
			if (!end) return;
			ends.set(end.token, end.len);
		}
	};
	const offer: RingIo["offer"] = (out, into, ring = 0) => {
		const handle = frontend.rings[ring]?.handle;
		if (handle === undefined) throw new Error(`no ring ${ring}`);
		const token = ++last;
		let next = addr + (token % 8n) * SLOT_BYTES;
		const place = (bytes: Uint8Array): Iov => {
			const iov = { addr: next, len: BigInt(bytes.length) };
			native.copyIn(next, bytes);
			next += iov.len;
			return iov;
		};
		const outs = out.map(place);
		const inStart = next;
		const ins = into.map((length) => place(Buffer.alloc(length, UNTOUCHED)));
		const inBytes = Number(next - inStart);
		native.driverRingAdd(handle, outs, ins, token);
		native.driverRingKick(handle);
		const ended = () => {
			collect(handle);
			return ends.has(token);
		};
		return {
			ended,
			async used() {
				await waitUntil(ended, IN_TIME, () => `the end of request ${token}`);
				const written = ends.get(token) ?? Number.NaN;
				return { written, data: native.copyOut(inStart, inBytes) };
			},
		};
	};
	return { offer, exchange: (...request) => offer(...request).used() };
}
