// SPDX-License-Identifier: MIT
// How front ends come to a controller: to its socket, or (client.ts) it goes to theirs.
import { fromErrno } from "./errors.ts";
import type { Logger } from "./log.ts";
import type {
	Connection,
	Listener,
	ListeningSocket,
	Runtime,
} from "./runtime.ts";
import { makeListeningSocket, removeFile } from "./transport.ts";
import { clearStaleSocket } from "./unix-socket.ts";
import type { Session } from "./vhost-user/device.ts";
import { closeFd } from "./vhost-user/fds.ts";

const SOCKET_MODE = 0o600;

/** Serves a new connection. */
export type Serve = (connection: Connection) => Session;

/** Where front ends come from. Sessions that there are go on whatever is called here. */
export interface Endpoint {
	/** Absolute: the socket's. */
	readonly path: string;
	/** It connects to sockets of others, instead of listening at its own. */
	readonly client: boolean;
	/** Lets nobody in until resume: who comes waits in the socket. */
	suspend(): Promise<void>;
	/** Ends suspend, with which an endpoint that was inherited begins. */
	resume(): void;
	/** While suspended: what a successor goes on with, if there is one. The descriptor stays ours. */
	readonly socket: ListeningSocket | undefined;
	/** Counts a session of a predecessor as its own. */
	inherit(session: Session): void;
	/** The end. With `leave`, while suspended, the socket's file stays for a successor. */
	close(leave?: boolean): void;
}

/** An endpoint on a socket that listens already, which it takes over. It is suspended. */
export function inheritListener(
	runtime: Runtime,
	socket: ListeningSocket,
	serve: Serve,
): Endpoint {
	const { path, file } = socket;
	let held: ListeningSocket | undefined = socket;
	let listener: Listener | undefined;
	return {
		path,
		client: false,
		async suspend() {
			if (!listener) return;
			held = await listener.take();
			listener = undefined;
		},
		resume() {
			if (!held) return;
			listener = runtime.listenOn(held, serve);
			closeFd(held.fd);
			held = undefined;
		},
		get socket() {
			return held;
		},
		inherit() {},
		close(leave = false) {
			listener?.close();
			if (held) closeFd(held.fd);
			if (held && !leave) removeFile(path, file);
			held = listener = undefined;
		},
	};
}

/** An endpoint that listens at a path. A stale socket there is replaced. Throws E_BUSY, E_EXISTS. */
export function listenAt(
	runtime: Runtime,
	path: string,
	serve: Serve,
	log: Logger,
): Endpoint {
	try {
		if (clearStaleSocket(path)) log.info(`${path}: stale socket removed`);
		const socket = makeListeningSocket(path, SOCKET_MODE);
		const endpoint = inheritListener(runtime, socket, serve);
		try {
			endpoint.resume();
			return endpoint;
		} catch (error) {
			endpoint.close();
			throw error;
		}
	} catch (error) {
		throw fromErrno(error, `cannot listen at ${path}`);
	}
}
