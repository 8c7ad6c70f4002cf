// SPDX-License-Identifier: MIT
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BdevRegistry, createRegistry } from "./bdev/registry.ts";
import { type BlkController, createBlkController } from "./blk-controller.ts";
import { fromErrno, VhostctlError } from "./errors.ts";
import { type Logger, silent } from "./log.ts";
import {
	createReactors,
	type Reactor,
	type ReactorMode,
	selectReactors,
} from "./reactors.ts";
import { createRuntime, type Listener, type Runtime } from "./runtime.ts";
import type { Store } from "./scsi/task.ts";
import { checkSocketPath, clearStaleSocket } from "./unix-socket.ts";
import { startSession } from "./vhost-user/session.ts";
import {
	createScsiController,
	type ScsiController,
} from "./virtio-scsi/controller.ts";
import { openStore } from "./virtio-scsi/store.ts";

export type { Backend, BackendKind } from "./bdev/backend.ts";
export type { Bdev } from "./bdev/bdev.ts";
export type { FileOptions } from "./bdev/file.ts";
export type { MallocOptions, PageSize } from "./bdev/malloc.ts";
export type { NullOptions } from "./bdev/null.ts";
export type { BdevRegistry, Identity } from "./bdev/registry.ts";
export type { BlkController } from "./blk-controller.ts";
export { allowedCpus, formatCpumask, parseCpumask } from "./cpumask.ts";
export { ERRORS, type ErrorCode, VhostctlError } from "./errors.ts";
export { type HugepagePool, hugepagePools } from "./hugepages.ts";
export { createLogger, type Logger, type LogLevel } from "./log.ts";
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
export type { RingInfo, Session } from "./vhost-user/device.ts";
export type {
	ScsiController,
	ScsiLunInfo,
	ScsiTargetInfo,
} from "./virtio-scsi/controller.ts";

const SOCKET_MODE = 0o600;
/** How long deleting a controller waits for front ends that are about to go. */
const DELETE_PATIENCE_MS = 1000;

export interface EngineOptions {
	/** Where controllers' sockets are made; made itself (mode 0700) if missing. */
	socketDir: string;
	/** Processors to run a reactor on. Default: the first that this process may use. */
	cpus?: readonly number[] | undefined;
	/** Default: adaptive. */
	mode?: ReactorMode | undefined;
	/**
	 * Where what must survive a restart is kept (persistent reservations); made
	 * itself (mode 0700) if missing. Default: nothing is kept.
	 */
	stateDir?: string | undefined;
	/** Default: silence. */
	log?: Logger | undefined;
}

export interface BlkControllerRequest {
	/** Name of the controller and of its socket's file. */
	name: string;
	/** Name or UUID of the bdev. */
	bdev: string;
	/** Default: false, unless the bdev cannot be written. */
	readonly?: boolean | undefined;
	/** Processors whose reactors serve it. Default: all. */
	cpus?: readonly number[] | undefined;
}

export interface ScsiControllerRequest {
	/** Name of the controller and of its socket's file. */
	name: string;
	/** Processors whose reactors serve it. Default: all. */
	cpus?: readonly number[] | undefined;
	/** No front end can connect before startController. Default: false. */
	delay?: boolean | undefined;
}

export interface ScsiLunRequest {
	/** The controller. */
	name: string;
	/** 0..255, or -1: the first without any LUN. */
	target: number;
	/** 0..255. Default: 0. */
	lun?: number | undefined;
	/** Name or UUID of the bdev. */
	bdev: string;
}

export type Controller = BlkController | ScsiController;

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
	/** Time since it started. */
	uptimeNs(): number;
	/**
	 * Serves a bdev at socketDir/name. A stale socket there is replaced. Throws
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
	/** The path of a controller's socket. */
	socketPath(name: string): string;
	/**
	 * Removes a controller and its socket. One with front ends connected is
	 * given a second for them to go. Throws E_NOT_FOUND, E_BUSY.
	 */
	deleteController(name: string): Promise<void>;
	/** Ends connections, stops the rings and gives everything back. Idempotent. */
	close(): Promise<void>;
}

interface Served {
	controller: Controller;
	/** Undefined until it is started. */
	listener: Listener | undefined;
}

/** Refuses names that lead elsewhere, or make the socket's path too long. */
function checkName(socketDir: string, name: string): void {
	if (["", ".", ".."].includes(name) || /[/\p{Cc}]/u.test(name)) {
		throw new VhostctlError(
			"E_INVALID",
			`controller name '${name}': must be the name of a file`,
		);
	}
	checkSocketPath(join(socketDir, name));
}

function listen(
	runtime: Runtime,
	path: string,
	controller: Controller,
	log: Logger,
): Listener {
	try {
		if (clearStaleSocket(path)) log.info(`${path}: stale socket removed`);
		return runtime.listen(path, SOCKET_MODE, (connection) => {
			startSession(runtime, connection, controller);
		});
	} catch (error) {
		throw fromErrno(error, `cannot listen at ${path}`);
	}
}

