// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { native, RING_BASE_PACKED } from "../../ffi/native.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import { closeFd } from "./fds.ts";
import type { Region, SharedMemory } from "./frontend-memory.ts";

export type { SharedMemory };

const RING_ALIGN = 4096n;

/** A ring of the front end's: the driver's side of it, and its place. */
export interface FrontendRing {
	/** struct vhc_driver_ring *; another after a reset. */
	handle: bigint;
	/** Address of its struct vhc_stats. */
	readonly stats: bigint;
	/**
	 * Addresses in this process. Of a packed ring `avail` and `used` are the driver's and the
	 * device's event suppression structures.
	 */
	readonly desc: bigint;
	readonly avail: bigint;
	readonly used: bigint;
	readonly bytes: number;
	/** Where the device was told to go on when it last started, as SET_VRING_BASE has it. */
	base: number;
	kick: number;
	/** Also of a polled ring: libvhost-user gives up on a ring without one. */
	call: number;
	readonly polled: boolean;
}

/** What all rings of a front end have in common. */
export interface RingShape {
	/** Entries: a power of two; of packed rings, any number. */
	readonly size: number;
	/** Virtio features negotiated. */
	readonly features: bigint;
	readonly polled: boolean;
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
export function ringBytes({ size, features }: RingShape): bigint {
	return roundUp(native.driverRingLayout(size, features).bytes);
}

/** What follows the rings, up to BEHIND_BYTES before the end. */
export function memoryBehindRings(
	region: Region,
	queues: number,
	shape: RingShape,
): SharedMemory {
	const taken = BigInt(queues) * ringBytes(shape);
	return {
		addr: region.addr + taken,
		size: region.size - taken - BEHIND_BYTES,
		gpa: region.gpa + taken,
	};
}

export function isPacked(features: bigint): boolean {
	return (features & VIRTIO_F.RING_PACKED) !== 0n;
}

/** Where an empty ring begins. */
export function firstBase(features: bigint): number {
	return isPacked(features) ? RING_BASE_PACKED : 0;
}

/**
 * Where a device goes on whose predecessor died. A split ring tells how far that one came; of a
 * packed ring the in-flight buffer knows better than what is said here.
 */
export function baseAfterCrash(ring: FrontendRing, features: bigint): number {
	const usedIndex = ring.used + 2n;
	return isPacked(features)
		? ring.base
		: native.copyOut(usedIndex, 2).readUInt16LE();
}

/** Makes ring number index at its place in the region. Throws NativeError. */
export function createRing(
	region: Region,
	index: number,
	shape: RingShape,
): FrontendRing {
	const layout = native.driverRingLayout(shape.size, shape.features);
	const desc = region.addr + BigInt(index) * ringBytes(shape);
	const ring: FrontendRing = {
		handle: 0n,
		stats: native.statsAlloc(),
		desc,
		avail: desc + layout.avail,
		used: desc + layout.used,
		bytes: Number(layout.bytes),
		base: firstBase(shape.features),
		kick: -1,
		call: -1,
		polled: shape.polled,
	};
	try {
		ring.kick = native.eventfd();
		ring.call = native.eventfd();
		ring.handle = createHandle(ring, region, shape);
		return ring;
	} catch (error) {
		destroyRing(ring);
		throw error;
	}
}

function createHandle(
	ring: FrontendRing,
	region: Region,
	{ size, features }: RingShape,
): bigint {
	return native.driverRingCreate({
		addr: ring.desc,
		features,
		stats: ring.stats,
		gpa_delta: region.gpa - region.addr,
		size,
		kick_fd: ring.kick,
		call_fd: ring.polled ? -1 : ring.call,
	});
}

/** Back to an empty ring; the device must not be using it. */
export function resetRing(
	ring: FrontendRing,
	region: Region,
	shape: RingShape,
): void {
	native.driverRingRelease(ring.handle);
	ring.handle = 0n;
	native.copyIn(ring.desc, Buffer.alloc(ring.bytes));
	ring.handle = createHandle(ring, region, shape);
	ring.base = firstBase(shape.features);
}

export function destroyRing(ring: FrontendRing): void {
	if (ring.handle !== 0n) native.driverRingRelease(ring.handle);
	native.statsFree(ring.stats);
	closeFd(ring.kick);
	closeFd(ring.call);
}
