// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { native, type Pages } from "../../ffi/native.ts";
import { closeFd } from "./fds.ts";

const RING_ALIGN = 4096n;

/** A ring of the front end's: the driver's side of it, and its place. */
export interface FrontendRing {
	/** struct vhc_driver_ring *; another after a reset. */
	handle: bigint;
	/** Address of its struct vhc_stats. */
	readonly stats: bigint;
	/** Addresses in this process. */
	readonly desc: bigint;
	readonly avail: bigint;
	readonly used: bigint;
	readonly bytes: number;
	kick: number;
	/** Also of a polled ring: libvhost-user gives up on a ring without one. */
	call: number;
	readonly polled: boolean;
}

/** Memory left for the rings' user: shared with the device. */
export interface SharedMemory {
	readonly addr: bigint;
	/** Bytes. */
	readonly size: bigint;
}

function roundUp(value: bigint): bigint {
	return ((value + RING_ALIGN - 1n) / RING_ALIGN) * RING_ALIGN;
}

/**
 * As in a machine, whose memory does not end with its buffers: devices look up the last bytes of
 * a region with more care than the rest (ours the last 64 KiB).
 */
export const BEHIND_BYTES = 65536n;

/** Bytes that a ring takes at the start of the shared memory. */
export function ringBytes(size: number): bigint {
	return roundUp(native.driverRingLayout(size).bytes);
}

/** What follows the rings, up to BEHIND_BYTES before the end. */
export function memoryBehindRings(
	pages: Pages,
	queues: number,
	size: number,
): SharedMemory {
	const taken = BigInt(queues) * ringBytes(size);
	return {
		addr: pages.addr + taken,
		size: pages.size - taken - BEHIND_BYTES,
	};
}

/** Makes ring number index at its place in the pages. Throws NativeError. */
export function createRing(
	pages: Pages,
	index: number,
	size: number,
	features: bigint,
	polled: boolean,
): FrontendRing {
	const layout = native.driverRingLayout(size);
	const desc = pages.addr + BigInt(index) * ringBytes(size);
	const ring: FrontendRing = {
		handle: 0n,
		stats: native.statsAlloc(),
		desc,
		avail: desc + layout.avail,
		used: desc + layout.used,
		bytes: Number(layout.bytes),
		kick: -1,
		call: -1,
		polled,
	};
	try {
		ring.kick = native.eventfd();
		ring.call = native.eventfd();
		ring.handle = createHandle(ring, size, features);
		return ring;
	} catch (error) {
		destroyRing(ring);
		throw error;
	}
}

function createHandle(
	ring: FrontendRing,
	size: number,
	features: bigint,
): bigint {
	return native.driverRingCreate({
		addr: ring.desc,
		features,
		stats: ring.stats,
		size,
		kick_fd: ring.kick,
		call_fd: ring.polled ? -1 : ring.call,
	});
}

/** Back to an empty ring; the device must not be using it. */
export function resetRing(
	ring: FrontendRing,
	size: number,
	features: bigint,
): void {
	native.driverRingRelease(ring.handle);
	ring.handle = 0n;
	native.copyIn(ring.desc, Buffer.alloc(ring.bytes));
	ring.handle = createHandle(ring, size, features);
}

export function destroyRing(ring: FrontendRing): void {
	if (ring.handle !== 0n) native.driverRingRelease(ring.handle);
	native.statsFree(ring.stats);
	closeFd(ring.kick);
	closeFd(ring.call);
}
