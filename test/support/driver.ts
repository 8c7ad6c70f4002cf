// SPDX-License-Identifier: MIT
// A driver of our own with a load on its rings, for tests of what happens under one.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { PERF_RW, type PerfRw } from "../../src/engine/perf.ts";
import type { Runtime } from "../../src/engine/runtime.ts";
import { allocStatsPage } from "../../src/engine/stats.ts";
import {
	ALL_FEATURES,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import type { SharedMemory } from "../../src/engine/vhost-user/frontend-memory.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import {
	LOAD_BLK,
	MODE_INTERRUPT,
	MODE_POLL,
	native,
} from "../../src/ffi/native.ts";
import { within } from "./processes.ts";

export const FORMATS = ["split", "packed"] as const;
export type Format = (typeof FORMATS)[number];

/** What a driver asks for to get rings of a format. */
export function featuresFor(format: Format): bigint {
	return format === "packed"
		? ALL_FEATURES
		: ALL_FEATURES & ~VIRTIO_F.RING_PACKED;
}

/** Fails unless the rings are of that format. */
export function expectFormat({ features }: Frontend, format: Format): void {
	const packed = (features & VIRTIO_F.RING_PACKED) !== 0n;
	assert.equal(packed ? "packed" : "split", format);
}

export interface LoadShape {
	rw: PerfRw;
	/** Bytes of the disk. */
	size: number;
	blockSize: number;
	iodepth: number;
	/** Requests; 0: until it is stopped. */
	ios: number;
	verify: boolean;
	/** Rings of the front end that it uses, from the first. */
	rings: number;
	seed?: bigint;
}

/** Bytes of the front end's memory that such a load needs. */
export function loadBytes(shape: LoadShape): number {
	const { blockSize, iodepth, rings } = shape;
	return Number(native.loadBufferBytes(LOAD_BLK, blockSize, iodepth, rings));
}

export interface Load {
	/** Requests that came back so far, and how many of them failed. */
	count(): { ios: number; errors: number };
	/** Waits until so many more have come back, or all. */
	progress(ios?: number): Promise<void>;
	/** Asks it to end; without reading back what it wrote. */
	stop(): void;
	/** Its end, within ms: fails unless every request was good and all data right. */
	succeed(ms: number): Promise<{ verified: number }>;
	/** Frees it, whatever it does. */
	release(): void;
}

const PATIENCE_MS = 30_000;

/** Starts a load on a disk. */
export function startLoad(
	runtime: Runtime,
	frontend: Frontend,
	shape: LoadShape,
): Load {
	let finished: (errno: number) => void = () => {};
	const done = new Promise<number>((resolve) => {
		finished = resolve;
	});
	const rings = frontend.rings.slice(0, shape.rings);
	const page = allocStatsPage();
	const id = runtime.registerLoad((errno) => finished(errno));
	const load = native.loadCreate(
		runtime.upcalls,
		{
			stats: page.address,
			buffers: frontend.memory.addr,
			buffers_len: frontend.memory.size,
			gpa_delta: frontend.gpaDelta,
			size: BigInt(shape.size),
			ios: BigInt(shape.ios),
			runtime_ns: shape.ios === 0 ? 3_600_000_000_000n : 0n,
			seed: shape.seed ?? 1n,
			rw: PERF_RW.indexOf(shape.rw),
			block_size: shape.blockSize,
			iodepth: shape.iodepth,
			rwmix_read: 50,
			verify: shape.verify ? 1 : 0,
			mode: rings.every(({ polled }) => polled) ? MODE_POLL : MODE_INTERRUPT,
			cpu: -1,
			device: LOAD_BLK,
			id,
		},
		rings.map(({ handle }) => handle),
	);
	const count = () => {
		const { read, write } = page.read().ops;
		return {
			ios: read.count + write.count,
			errors: read.errors + write.errors,
		};
	};
	native.loadStart(load);
	return {
		count,
		async progress(ios = 1) {
			const until = Math.min(count().ios + ios, shape.ios || Infinity);
			const moves = async () => {
				while (count().ios < until) await setImmediate();
			};
			await within(moves(), PATIENCE_MS, () => `the load goes on to ${until}`);
		},
		stop: () => native.loadStop(load),
		async succeed(ms) {
			const errno = await within(done, ms, () => "the load's end");
			assert.equal(errno, 0, "the load's status");
			assert.equal(count().errors, 0, "requests that failed");
			const { verified, verify_errors, first_bad } = native.loadResult(load);
			const bad = `blocks that differ, the first at byte ${first_bad}`;
			assert.equal(verify_errors, 0n, bad);
			return { verified: Number(verified) };
		},
		release() {
			native.loadRelease(load);
			runtime.unregisterLoad(id);
			page.free();
		},
	};
}

/**
 * Stops a ring that has nothing in flight. Fails unless the device has put back each request
 * once, and no other. Resolves with where the ring goes on.
 */
