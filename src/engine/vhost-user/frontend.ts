// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import {
	native,
	PAGES_FALLBACK,
	PAGES_SHARED,
	type Pages,
} from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { Runtime } from "../runtime.ts";
import { CONFIG_BASE_SIZE } from "../virtio/blk-config.ts";
import { VIRTIO_BLK_F, VIRTIO_F } from "../virtio/features.ts";
import {
	decodeState,
	encodeAddress,
	encodeConfig,
	encodeFdIndex,
	encodeMemory,
	encodeState,
	encodeU64,
} from "./codec.ts";
import { type ConfigChannel, openConfigChannel } from "./config-channel.ts";
import {
	call,
	has,
	type Link,
	negotiate,
	readConfig,
	readMaxQueues,
} from "./frontend-link.ts";
import {
	BEHIND_BYTES,
	createRing,
	destroyRing,
	type FrontendRing,
	memoryBehindRings,
	resetRing,
	ringBytes,
	type SharedMemory,
} from "./frontend-rings.ts";
import { F_PROTOCOL_FEATURES, type MessageName } from "./messages.ts";
import { connectRequester, type Requester } from "./requester.ts";

export interface FrontendOptions {
	/** Rings to set up. */
	queues: number;
	/** Entries of each: a power of two. */
	queueSize: number;
	/** Bytes of shared memory wanted beside the rings. */
	memoryBytes: number;
	/** Virtio features to take if offered; default: all that are known. */
	features?: bigint;
	/** "interrupt": the device signals an eventfd; "poll": the rings are watched. */
	mode: "poll" | "interrupt";
	/** Bytes; default 2 MiB. Smaller pages are taken if there are none. */
	pageSize?: bigint;
	/**
	 * Bytes of configuration space to read at the start; default CONFIG_BASE_SIZE.
	 * With 0 the device need not show any.
	 */
	configSize?: number;
}

/** A driver's grip on a vhost-user device. Methods throw VhostctlError. */
export interface Frontend {
	/** Virtio features that the device offers. */
	readonly offered: bigint;
	/** Virtio features negotiated, bit 30 included. */
	readonly features: bigint;
	readonly protocolFeatures: bigint;
	/** Rings that the device has to give; 1 if it does not say. */
	readonly maxQueues: number;
	/** Configuration space as read at the start, configSize bytes. */
	readonly config: Buffer;
	readonly memory: SharedMemory;
	/** What to add to an address of this process to get a guest address. */
	readonly gpaDelta: bigint;
	readonly rings: readonly FrontendRing[];
	/** Resolves when the connection has ended, whoever ended it. */
	readonly closed: Promise<void>;
	readConfig(offset: number, length: number): Promise<Buffer>;
	writeConfig(offset: number, data: Uint8Array): Promise<void>;
	/** Stops a ring; resolves with its next available index. */
	stopRing(index: number): Promise<number>;
	/** Sets a stopped ring up again and starts it at that index. */
	startRing(index: number, base: number): Promise<void>;
	/** Sends the memory table again. */
	setMemTable(): Promise<void>;
	/** Resets the device and starts over with empty rings. */
	reset(): Promise<void>;
	onConfigChange(listener: () => void): void;
	/**
	 * Sends any message as its row says: resolves with the reply's payload, or when
	 * the ack came, or at once.
	 */
	request(
		name: MessageName,
		payload?: Uint8Array,
		fds?: readonly number[],
	): Promise<Buffer>;
	/** Stops the rings and the connection, and frees all. */
	close(): Promise<void>;
}

const ALL_FEATURES = [
	...Object.values(VIRTIO_F),
	...Object.values(VIRTIO_BLK_F),
].reduce((all, bit) => all | bit, 0n);

function sendMemTable(link: Link, pages: Pages): Promise<Buffer> {
	const region = {
		gpa: pages.addr,
		size: pages.size,
		userAddr: pages.addr,
		offset: 0n,
	};
	return call(link, "SET_MEM_TABLE", encodeMemory([region]), [pages.fd]);
}

async function startRing(
	link: Link,
	ring: FrontendRing,
	index: number,
	size: number,
	base: number,
): Promise<void> {
	const { desc, used, avail } = ring;
	const address = { index, flags: 0, desc, used, avail, log: 0n };
	await call(link, "SET_VRING_NUM", encodeState({ index, num: size }));
	await call(link, "SET_VRING_BASE", encodeState({ index, num: base }));
	await call(link, "SET_VRING_ADDR", encodeAddress(address));
	await call(link, "SET_VRING_CALL", encodeFdIndex(index, true), [ring.call]);
	await call(link, "SET_VRING_KICK", encodeFdIndex(index, true), [ring.kick]);
	if ((link.features & F_PROTOCOL_FEATURES) !== 0n)
		await call(link, "SET_VRING_ENABLE", encodeState({ index, num: 1 }));
}

async function stopRing(link: Link, index: number): Promise<number> {
	const state = encodeState({ index, num: 0 });
	return decodeState(await call(link, "GET_VRING_BASE", state)).num;
}

/** The device's state gone, by the strongest means that it knows. */
async function resetDevice(link: Link, queues: number): Promise<void> {
	if (has(link, "RESET_DEVICE")) await call(link, "RESET_DEVICE");
	else if (has(link, "STATUS")) await call(link, "SET_STATUS", encodeU64(0n));
	else for (let i = 0; i < queues; i++) await stopRing(link, i);
}

