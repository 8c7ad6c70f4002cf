// SPDX-License-Identifier: MIT
// The upcall ring as its reader sees it: what C tells, in order.
import { Buffer } from "node:buffer";
import { Socket } from "node:net";
import { setImmediate } from "node:timers";
import { LAYOUTS, UPCALL_SLOTS } from "../ffi/layout.ts";
import { native } from "../ffi/native.ts";
import type { Delivery } from "./transport.ts";

const SLOT = LAYOUTS.vhc_upcall;

/** struct vhc_upcall without its data. */
export interface Upcall {
	type: number;
	id: number;
	status: number;
	arg: bigint;
}

export interface UpcallReader {
	/** Of the ring, for its writers. */
	readonly handle: bigint;
	/** Routes whatever has been written so far. Not to be called by a route. */
	flush(): void;
	/** Routes the rest, and frees the ring. Its writers must be gone. */
	close(): Promise<void>;
}

/** Makes an upcall ring and reads it: `route` gets each upcall, on the event loop. Throws NativeError. */
export function readUpcalls(
	route: (upcall: Upcall, delivery: Delivery) => void,
): UpcallReader {
	const { handle, slots, fd } = native.upcallsCreate();
	// Upcall slots are never unmapped, so the view is safe to keep.
	const ring = native.pointer(slots, UPCALL_SLOTS * SLOT.size);
	let cursor = 0;
	let consumed = 0;
	let draining = false;
	let closed = false;

	/** Routes what is ready, at most a ring full. False: nothing is. */
	const drainBatch = (): boolean => {
		const ready = native.upcallsAdvance(handle, consumed);
		consumed = 0;
		for (; consumed < ready; consumed++) {
			const start = cursor * SLOT.size;
			cursor = (cursor + 1) % UPCALL_SLOTS;
			try {
				route(readUpcall(ring, start), readDelivery(ring, start));
			} catch (error) {
				// A defect in a handler: reported as uncaught, with the ring kept in step.
				queueMicrotask(() => {
					throw error;
				});
			}
		}
		return ready > 0;
	};
	/** The rest of the program has its turn after each batch: a guest may send without end. */
	const drain = (): void => {
		if (draining || closed) return;
		draining = drainBatch();
		if (draining)
			setImmediate(() => {
				draining = false;
				drain();
			});
	};

	const pipe = new Socket({ fd, readable: true, writable: false });
	pipe.on("data", drain);
	drain();
	return {
		handle,
		flush() {
			if (closed) return;
			drainBatch();
			drain();
		},
		async close() {
			closed = true;
			while (drainBatch());
			await new Promise<void>((resolve) => {
				pipe.once("close", () => resolve());
				pipe.destroy();
			});
			native.upcallsRelease(handle);
		},
	};
}

function readUpcall(ring: Buffer, start: number): Upcall {
	const { offsets } = SLOT;
	return {
		type: ring.readUInt32LE(start + offsets.type),
		id: ring.readUInt32LE(start + offsets.id),
		status: ring.readInt32LE(start + offsets.status),
		arg: ring.readBigUInt64LE(start + offsets.arg),
	};
}

/** Copies the message out of its slot, which C will use again. */
function readDelivery(ring: Buffer, start: number): Delivery {
	const { offsets } = SLOT;
	const len = ring.readUInt32LE(start + offsets.len);
	const count = ring.readUInt32LE(start + offsets.num_fds);
	const data = start + offsets.data;
	return {
		data: Buffer.from(ring.subarray(data, data + len)),
		fds: Array.from({ length: count }, (_, i) =>
			ring.readInt32LE(start + offsets.fds + 4 * i),
		),
	};
}
