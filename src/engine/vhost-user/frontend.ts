// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { Runtime } from "../runtime.ts";
import { CONFIG_BASE_SIZE } from "../virtio/blk-config.ts";
import { VIRTIO_BLK_F, VIRTIO_F } from "../virtio/features.ts";
import { encodeConfig } from "./codec.ts";
import {
	addRegion,
	type HeldDevice,
	hangUp,
	releaseDevice,
	removeRegion,
	resetDevice,
	resumeDevice,
	shareChannel,
	startDevice,
	startLog,
	startRing,
	stopLog,
	stopRing,
	takeDirtyPages,
	trackInflight,
} from "./frontend-device.ts";
import {
	call,
	type Link,
	negotiate,
	readConfig,
	readMaxQueues,
} from "./frontend-link.ts";
import {
	allocateRegion,
	type GuestMemory,
	readMaxRegions,
	type SharedMemory,
	sendTable,
} from "./frontend-memory.ts";
import {
	BEHIND_BYTES,
	createRing,
	type FrontendRing,
	memoryBehindRings,
	type RingShape,
	ringBytes,
} from "./frontend-rings.ts";
import type { MessageName } from "./messages.ts";
import { connectRequester, type Requester } from "./requester.ts";

export interface FrontendOptions {
	/** Rings to set up. */
	queues: number;
	/** Entries of each: a power of two; of packed rings, any number. */
	queueSize: number;
	/** Bytes of shared memory wanted beside the rings. */
	memoryBytes: number;
	/**
	 * Virtio features to take if offered; default: all that are known. With RING_PACKED among
	 * those negotiated the rings are packed.
	 */
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
	/**
	 * Has the device keep what it works on in memory that outlives it, so that the front end
	 * can reconnect(); default: false.
	 */
	inflight?: boolean;
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
	/** All that is shared: rings, memory, and what was added. */
	readonly regions: readonly SharedMemory[];
	/** What to add to an address in `memory` or of a ring to get a guest address. */
	readonly gpaDelta: bigint;
	/** Memory regions that the device takes at the same time. */
	readonly maxRegions: number;
	readonly rings: readonly FrontendRing[];
	/** Resolves when the connection that there is has ended, whoever ended it. */
	readonly closed: Promise<void>;
	readConfig(offset: number, length: number): Promise<Buffer>;
	writeConfig(offset: number, data: Uint8Array): Promise<void>;
	/** Stops a ring; resolves with where it goes on (VHC_RING_BASE). */
	stopRing(index: number): Promise<number>;
	/** Sets a stopped ring up again and has it go on there. */
	startRing(index: number, base: number): Promise<void>;
	/** Sends the memory table again. */
	setMemTable(): Promise<void>;
	/** Shares more memory, rings running or not. Throws E_INVALID (maxRegions), E_NO_MEMORY. */
	addMemory(bytes: number): Promise<SharedMemory>;
	/** Takes memory that was added back, and frees it. No request may be using it. */
	removeMemory(memory: SharedMemory): Promise<void>;
	/** Has the device mark the pages that it writes. Throws E_UNSUPPORTED. */
	startLogging(): Promise<void>;
	/**
	 * The numbers (guest address divided by 4096) of the pages that the device has written since
	 * the last call, in order.
	 */
	takeDirty(): number[];
	/** Ends the marking; resolves with a last takeDirty(). */
	stopLogging(): Promise<number[]>;
	/** Resets the device and starts over with empty rings. */
	reset(): Promise<void>;
	/**
	 * After the connection ended: has a device that listens at the same path go on with memory
	 * and rings as they are. Throws E_UNSUPPORTED (`inflight` was not asked for, or a feature is
	 * missing now), and what connectFrontend throws; then it may be tried again.
	 */
	reconnect(): Promise<void>;
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

/** Virtio features that a driver of block devices can be asked to take. */
export const ALL_FEATURES = [
	...Object.values(VIRTIO_F),
	...Object.values(VIRTIO_BLK_F),
].reduce((all, bit) => all | bit, 0n);

const HUGE_PAGE = 2n << 20n;

/** Bytes for rings and memory, in one region. */
function regionBytes(options: FrontendOptions, shape: RingShape): bigint {
	const rings = BigInt(options.queues) * ringBytes(shape);
	return rings + BigInt(options.memoryBytes) + BEHIND_BYTES;
}

function readFirstConfig(
	link: Link,
	{ configSize = CONFIG_BASE_SIZE }: FrontendOptions,
): Promise<Buffer> {
	if (configSize === 0) return Promise.resolve(Buffer.alloc(0));
	return readConfig(link, 0, configSize);
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
	try {
		return await openFrontend(runtime, path, requester, options);
	} catch (error) {
		await hangUp(requester);
		throw nameError(path, error);
	}
}

function nameError(path: string, error: unknown): VhostctlError {
	const { code, message } = fromErrno(error, "front end");
	const text = message.startsWith(path) ? message : `${path}: ${message}`;
	return new VhostctlError(code, text, { cause: error });
}

async function openFrontend(
	runtime: Runtime,
	path: string,
	requester: Requester,
	options: FrontendOptions,
): Promise<Frontend> {
	const link = await negotiate(requester, options.features ?? ALL_FEATURES);
	const maxQueues = await readMaxQueues(link);
	if (options.queues > maxQueues)
		throw new VhostctlError(
			"E_INVALID",
			`${options.queues} queues asked for, the device has ${maxQueues}`,
		);
	const config = await readFirstConfig(link, options);
	const maxRegions = await readMaxRegions(link);
	const listeners: (() => void)[] = [];
	const device = await holdDevice(runtime, path, link, options, {
		maxRegions,
		onConfigChange: () => {
			for (const listener of listeners) listener();
		},
	});
	try {
		if (options.inflight) await trackInflight(device);
		await startDevice(device);
		return makeFrontend(device, options, { maxQueues, config, listeners });
	} catch (error) {
		await releaseDevice(device);
		throw error;
	}
}

/** Makes memory and rings, and the channel. */
async function holdDevice(
	runtime: Runtime,
	path: string,
	link: Link,
	options: FrontendOptions,
	rest: Pick<HeldDevice, "maxRegions" | "onConfigChange">,
): Promise<HeldDevice> {
	const { queues, queueSize: size, mode } = options;
	const shape = { size, features: link.features, polled: mode === "poll" };
	const bytes = regionBytes(options, shape);
	const memory: GuestMemory = { regions: [] };
	const region = allocateRegion(memory, bytes, options.pageSize ?? HUGE_PAGE);
	const device: HeldDevice = {
		...{ runtime, path, link, channel: undefined, memory, region, shape },
		...{ rings: [], inflight: undefined, log: undefined, dirty: [] },
		...rest,
	};
	try {
		for (let i = 0; i < queues; i++)
			device.rings.push(createRing(region, i, shape));
		device.channel = await shareChannel(runtime, link, rest.onConfigChange);
		return device;
	} catch (error) {
		await releaseDevice(device);
		throw error;
	}
}

interface Known {
	maxQueues: number;
	config: Buffer;
	/** Hear of changes of the configuration. */
	listeners: (() => void)[];
}

function makeFrontend(
	device: HeldDevice,
	{ queues, pageSize = HUGE_PAGE }: FrontendOptions,
	{ maxQueues, config, listeners }: Known,
): Frontend {
	const { memory, region, rings, shape, maxRegions } = device;
	const ringAt = (index: number): FrontendRing => {
		const ring = rings[index];
		if (!ring) throw new VhostctlError("E_INVALID", `no ring ${index}`);
		return ring;
	};
	const regionAt = ({ gpa }: SharedMemory) => {
		const found = memory.regions.find((each) => each.gpa === gpa);
		if (!found) throw new VhostctlError("E_INVALID", "no such memory");
		return found;
	};
	return {
		...{ maxQueues, config, maxRegions, rings, regions: memory.regions },
		get offered() {
			return device.link.offered;
		},
		features: device.link.features,
		protocolFeatures: device.link.protocolFeatures,
		memory: memoryBehindRings(region, queues, shape),
		gpaDelta: region.gpa - region.addr,
		get closed() {
			return device.link.requester.closed;
		},
		readConfig: (offset, length) => readConfig(device.link, offset, length),
		async writeConfig(offset, data) {
			await call(device.link, "SET_CONFIG", encodeConfig(offset, data));
		},
		stopRing: (index) => stopRing(device.link, index),
		startRing: async (index, base) =>
			startRing(device, ringAt(index), index, base),
		setMemTable: () => sendTable(device.link, memory),
		addMemory: (bytes) => addRegion(device, BigInt(bytes), pageSize),
		removeMemory: async (which) => removeRegion(device, regionAt(which)),
		startLogging: () => startLog(device),
		takeDirty: () => takeDirtyPages(device),
		stopLogging: () => stopLog(device),
		reset: () => resetDevice(device),
		reconnect: () =>
			resumeDevice(device).catch((error) => {
				throw nameError(device.path, error);
			}),
		onConfigChange: (listener) => void listeners.push(listener),
		request: (name, payload, fds) => call(device.link, name, payload, fds),
		async close() {
			// A device that lets go first does not see the memory's end as a fault.
			const { link } = device;
			await Promise.allSettled(rings.map((_, i) => stopRing(link, i)));
			await releaseDevice(device);
		},
	};
}