function allocate({ queues, queueSize, ...o }: FrontendOptions): Pages {
	const rings = BigInt(queues) * ringBytes(queueSize);
	return native.pagesAlloc({
		size: rings + BigInt(o.memoryBytes) + BEHIND_BYTES,
		pageSize: o.pageSize ?? 2n << 20n,
		flags: PAGES_SHARED | PAGES_FALLBACK,
	});
}

/** Gives the device a socket for its own requests, if it wants one. */
async function shareChannel(
	runtime: Runtime,
	link: Link,
): Promise<ConfigChannel | undefined> {
	if (!has(link, "BACKEND_REQ")) return undefined;
	const [ours, theirs] = native.socketPair();
	let channel: ConfigChannel | undefined;
	try {
		channel = openConfigChannel(runtime, ours);
		await call(link, "SET_BACKEND_REQ_FD", Buffer.alloc(0), [theirs]);
		return channel;
	} catch (error) {
		channel?.close();
		throw error;
	} finally {
		native.fdClose(ours);
		native.fdClose(theirs);
	}
}

/** What a front end holds, to be given back. */
interface Holdings {
	pages: Pages | undefined;
	changes: ConfigChannel | undefined;
	readonly rings: FrontendRing[];
}

async function release(requester: Requester, held: Holdings): Promise<void> {
	requester.close();
	await requester.closed;
	const { pages, changes } = held;
	held.pages = held.changes = undefined;
	for (const ring of held.rings.splice(0)) destroyRing(ring);
	if (pages) native.pagesFree(pages);
	changes?.close();
}

/**
 * Connects to the vhost-user socket at path, negotiates, shares memory and
 * starts the rings. Throws VhostctlError: E_CONNECT, E_NOT_FOUND, E_INVALID
 * (more queues than the device has), E_UNSUPPORTED, E_PROTOCOL, E_NO_MEMORY.
 */
export async function connectFrontend(
	runtime: Runtime,
	path: string,
	options: FrontendOptions,
): Promise<Frontend> {
	const requester = connectRequester(runtime, path);
	const held: Holdings = { pages: undefined, changes: undefined, rings: [] };
	try {
		const link = await negotiate(requester, options.features ?? ALL_FEATURES);
		const maxQueues = await readMaxQueues(link);
		if (options.queues > maxQueues)
			throw new VhostctlError(
				"E_INVALID",
				`${options.queues} queues asked for, the device has ${maxQueues}`,
			);
		const size = options.configSize ?? CONFIG_BASE_SIZE;
		const config =
			size === 0 ? Buffer.alloc(0) : await readConfig(link, 0, size);
		held.changes = await shareChannel(runtime, link);
		const pages = allocate(options);
		held.pages = pages;
		for (let i = 0; i < options.queues; i++) {
			const polled = options.mode === "poll";
			held.rings.push(
				createRing(pages, i, options.queueSize, link.features, polled),
			);
		}
		await startAll(link, held.rings, pages, options.queueSize);
		return makeFrontend(link, options, held, pages, { maxQueues, config });
	} catch (error) {
		await release(requester, held);
		const failure = fromErrno(error, "front end");
		throw new VhostctlError(failure.code, `${path}: ${failure.message}`, {
			cause: error,
		});
	}
}

async function startAll(
	link: Link,
	rings: readonly FrontendRing[],
	pages: Pages,
	size: number,
): Promise<void> {
	await call(link, "SET_FEATURES", encodeU64(link.features));
	await sendMemTable(link, pages);
	for (const [i, ring] of rings.entries())
		await startRing(link, ring, i, size, 0);
}

function makeFrontend(
	link: Link,
	{ queues, queueSize }: FrontendOptions,
	held: Holdings,
	pages: Pages,
	device: { maxQueues: number; config: Buffer },
): Frontend {
	const { requester } = link;
	const { rings, changes } = held;
	const ringAt = (index: number): FrontendRing => {
		const ring = rings[index];
		if (!ring) throw new VhostctlError("E_INVALID", `no ring ${index}`);
		return ring;
	};
	return {
		...device,
		offered: link.offered,
		features: link.features,
		protocolFeatures: link.protocolFeatures,
		memory: memoryBehindRings(pages, queues, queueSize),
		gpaDelta: 0n,
		rings,
		closed: requester.closed,
		readConfig: (offset, length) => readConfig(link, offset, length),
		async writeConfig(offset, data) {
			await call(link, "SET_CONFIG", encodeConfig(offset, data));
		},
		stopRing: (index) => stopRing(link, index),
		startRing: async (index, base) =>
			startRing(link, ringAt(index), index, queueSize, base),
		async setMemTable() {
			await sendMemTable(link, pages);
		},
		async reset() {
			await resetDevice(link, queues);
			for (const ring of rings) resetRing(ring, queueSize, link.features);
			await startAll(link, rings, pages, queueSize);
		},
		onConfigChange: (listener) => changes?.onChange(listener),
		request: (name, payload, fds) => call(link, name, payload, fds),
		async close() {
			// A device that lets go first does not see the memory's end as a fault.
			await Promise.allSettled(rings.map((_, i) => stopRing(link, i)));
			await release(requester, held);
		},
	};
}