export async function stopIdle(
	frontend: Frontend,
	index: number,
): Promise<number> {
	const ring = frontend.rings[index] ?? assert.fail(`no ring ${index}`);
	const base = await frontend.stopRing(index);
	const left = native.driverRingGet(ring.handle);
	assert.equal(left, undefined, `ring ${index}: a request came back twice`);
	if (frontend.features & VIRTIO_F.RING_PACKED) {
		assert.equal(base & 0xffff, base >>> 16, `ring ${index}: taken, put back`);
		return base;
	}
	const [offered, used] = [ring.avail, ring.used].map((part) =>
		native.copyOut(part + 2n, 2).readUInt16LE(),
	);
	assert.deepEqual([base, used], [offered, offered], `ring ${index}: indices`);
	return base;
}

/* ---- Requests that overtake each other ------------------------------------------------ */

/** Bytes of requests: the small ones are long done when a large one is. */
const SIZES = [512, 512, 4096, 512, 1 << 18, 512, 65536, 512] as const;
const LARGEST = 1 << 18;
const HEADER = 16;
const DATA_AT = 4096;
const SLOT_BYTES = DATA_AT + LARGEST;
const T_IN = 0;
const T_OUT = 1;
const IN_FLIGHT = 16;

/** Bytes of shared memory, and of the disk, that startMixed needs. */
export const MIXED_MEMORY = IN_FLIGHT * SLOT_BYTES;
export const MIXED_DISK = IN_FLIGHT * LARGEST;

interface Slot {
	readonly at: bigint;
	readonly sector: number;
	/** What is on the disk, or is to be. */
	data: Buffer;
	writing: boolean;
	token: bigint | undefined;
}

/** Writes and reads back without end, of all sizes at once, on one ring. */
export interface Mixed {
	/** Requests that came back. */
	count(): number;
	/** Ends it, within ms. Throws if a request came back twice, or with an error or wrong data. */
	finish(ms: number): Promise<void>;
	/** Leaves it as it is: for a device that is not there any more. */
	abandon(): void;
}

/** offset: the first byte of the disk to use. */
export function startMixed(
	{ rings, gpaDelta }: Frontend,
	ring: number,
	memory: SharedMemory,
	offset: number,
): Mixed {
	const { handle } = rings[ring] ?? assert.fail(`no ring ${ring}`);
	const waiting = new Map<bigint, Slot>();
	let lastToken = 0n;
	let stopping = false;
	let abandoned = false;
	// The ring adds its own delta, which is not this memory's.
	const seen = (addr: bigint) => addr - memory.addr + memory.gpa - gpaDelta;

	const offer = (slot: Slot): void => {
		const { at, data, writing } = slot;
		const header = Buffer.alloc(HEADER);
		header.writeUInt32LE(writing ? T_OUT : T_IN, 0);
		header.writeBigUInt64LE(BigInt(slot.sector), 8);
		native.copyIn(at, header);
		native.copyIn(at + BigInt(HEADER), Buffer.from([0xee]));
		const filled = writing ? data : Buffer.alloc(data.length, 0xee);
		native.copyIn(at + BigInt(DATA_AT), filled);
		const out = [{ addr: seen(at), len: BigInt(HEADER) }];
		const buffer = {
			addr: seen(at + BigInt(DATA_AT)),
			len: BigInt(data.length),
		};
		const status = { addr: seen(at + BigInt(HEADER)), len: 1n };
		slot.token = ++lastToken;
		waiting.set(slot.token, slot);
		if (writing)
			native.driverRingAdd(handle, [...out, buffer], [status], slot.token);
		else native.driverRingAdd(handle, out, [buffer, status], slot.token);
	};
	const next = (slot: Slot): void => {
		slot.writing = !slot.writing;
		if (slot.writing) {
			const size = SIZES[Number(lastToken) % SIZES.length] ?? LARGEST;
			slot.data = Buffer.alloc(size, `${slot.token} `);
		}
		offer(slot);
	};
	const check = ({ at, data, writing }: Slot): void => {
		assert.equal(native.copyOut(at + BigInt(HEADER), 1)[0], 0, "status");
		if (writing) return;
		const read = native.copyOut(at + BigInt(DATA_AT), data.length);
		assert(read.equals(data), `wrong data: ${read.subarray(0, 32)}`);
	};
	const reap = (): void => {
		let used = native.driverRingGet(handle);
		for (; used !== undefined; used = native.driverRingGet(handle)) {
			const slot = waiting.get(used.token);
			assert(slot, `request ${used.token} came back twice`);
			waiting.delete(used.token);
			check(slot);
			if (!stopping) next(slot);
		}
		native.driverRingKick(handle);
	};
	const run = async (): Promise<void> => {
		for (let i = 0; i < IN_FLIGHT; i++)
			next({
				at: memory.addr + BigInt(i * SLOT_BYTES),
				sector: (offset + i * LARGEST) / 512,
				data: Buffer.alloc(0),
				writing: false,
				token: BigInt(i),
			});
		native.driverRingKick(handle);
		while (waiting.size > 0 && !abandoned) {
			reap();
			await setImmediate();
		}
	};
	const ended = run();
	ended.catch(() => {}); // finish() tells
	return {
		count: () => Number(lastToken) - waiting.size,
		async finish(ms) {
			stopping = true;
			await within(ended, ms, () => `${waiting.size} requests come back`);
		},
		abandon() {
			abandoned = true;
		},
	};
}
