// SPDX-License-Identifier: MIT
import { createServer, type Server, type Socket } from "node:net";
import { resolve } from "node:path";
import process from "node:process";
import type { Engine } from "../engine.ts";
import { checkSocketPath, clearStaleSocket } from "../unix-socket.ts";
import { serveConnection } from "./connection.ts";
import type { Context } from "./methods/context.ts";
import { isTrusted, listen, lockSocket } from "./socket.ts";

/** Clients at once, as SPDK has it; more are hung up on. */
const MAX_CONNECTIONS = 64;
/** How long closing waits for clients to read what is due to them. */
const CLOSE_PATIENCE_MS = 1000;

export interface ControlOptions {
	/** Of the control socket; a path.lock is made beside it. */
	path: string;
	/** How spdk_kill_instance signals. Default: a signal to this process. */
	kill?: (signal: NodeJS.Signals) => void;
}

export interface ControlServer {
	/** Absolute. */
	readonly path: string;
	/** Removes the socket and hangs up on clients; the engine goes on. Idempotent. */
	close(): Promise<void>;
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
	const lock = lockSocket(path);
	const context: Context = {
		engine,
		kill: options.kill ?? ((signal) => void process.kill(process.pid, signal)),
	};
	const sockets = new Set<Socket>();
	const server = createServer({ allowHalfOpen: true }, (socket) => {
		if (!isTrusted(socket)) {
			engine.log.warning("control socket: a client of another user refused");
			socket.destroy();
			return;
		}
		if (sockets.size >= MAX_CONNECTIONS) {
			engine.log.warning("control socket: too many clients, one refused");
			socket.destroy();
			return;
		}
		sockets.add(socket);
		socket.once("close", () => sockets.delete(socket));
		serveConnection(socket, context);
	});
	try {
		if (clearStaleSocket(path))
			engine.log.info(`${path}: stale socket removed`);
		await listen(server, path);
	} catch (error) {
		lock.release();
		throw error;
	}
	engine.log.info(`control socket: ${path}`);
	let closing: Promise<void> | undefined;
	return {
		path,
		close() {
			closing ??= hangUp(server, sockets).finally(() => lock.release());
			return closing;
		},
	};
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