async function untilIdle(controller: Controller): Promise<boolean> {
	const end = performance.now() + DELETE_PATIENCE_MS;
	while (controller.sessions.length > 0 && performance.now() < end) {
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
	return controller.sessions.length === 0;
}

/** Starts an engine: its threads run when this resolves. Throws E_INVALID, E_NO_MEMORY. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
	const log = options.log ?? silent;
	const socketDir = resolve(options.socketDir);
	try {
		mkdirSync(socketDir, { recursive: true, mode: 0o700 });
	} catch (error) {
		throw fromErrno(error, `socket directory ${socketDir}`);
	}
	const runtime = createRuntime();
	let reactors: Reactor[];
	try {
		reactors = createReactors(
			runtime.upcalls,
			options.cpus,
			options.mode ?? "adaptive",
		);
	} catch (error) {
		await runtime.close();
		throw error;
	}
	const { stateDir } = options;
	const store =
		stateDir === undefined ? undefined : openStore(resolve(stateDir));
	return createEngine({ runtime, reactors, socketDir, store, log });
}

interface Parts {
	runtime: Runtime;
	reactors: readonly Reactor[];
	socketDir: string;
	store: Store | undefined;
	log: Logger;
}

function createEngine(parts: Parts): Engine {
	const { runtime, reactors, socketDir, store, log } = parts;
	const bdevs = createRegistry(log);
	const served = new Map<string, Served>();
	const started = performance.now();
	let closing: Promise<void> | undefined;

	const find = (name: string): Served => {
		const found = served.get(name);
		if (found) return found;
		throw new VhostctlError("E_NOT_FOUND", `no controller ${name}`);
	};
	const scsi = (name: string): ScsiController => {
		const { controller } = find(name);
		if (controller.kind === "scsi") return controller;
		throw new VhostctlError(
			"E_INVALID",
			`controller ${name} is a blk controller`,
		);
	};
	const remove = async ({ controller, listener }: Served) => {
		listener?.close();
		served.delete(controller.name);
		await controller.close();
		log.info(`controller ${controller.name}: deleted`);
	};
	const start = (entry: Served): void => {
		const { controller } = entry;
		const path = join(socketDir, controller.name);
		entry.listener = listen(runtime, path, controller, log);
		controller.started = true;
		log.info(`controller ${controller.name}: serves at ${path}`);
	};
	const add = <C extends Controller>(
		name: string,
		make: () => C,
		delay = false,
	): C => {
		if (closing) throw new VhostctlError("E_BUSY", "the engine is closing");
		checkName(socketDir, name);
		if (served.has(name)) {
			throw new VhostctlError(
				"E_EXISTS",
				`there is a controller ${name} already`,
			);
		}
		const controller = make();
		const entry: Served = { controller, listener: undefined };
		try {
			if (!delay) start(entry);
		} catch (error) {
			void controller.close(); // no connection yet: this only unclaims
			throw error;
		}
		served.set(name, entry);
		return controller;
	};
	const closeAll = async () => {
		await Promise.all([...served.values()].map(remove));
		await bdevs.close();
		for (const reactor of reactors) reactor.release();
		await runtime.close();
	};

	return {
		bdevs,
		reactors,
		socketDir,
		log,
		uptimeNs: () => Math.round((performance.now() - started) * 1e6),
		createBlkController: async ({ name, bdev, readonly = false, cpus }) =>
			add(name, () =>
				createBlkController({
					name,
					bdev: bdevs.get(bdev),
					readonly,
					reactors: selectReactors(reactors, cpus),
					log,
				}),
			),
		createScsiController: async ({ name, cpus, delay }) =>
			add(
				name,
				() =>
					createScsiController({
						name,
						runtime,
						reactors: selectReactors(reactors, cpus),
						store,
						log,
					}),
				delay,
			),
		async startController(name) {
			const entry = find(name);
			if (entry.controller.started) {
				throw new VhostctlError(
					"E_EXISTS",
					`controller ${name} is started already`,
				);
			}
			start(entry);
		},
		addScsiLun: async ({ name, target, lun = 0, bdev }) =>
			scsi(name).addLun(target, lun, bdevs.get(bdev)),
		removeScsiLun: async (name, target, lun) =>
			scsi(name).removeLun(target, lun),
		controllers: (name) =>
			(name === undefined ? [...served.values()] : [find(name)]).map(
				({ controller }) => controller,
			),
		socketPath: (name) => join(socketDir, name),
		async deleteController(name) {
			const found = find(name);
			if (!(await untilIdle(found.controller))) {
				throw new VhostctlError(
					"E_BUSY",
					`controller ${name} has a front end connected`,
				);
			}
			if (served.get(name) === found) await remove(found);
		},
		close() {
			closing ??= closeAll();
			return closing;
		},
	};
}
