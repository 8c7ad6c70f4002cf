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
import { checkSocketPath, clearStaleSocket } from "./unix-socket.ts";
import { startSession } from "./vhost-user/session.ts";

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
	/** All, or the one of that name. Throws E_NOT_FOUND. */
	controllers(name?: string): BlkController[];
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
	controller: BlkController;
	listener: Listener;
}

/** The socket's path, checked. Names that lead elsewhere are refused. */
function checkedPath(socketDir: string, name: string): string {
	if (["", ".", ".."].includes(name) || /[/\p{Cc}]/u.test(name)) {
		throw new VhostctlError(
			"E_INVALID",
			`controller name '${name}': must be the name of a file`,
		);
	}
	const path = join(socketDir, name);
	checkSocketPath(path);
	return path;
}

function listen(
	runtime: Runtime,
	path: string,
	controller: BlkController,
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

async function untilIdle(controller: BlkController): Promise<boolean> {
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
	return createEngine(runtime, reactors, socketDir, log);
}

function createEngine(
	runtime: Runtime,
	reactors: readonly Reactor[],
	socketDir: string,
	log: Logger,
): Engine {
	const bdevs = createRegistry(log);
	const served = new Map<string, Served>();
	const started = performance.now();
	let closing: Promise<void> | undefined;

	const find = (name: string): Served => {
		const found = served.get(name);
		if (found) return found;
		throw new VhostctlError("E_NOT_FOUND", `no controller ${name}`);
	};
	const remove = async ({ controller, listener }: Served) => {
		listener.close();
		served.delete(controller.name);
		await controller.close();
		log.info(`controller ${controller.name}: deleted`);
	};
	const create = (request: BlkControllerRequest): BlkController => {
		if (closing) throw new VhostctlError("E_BUSY", "the engine is closing");
		const { name } = request;
		const path = checkedPath(socketDir, name);
		if (served.has(name)) {
			throw new VhostctlError(
				"E_EXISTS",
				`there is a controller ${name} already`,
			);
		}
		const controller = createBlkController({
			name,
			bdev: bdevs.get(request.bdev),
			readonly: request.readonly ?? false,
			reactors: selectReactors(reactors, request.cpus),
			log,
		});
		try {
			const listener = listen(runtime, path, controller, log);
			served.set(name, { controller, listener });
		} catch (error) {
			void controller.close(); // no connection yet: this only unclaims
			throw error;
		}
		log.info(`controller ${name}: serves ${request.bdev} at ${path}`);
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
		createBlkController: async (request) => create(request),
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
