// SPDX-License-Identifier: MIT
// The devices of an engine, by name, each with what front ends reach it by.
import { join, resolve } from "node:path";
import { connectAt } from "./client.ts";
import {
	type Endpoint,
	inheritListener,
	listenAt,
	type Serve,
} from "./endpoint.ts";
import { messageOf, VhostctlError } from "./errors.ts";
import { bind, type Logger } from "./log.ts";
import type { ListeningSocket, Runtime } from "./runtime.ts";
import { checkSocketPath } from "./unix-socket.ts";
import type { Session, VhostDevice } from "./vhost-user/device.ts";
import { startSession } from "./vhost-user/session.ts";

/** How long deleting waits for front ends that are about to go. */
const DELETE_PATIENCE_MS = 1000;

/** A device that can be put behind a socket. */
export interface Servable extends VhostDevice {
	/** Front ends can connect. */
	started: boolean;
	readonly sessions: readonly Session[];
	/** Ends all connections and gives everything back. */
	close(): Promise<void>;
}

/** How front ends come to a device. */
export interface Access {
	/** Nobody can before start. Default: false. */
	readonly delay?: boolean | undefined;
	/**
	 * Path of a front end's socket to connect to, whenever it is there, instead of
	 * listening. Default: it listens.
	 */
	readonly client?: string | undefined;
}

export interface Served<D extends Servable = Servable> {
	readonly device: D;
	readonly access: Access;
	/** Undefined until it is started. */
	endpoint: Endpoint | undefined;
}

export interface ServedOptions {
	readonly runtime: Runtime;
	/** Absolute: where sockets are made. */
	readonly socketDir: string;
	readonly log: Logger;
	/** Names of devices that a predecessor still serves: nobody comes to them before `inherit`. */
	readonly awaited?: ReadonlySet<string> | undefined;
}

export interface ServedSet<D extends Servable> {
	/**
	 * Puts the device that `make` gives behind a socket. Throws E_INVALID (name),
	 * E_EXISTS (name), E_BUSY (a process listens there), and what `make` does.
	 */
	add<E extends D>(name: string, make: () => E, access?: Access): E;
	/** Throws E_NOT_FOUND. */
	get(name: string): Served<D>;
	/** In the order of their making. */
	list(): Served<D>[];
	/** Lets front ends come to one that was made with delay. Throws E_NOT_FOUND, E_EXISTS, E_BUSY. */
	start(name: string): void;
	/** Of the socket that it listens at or connects to; the one that there will be. */
	socketPath(name: string): string;
	/**
	 * Removes a device with its socket. One that listens and has front ends is given
	 * a second for them to go, unless it is forced. Throws E_NOT_FOUND, E_BUSY.
	 */
	remove(name: string, force?: boolean): Promise<void>;
	/**
	 * Gives an awaited device what its predecessor had: a socket, unless it connects,
	 * which is taken over; and sessions. It is suspended.
	 */
	inherit(
		name: string,
		socket: ListeningSocket | undefined,
		sessions: readonly Session[],
	): void;
	/** Opens what is still awaited: the predecessor is gone. What cannot be is logged. */
	fend(): void;
	/** Nobody comes in until resume. */
	suspend(): Promise<void>;
	resume(): void;
	/** Ends connections. With `leave`, while suspended, the sockets' files stay for a successor. */
	close(leave?: boolean): Promise<void>;
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

async function untilIdle(device: Servable): Promise<boolean> {
	const end = performance.now() + DELETE_PATIENCE_MS;
	while (device.sessions.length > 0 && performance.now() < end) {
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
	return device.sessions.length === 0;
}

export function createServed<D extends Servable>(
	options: ServedOptions,
): ServedSet<D> {
	const { runtime, socketDir, log, awaited } = options;
	const served = new Map<string, Served<D>>();
	let closing: Promise<void> | undefined;

	const get = (name: string): Served<D> => {
		const found = served.get(name);
		if (found) return found;
		throw new VhostctlError("E_NOT_FOUND", `no controller ${name}`);
	};
	const logOf = (name: string) => bind(log, { controller: name });
	const pathOf = (name: string, { client }: Access): string =>
		client === undefined ? join(socketDir, name) : resolve(client);

	const serveBy =
		({ device }: Served): Serve =>
		(connection) =>
			startSession(runtime, connection, device);
	const open = (name: string, entry: Served): Endpoint => {
		const { access } = entry;
		const path = pathOf(name, access);
		const serve = serveBy(entry);
		if (access.client === undefined)
			return listenAt(runtime, path, serve, logOf(name));
		const endpoint = connectAt(runtime, path, serve, logOf(name));
		endpoint.resume();
		return endpoint;
	};
	const start = (name: string, entry: Served<D>): void => {
		if (!awaited?.has(name)) entry.endpoint = open(name, entry);
		entry.device.started = true;
		const way = entry.access.client === undefined ? "serves at" : "connects to";
		logOf(name).notice(`${way} ${pathOf(name, entry.access)}`);
	};
	const end = async ({ device, endpoint }: Served<D>, leave: boolean) => {
		endpoint?.close(leave);
		served.delete(device.name);
		await device.close();
		logOf(device.name).notice(leave ? "handed over" : "deleted");
	};
	const endpoints = () =>
		[...served.values()].flatMap(({ endpoint }) => endpoint ?? []);

	return {
		get,
		list: () => [...served.values()],
		add(name, make, access = {}) {
			if (closing) throw new VhostctlError("E_BUSY", "the engine is closing");
			checkName(socketDir, name);
			checkSocketPath(pathOf(name, access));
			if (served.has(name)) {
				throw new VhostctlError(
					"E_EXISTS",
					`there is a controller ${name} already`,
				);
			}
			const device = make();
			const entry: Served<D> = { device, access, endpoint: undefined };
			try {
				if (!access.delay) start(name, entry);
			} catch (error) {
				void device.close(); // no connection yet: this only unclaims
				throw error;
			}
			served.set(name, entry);
			return device;
		},
		start(name) {
			const entry = get(name);
			if (entry.device.started) {
				throw new VhostctlError(
					"E_EXISTS",
					`controller ${name} is started already`,
				);
			}
			start(name, entry);
		},
		socketPath: (name) => pathOf(name, served.get(name)?.access ?? {}),
		async remove(name, force = false) {
			const found = get(name);
			const { device, endpoint } = found;
			if (!force && !endpoint?.client && !(await untilIdle(device))) {
				throw new VhostctlError(
					"E_BUSY",
					`controller ${name} has a front end connected`,
				);
			}
			if (served.get(name) === found) await end(found, false);
		},
		inherit(name, socket, sessions) {
			const entry = get(name);
			const serve = serveBy(entry);
			const endpoint = socket
				? inheritListener(runtime, socket, serve)
				: connectAt(runtime, pathOf(name, entry.access), serve, logOf(name));
			for (const session of sessions) endpoint.inherit(session);
			entry.endpoint = endpoint;
		},
		fend() {
			for (const [name, entry] of served)
				if (entry.device.started && !entry.endpoint)
					try {
						entry.endpoint = open(name, entry);
					} catch (error) {
						logOf(name).error(messageOf(error));
					}
		},
		async suspend() {
			try {
				for (const endpoint of endpoints()) await endpoint.suspend();
			} catch (error) {
				for (const endpoint of endpoints()) endpoint.resume();
				throw error;
			}
		},
		resume() {
			for (const endpoint of endpoints()) endpoint.resume();
		},
		close(leave = false) {
			closing ??= Promise.all(
				[...served.values()].map((entry) => end(entry, leave)),
			).then(() => {});
			return closing;
		},
	};
}
