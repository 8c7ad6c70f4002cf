// SPDX-License-Identifier: MIT
// A vhost-user device whose requests a program answers: all its rings are raw ones.
import { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { fromErrno, messageOf, VhostctlError } from "../errors.ts";
import { bind, type Logger } from "../log.ts";
import { leastLoaded, type Reactor } from "../reactors.ts";
import type { Servable, ServedSet } from "../served.ts";
import { allocStatsPage, type StatsPage } from "../stats.ts";
import type { RunningRing, Session } from "../vhost-user/device.ts";
import {
	describeRequest,
	MAX_CONFIG,
	PROTOCOL_FEATURES,
} from "../vhost-user/messages.ts";
import {
	type Offers,
	protocolFeatures,
	ringFeatures,
} from "../vhost-user/offers.ts";
import { runningRing } from "../vhost-user/running-ring.ts";
import { readConfigSpace } from "../virtio/blk-config.ts";
import { makeRequest, type OwnRequest } from "./request.ts";
import type {
	Device,
	DeviceChange,
	DeviceConfig,
	DeviceOptions,
} from "./types.ts";

const MAX_QUEUES = 256;
/** Those that are the transport's, of which the library decides (virtio 2.2). */
const TRANSPORT_BITS = ((1n << 26n) - 1n) << 24n;
const ALL_BITS = (1n << 64n) - 1n;

/** Messages that change what a connection shows. */
const CHANGES: ReadonlyMap<string, DeviceChange> = new Map([
	["SET_FEATURES", "features"],
	["SET_PROTOCOL_FEATURES", "protocolFeatures"],
	["SET_STATUS", "status"],
	["SET_MEM_TABLE", "memory"],
	["ADD_MEM_REG", "memory"],
	["REM_MEM_REG", "memory"],
]);

/** What the engine has of a device: the rest is the vhost-user session's. */
export interface CustomController extends Servable {
	ringStats(session: Session, index: number): StatsPage | undefined;
	/** Tells all front ends. */
	changed(): Promise<void>;
}

/** What a device is made with, beside what the program says of it. */
export interface Surroundings extends Offers {
	/** At least one. */
	readonly reactors: readonly Reactor[];
	readonly log: Logger;
}

/** What a connection has of ours. */
interface Attached {
	/** By ring. */
	readonly pages: Map<number, StatsPage>;
	readonly running: Map<number, Reactor>;
	/** In the program's hands. */
	readonly requests: Set<OwnRequest>;
	/** Nobody waits for its requests: the driver resets the device, or the front end has gone. */
	deserted: boolean;
}

function checkBits(what: string, bits: bigint, forbidden: bigint): void {
	if (bits < 0n || bits > ALL_BITS || (bits & forbidden) !== 0n)
		throw new VhostctlError("E_INVALID", `${what} 0x${bits.toString(16)}`);
}

function checkOptions({ queues = 1, ...options }: DeviceOptions): void {
	if (!Number.isInteger(queues) || queues < 1 || queues > MAX_QUEUES)
		throw new VhostctlError("E_INVALID", `${queues} queues: 1..${MAX_QUEUES}`);
	checkBits("features", options.features ?? 0n, TRANSPORT_BITS);
	checkBits("protocol features", options.protocolFeatures ?? 0n, 0n);
	if (options.config instanceof Uint8Array) checkedSpace(options.config);
}

/** Of the protocol: what needs something of the program is offered if there is that. */
function offeredProtocol(device: DeviceOptions, offers: Offers): bigint {
	const { CONFIG, DEVICE_STATE } = PROTOCOL_FEATURES;
	const without =
		(device.config === undefined ? CONFIG : 0n) |
		(device.saveState && device.loadState ? 0n : DEVICE_STATE);
	const own = device.protocolFeatures ?? 0n;
	return (protocolFeatures(offers) & ~without) | own;
}

function configOf({ config }: DeviceOptions): DeviceConfig {
	if (config === undefined) return { read: () => Buffer.alloc(0) };
	if (!(config instanceof Uint8Array)) return config;
	const space = Buffer.from(config);
	return { read: () => space };
}

function checkedSpace(space: Uint8Array): Buffer {
	if (space.length > MAX_CONFIG)
		throw new VhostctlError(
			"E_INVALID",
			`a configuration space of ${space.length} bytes`,
		);
	return Buffer.from(space);
}

/** Makes a device. Its socket is the caller's to make. Throws E_INVALID. */
function createCustomController(
	device: DeviceOptions,
	{ reactors, log: ours, ...offers }: Surroundings,
): CustomController {
	checkOptions(device);
	const { name, queues = 1 } = device;
	const log = bind(ours, { controller: name });
	const config = configOf(device);
	const sessions = new Map<Session, Attached>();

	const complain = (what: string) => (error: unknown) =>
		log.error(`${what}: ${messageOf(error)}`, { kind: "handler" });
	/** Calls the program, whose errors are only logged. */
	const tell = (what: string, call: () => void): void => {
		try {
			call();
		} catch (error) {
			complain(what)(error);
		}
	};
	const found = (session: Session): Attached => {
		const ours = sessions.get(session);
		if (ours) return ours;
		throw new Error("a session that is not attached");
	};
	const abandonAll = ({ requests }: Attached): void => {
		for (const request of requests) request.abandon();
	};
	/** A request that the program did not take well ends as it is. */
	const give = (request: OwnRequest): void => {
		const failed = (error: unknown) => {
			complain("onRequest")(error);
			if (!request.completed) request.complete(0);
		};
		try {
			Promise.resolve(device.onRequest(request)).catch(failed);
		} catch (error) {
			failed(error);
		}
	};
	const onRequest = (
		session: Session,
		index: number,
		handle: bigint,
		info: Buffer,
	): void => {
		const ours = found(session);
		const request = makeRequest(session, index, handle, info, () =>
			ours.requests.delete(request),
		);
		ours.requests.add(request);
		if (ours.deserted) request.abandon();
		else give(request);
	};
	const start = (
		session: Session,
		index: number,
		ring: bigint,
		node: number,
	): Reactor => {
		const reactor = leastLoaded(reactors, node);
		native.reactorStartRawRing(reactor.handle, ring);
		reactor.rings++;
		found(session).running.set(index, reactor);
		tell("onQueueStart", () => device.onQueueStart?.(session, index));
		return reactor;
	};

	return {
		name,
		started: false,
		features: ringFeatures(offers) | (device.features ?? 0n),
		protocolFeatures: offeredProtocol(device, offers),
		maxQueues: queues,
		get sessions() {
			return [...sessions.keys()];
		},

		readConfig: (offset, length, session) =>
			readConfigSpace(checkedSpace(config.read(session)), offset, length),
		writeConfig(offset, data, session) {
			if (!config.write)
				throw new VhostctlError("E_INVALID", "the space is read-only");
			config.write(offset, data, session);
		},

		attach(session) {
			sessions.set(session, {
				pages: new Map(),
				running: new Map(),
				requests: new Set(),
				deserted: false,
			});
			log.info("connected", { session: session.id, kind: "connected" });
			tell("onConnect", () => device.onConnect?.(session));
		},
		detach(session) {
			const { pages } = found(session);
			tell("onDisconnect", () => device.onDisconnect?.(session));
			sessions.delete(session);
			for (const page of pages.values()) page.free();
			log.info("ended", { session: session.id, kind: "ended" });
		},
		abandoned(session) {
			const ours = found(session);
			ours.deserted = true;
			abandonAll(ours);
		},
		reset(session) {
			found(session).deserted = false;
			tell("onReset", () => device.onReset?.(session));
		},

		requestHandlers: (session, index) => ({
			onRequest: (handle, info) => onRequest(session, index, handle, info),
		}),
		async startRing(session, index, ring, node): Promise<RunningRing> {
			try {
				return runningRing(start(session, index, ring, node), ring);
			} catch (error) {
				throw fromErrno(error, `device ${name}: ring ${index}`);
			}
		},
		ringStopped(session, index) {
			const { running } = found(session);
			const reactor = running.get(index);
			if (!reactor) return;
			running.delete(index);
			reactor.rings--;
			tell("onQueueStop", () => device.onQueueStop?.(session, index));
		},
		statsPage(session, index) {
			const { pages } = found(session);
			const page = pages.get(index) ?? allocStatsPage();
			pages.set(index, page);
			return page.address;
		},
		ringStats: (session, index) => sessions.get(session)?.pages.get(index),

		exportState: (session) => device.saveState?.(session) ?? Buffer.alloc(0),
		importState: (session, state) => device.loadState?.(session, state),
		handleMessage: async (session, message) =>
			device.onMessage?.(session, message),
		messageHandled(session, message, ok) {
			const change = CHANGES.get(describeRequest(message.request));
			if (ok && change)
				tell("onChange", () => device.onChange?.(session, change));
			tell("onMessageHandled", () =>
				device.onMessageHandled?.(session, message, ok),
			);
		},
		log,

		async changed() {
			await Promise.allSettled(
				[...sessions.keys()].map((session) => session.configChanged()),
			);
		},
		async close() {
			await Promise.all([...sessions.keys()].map((session) => session.close()));
		},
	};
}

/** Makes a device and puts it behind its socket. Throws what ServedSet.add does. */
export function makeDevice(
	served: ServedSet<CustomController>,
	options: DeviceOptions,
	surroundings: Surroundings,
): Device {
	const { name } = options;
	const controller = served.add(
		name,
		() => createCustomController(options, surroundings),
		options,
	);
	let closing: Promise<void> | undefined;
	return {
		name,
		path: served.socketPath(name),
		features: controller.features,
		protocolFeatures: controller.protocolFeatures,
		queues: controller.maxQueues,
		get connections() {
			return controller.sessions;
		},
		configChanged: () => controller.changed(),
		stats(connection, queue) {
			const session = controller.sessions.find((each) => each === connection);
			return session && controller.ringStats(session, queue)?.read();
		},
		close() {
			closing ??= served.remove(name, true);
			return closing;
		},
	};
}
