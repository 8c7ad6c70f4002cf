// SPDX-License-Identifier: MIT
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import type { BackendParts } from "./bdev/backend.ts";
import { type BdevRegistry, createRegistry } from "./bdev/registry.ts";
import { type BlkController, createBlkController } from "./blk-controller.ts";
import { makeDevice } from "./custom/device.ts";
import type { Device, DeviceOptions } from "./custom/types.ts";
import {
	type Controller,
	type EngineInternals,
	rememberInternals,
} from "./engine-internals.ts";
import type {
	BlkControllerRequest,
	ControllerOptions,
	EngineOptions,
	ScsiControllerRequest,
	ScsiLunRequest,
} from "./engine-options.ts";
import { fromErrno, VhostctlError } from "./errors.ts";
import { type Logger, silent } from "./log.ts";
import { createNotifications, type Notifications } from "./notifications.ts";
import { createReactors, type Reactor, selectReactors } from "./reactors.ts";
import { createRuntime } from "./runtime.ts";
import {
	createServed,
	type Servable,
	type Served,
	type ServedSet,
} from "./served.ts";
import {
	createScsiController,
	type ScsiController,
} from "./virtio-scsi/controller.ts";
import { openStore } from "./virtio-scsi/store.ts";

export type { Backend, BackendKind } from "./bdev/backend.ts";
export type { Bdev } from "./bdev/bdev.ts";
export type { Latencies, Latency } from "./bdev/delay.ts";
export { isDelay, LATENCIES } from "./bdev/delay.ts";
export type { ErrorKind, ErrorRule, Operation } from "./bdev/error.ts";
export { ERROR_OPERATIONS, isError, showRule } from "./bdev/error.ts";
export type { FileOptions } from "./bdev/file.ts";
export type { MallocOptions, PageSize } from "./bdev/malloc.ts";
export type { NullOptions } from "./bdev/null.ts";
export { isLimited, type QosLimits } from "./bdev/qos.ts";
export type { BdevRegistry, Identity } from "./bdev/registry.ts";
export type { BlkController } from "./blk-controller.ts";
export type { Coalescing } from "./coalescing.ts";
export { allowedCpus, formatCpumask, parseCpumask } from "./cpumask.ts";
export type {
	Device,
	DeviceChange,
	DeviceConfig,
	DeviceConnection,
	DeviceHandlers,
	DeviceOptions,
	DeviceRequest,
} from "./custom/types.ts";
export type { Controller } from "./engine-internals.ts";
export type {
	BlkControllerRequest,
	ControllerOptions,
	EngineOptions,
	ScsiControllerRequest,
	ScsiLunRequest,
} from "./engine-options.ts";
export { ERRORS, type ErrorCode, VhostctlError } from "./errors.ts";
export { type HugepagePool, hugepagePools } from "./hugepages.ts";
export type { LogFields, Logger, LogLevel } from "./log.ts";
export {
	createLogger,
	flushLog,
	type LineLogger,
	type LoggerOptions,
} from "./log-control.ts";
export type { LogFormat } from "./log-format.ts";
export type {
	Notification,
	Notifications,
	NotificationType,
} from "./notifications.ts";
export type { Reactor, ReactorMode, ReactorStats } from "./reactors.ts";
export {
	bucketHigh,
	bucketLow,
	OPS,
	type Op,
	type OpStats,
	percentiles,
	type Stats,
} from "./stats.ts";
export {
	type EndedTrace,
	MAX_TRACE,
	type Trace,
	type TracedCommand,
	type TracedRequest,
	type Traces,
} from "./trace.ts";
export type {
	DeviceAnswer,
	DeviceMessage,
	MemoryInfo,
	RingInfo,
	Session,
} from "./vhost-user/device.ts";
export type { MessageFds } from "./vhost-user/fds.ts";
export type {
	ScsiController,
	ScsiLunInfo,
	ScsiTargetInfo,
} from "./virtio-scsi/controller.ts";

/**
 * Block devices, and controllers that serve them to virtual machines. All calls
 * are to be made from the thread that started the engine.
 */
export interface Engine {
	readonly bdevs: BdevRegistry;
	readonly reactors: readonly Reactor[];
	/** Absolute. */
	readonly socketDir: string;
	readonly log: Logger;
	/** What happened to bdevs. */
	readonly notifications: Notifications;
	/** Time since it started. */
	uptimeNs(): number;
	/**
	 * Serves a bdev at socketDir/name, or at a front end's socket. A stale socket there is replaced. Throws
	 * E_INVALID (name, processors), E_EXISTS (name), E_NOT_FOUND (bdev), E_BUSY
	 * (bdev claimed, a process listens there).
	 */
	createBlkController(request: BlkControllerRequest): Promise<BlkController>;
	/**
	 * Makes a SCSI controller without targets at socketDir/name. Throws E_INVALID
	 * (name, processors), E_EXISTS (name), E_BUSY (a process listens there).
	 */
	createScsiController(request: ScsiControllerRequest): Promise<ScsiController>;
	/**
	 * Serves a device of the program's own at socketDir/name, or at a front end's socket.
	 * Throws E_INVALID (an option), E_EXISTS (name), E_BUSY (a process listens there).
	 */
	createDevice(options: DeviceOptions): Promise<Device>;
	/**
	 * Lets front ends connect to a controller made with delay. Throws E_NOT_FOUND,
	 * E_EXISTS (it is started), E_BUSY (a process listens there).
	 */
	startController(name: string): Promise<void>;
	/**
	 * Puts a bdev in a SCSI controller; guests are told. Returns the target's
	 * number. Throws E_NOT_FOUND, E_INVALID (numbers, a blk controller), E_EXISTS
	 * (there is one), E_BUSY (no target free, bdev claimed).
	 */
	addScsiLun(request: ScsiLunRequest): Promise<number>;
	/**
	 * Takes a LUN, or a target with all it has, out of a SCSI controller; guests are
	 * told. Resolves when its I/O has ended. Throws E_NOT_FOUND, E_INVALID.
	 */
	removeScsiLun(name: string, target: number, lun?: number): Promise<void>;
	/** All, or the one of that name. Throws E_NOT_FOUND. */
	controllers(name?: string): Controller[];
	/** What a controller was made with. */
	optionsOf(controller: Controller): ControllerOptions;
	/** The path of a controller's socket, its own or the one that it connects to. */
	socketPath(name: string): string;
	/**
	 * Removes a controller and its socket. One that listens and has front ends
	 * connected is given a second for them to go. Throws E_NOT_FOUND, E_BUSY.
	 */
	deleteController(name: string): Promise<void>;
	/** Ends connections, stops the rings and gives everything back. Idempotent. */
	close(): Promise<void>;
}

