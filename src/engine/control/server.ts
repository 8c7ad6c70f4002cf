// SPDX-License-Identifier: MIT
import { randomBytes } from "node:crypto";
import { readdirSync, renameSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";
import type { Engine } from "../engine.ts";
import { fromErrno } from "../errors.ts";
import { fileId, removeFile } from "../transport.ts";
import { checkSocketPath, clearStaleSocket } from "../unix-socket.ts";
import type { Keeper } from "./config/keeper.ts";
import { serveConnection } from "./connection.ts";
import { createHandover } from "./handover.ts";
import type { Context } from "./methods/context.ts";
import { inheritSocketLock, isTrusted, listen, lockSocket } from "./socket.ts";
import type { Startup } from "./startup.ts";

/** Clients at once, as SPDK has it; more are hung up on. */
const MAX_CONNECTIONS = 64;
/** Ends of the names of sockets that are on their way to the path, or offered to a successor. */
const REMAINS = /\.(take|[0-9a-f]{4})$/;
/** How long closing waits for clients to read what is due to them. */
const CLOSE_PATIENCE_MS = 1000;

export interface ControlOptions {
	/** Of the control socket; a path.lock is made beside it. */
	path: string;
	/** How spdk_kill_instance signals. Default: a signal to this process. */
	kill?: (signal: NodeJS.Signals) => void;
	/**
	 * The lock of a predecessor, which is taken over. Then nobody can connect before
	 * `show`: until then the predecessor has the path.
	 */
	lockFd?: number;
	/** Keeps changes. Default: nothing is kept. */
	keeper?: Keeper | undefined;
	/** Until then only methods that say so may be called. Default: all may. */
	startup?: Startup | undefined;
}

export interface ControlServer {
	/** Absolute. */
	readonly path: string;
	/** Resolves when a successor has taken over: then this is to be closed, leaving what is there. */
	readonly handedOver: Promise<void>;
	/** Puts the socket in the place of a predecessor's. Throws E_IO and the like. */
	show(): void;
	/**
	 * Hangs up on clients and removes the socket, unless a successor has it; the engine
	 * goes on. Idempotent.
	 */
	close(): Promise<void>;
}

/** A listening socket under another name, with how it comes to its own. */
interface Hidden {
	readonly server: Server;
	/** Puts it in the place of whatever is at the path. */
	show(): void;
	/** Removes the socket, if it is still the one at the path, and stops listening. */
	close(sockets: ReadonlySet<Socket>, leave: boolean): Promise<void>;
}

/**
 * Listens at a name that nobody knows: who renames the socket then replaces whatever is at
 * the path in one step, and the runtime's own clean-up finds nothing to remove there.
 */
async function listenHidden(server: Server, path: string): Promise<Hidden> {
	const hidden = `${path}.${randomBytes(2).toString("hex")}`;
	await listen(server, hidden);
	const file = fileId(hidden);
	return {
		server,
		show() {
			try {
				renameSync(hidden, path);
			} catch (error) {
				throw fromErrno(error, `cannot make ${path}`);
			}
		},
		close(sockets, leave) {
			if (!leave) removeFile(path, file);
			return hangUp(server, sockets);
		},
	};
}

/** Removes sockets that instances which were killed left beside the path on their way to it. */
function clearRemains(path: string): void {
	const name = basename(path);
	for (const other of readdirSync(dirname(path)))
		if (other.startsWith(`${name}.`) && REMAINS.test(other))
			try {
				clearStaleSocket(join(dirname(path), other));
			} catch {
				// Somebody is there, or it is nothing of ours.
			}
}

/**
 * Serves an engine's methods as JSON-RPC 2.0 on a Unix socket, to this user and
 * root. What an instance that is gone left there is taken over. Throws E_BUSY if
 * another one has the path, E_EXISTS if something else has it, E_INVALID.
 */
export async function startControl(
	engine: Engine,
	options: ControlOptions,
): Promise<ControlServer> {
	const path = resolve(options.path);
	checkSocketPath(`${path}.lock`);
	const { lockFd } = options;
	const inherited = lockFd !== undefined;
	const lock = inherited ? inheritSocketLock(path, lockFd) : lockSocket(path);
	const sockets = new Set<Socket>();
	const open = () => listenHidden(serve(context, sockets), path);
	const handover = createHandover(engine, path, lock.fd, async () => {
		const lost = hidden;
		hidden = await open();
		hidden.show();
		void lost.close(new Set(), true); // its clients go on
	});
	const context: Context = {
		engine,
		kill: options.kill ?? ((signal) => void process.kill(process.pid, signal)),
		handover,
		keeper: options.keeper,
		startup: options.startup,
	};
	let hidden: Hidden;
	try {
		if (!inherited && clearStaleSocket(path))
			engine.log.info(`${path}: stale socket removed`);
		clearRemains(path);
		hidden = await open();
		if (!inherited) hidden.show();
	} catch (error) {
		lock.release(inherited);
		throw error;
	}
	if (!inherited) engine.log.notice(`control socket: ${path}`);
	let shown = !inherited;
	let closing: Promise<void> | undefined;
	return {
		path,
		handedOver: handover.given,
		show() {
			hidden.show();
			shown = true;
			engine.log.notice(`control socket: ${path}`);
		},
		close() {
			const end = async () => {
				await handover.close();
				const leave = !shown || handover.isGiven;
				try {
					await hidden.close(sockets, leave);
				} finally {
					lock.release(leave);
				}
			};
			closing ??= end();
			return closing;
		},
	};
}

function serve(context: Context, sockets: Set<Socket>): Server {
	const { log } = context.engine;
	return createServer({ allowHalfOpen: true }, (socket) => {
		if (!isTrusted(socket)) {
			log.warning("control socket: a client of another user refused", {
				kind: "rpc-stranger",
			});
			socket.destroy();
			return;
		}
		if (sockets.size >= MAX_CONNECTIONS) {
			log.warning("control socket: too many clients, one refused", {
				kind: "rpc-crowd",
			});
			socket.destroy();
			return;
		}
		sockets.add(socket);
		socket.once("close", () => sockets.delete(socket));
		serveConnection(socket, context);
	});
}

function hangUp(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
	return new Promise((done) => {
		const force = setTimeout(() => {
			for (const socket of sockets) socket.destroy();
		}, CLOSE_PATIENCE_MS);
		server.close(() => {
			clearTimeout(force);
			done();
		});
		for (const socket of sockets) {
			socket.end(() => socket.destroy());
		}
	});
}