function makeSocketDir(path: string): string {
	const socketDir = resolve(path);
	try {
		mkdirSync(socketDir, { recursive: true, mode: 0o700 });
		return socketDir;
	} catch (error) {
		throw fromErrno(error, `socket directory ${socketDir}`);
	}
}

/** What a predecessor leaves to an engine. */
export interface Inheritance {
	/** Controllers that it still serves (see ServedOptions). */
	readonly awaited: ReadonlySet<string>;
	/** By name (see createRegistry). */
	readonly bdevs: ReadonlyMap<string, BackendParts>;
}

/** Starts an engine: its threads run when this resolves. Throws E_INVALID, E_NO_MEMORY. */
export async function startEngine(
	options: EngineOptions,
	inherited?: Inheritance,
): Promise<Engine> {
	const log = options.log ?? silent;
	const socketDir = makeSocketDir(options.socketDir);
	const { stateDir, cpus, mode = "adaptive" } = options;
	const runtime = createRuntime();
	let reactors: Reactor[];
	try {
		reactors = createReactors(runtime.upcalls, cpus, mode);
	} catch (error) {
		await runtime.close();
		throw error;
	}
	const notifications = createNotifications();
	return createEngine({
		options,
		socketDir,
		runtime,
		reactors,
		bdevs: createRegistry(
			log,
			inherited?.bdevs,
			notifications,
			reactors.map(({ id }) => id),
		),
		notifications,
		served: createServed({
			runtime,
			socketDir,
			log,
			awaited: inherited?.awaited,
		}),
		devices: createServed({ runtime, socketDir, log }),
		store: stateDir === undefined ? undefined : openStore(resolve(stateDir)),
		log,
	});
}

/** Names of SCSI controllers only. */
function asScsi({ device }: Served<Controller>): ScsiController {
	if (device.kind === "scsi") return device;
	throw new VhostctlError(
		"E_INVALID",
		`controller ${device.name} is a blk controller`,
	);
}

function createEngine(internals: EngineInternals): Engine {
	const { options, runtime, reactors, bdevs, store, log } = internals;
	const { served, devices } = internals;
	const made = new WeakMap<Controller, ControllerOptions>();
	const started = performance.now();
	let closing: Promise<void> | undefined;

	/** What controllers of both kinds are made with. */
	const common = (request: ControllerOptions) => {
		const { name, cpus, packed, iommu, inband } = request;
		const { postcopy } = options;
		const features = { packed, iommu, inband, postcopy };
		return {
			name,
			reactors: selectReactors(reactors, cpus),
			log,
			...features,
		};
	};
	const checkFree = (name: string, others: ServedSet<Servable>): void => {
		if (others.list().some(({ device }) => device.name === name))
			throw new VhostctlError(
				"E_EXISTS",
				`there is a controller ${name} already`,
			);
	};
	const add = <C extends Controller>(
		request: ControllerOptions & { delay?: boolean | undefined },
		make: () => C,
	): C => {
		checkFree(request.name, devices);
		const controller = served.add(request.name, make, request);
		made.set(controller, request);
		return controller;
	};
	const closeAll = async () => {
		await Promise.all([served.close(), devices.close()]);
		await bdevs.close();
		for (const reactor of reactors) reactor.release();
		await runtime.close();
	};

	const engine: Engine = {
		bdevs,
		reactors,
		socketDir: internals.socketDir,
		log,
		notifications: internals.notifications,
		uptimeNs: () => Math.round((performance.now() - started) * 1e6),
		createBlkController: async (request) =>
			add(request, () =>
				createBlkController({
					...common(request),
					bdev: bdevs.get(request.bdev),
					readonly: request.readonly ?? false,
				}),
			),
		createScsiController: async (request) =>
			add(request, () =>
				createScsiController({ ...common(request), runtime, store }),
			),
		async createDevice(request) {
			checkFree(request.name, served);
			return makeDevice(devices, request, common(request));
		},
		startController: async (name) => served.start(name),
		addScsiLun: async ({ name, target, lun = 0, bdev }) =>
			asScsi(served.get(name)).addLun(target, lun, bdevs.get(bdev)),
		removeScsiLun: async (name, target, lun) =>
			asScsi(served.get(name)).removeLun(target, lun),
		controllers: (name) =>
			(name === undefined ? served.list() : [served.get(name)]).map(
				({ device }) => device,
			),
		optionsOf(controller) {
			const options = made.get(controller);
			if (options) return options;
			throw new Error("a controller of another engine");
		},
		socketPath: (name) => served.socketPath(name),
		deleteController: (name) => served.remove(name),
		close() {
			closing ??= closeAll();
			return closing;
		},
	};
	rememberInternals(engine, internals);
	return engine;
}
