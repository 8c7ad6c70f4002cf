// SPDX-License-Identifier: MIT
// Sockets of the native transport: connections, and listeners with their files.
import type { Buffer } from "node:buffer";
import { statSync, unlinkSync } from "node:fs";
import { NativeError, native } from "../ffi/native.ts";
import { VhostctlError } from "./errors.ts";

/** A whole message, header and payload, with descriptors that are the receiver's to close. */
export interface Delivery {
	data: Buffer;
	fds: number[];
}

/** A connected vhost-user socket. Callbacks run one at a time, on the event loop. */
export interface Connection {
	/** Unique in the runtime. */
	readonly id: number;
	/** Takes messages; without it they are dropped and their descriptors closed. */
	onMessage(take: (delivery: Delivery) => void): void;
	/** Runs once, after the last message. errno: 0, or why (positive). */
	onClose(take: (errno: number) => void): void;
	/** Lets the next message be delivered: a connection delivers one for each call. */
	next(): void;
	/**
	 * Sends one message whole; descriptors stay the caller's. Throws NativeError
	 * (EAGAIN: the peer does not read; EPIPE) or E_CONNECT after the close.
	 */
	send(data: Uint8Array, fds?: readonly number[]): void;
	/** Begins the close; onClose follows. */
	close(): void;
	/**
	 * Takes the socket out: resolves to its descriptor, which is the caller's, after
	 * the last call of onMessage; what else the peer sends waits in the socket. onClose
	 * is not called any more. Rejects with E_BUSY while half a message is on its way,
	 * E_CONNECT when the peer has hung up (onClose follows): then all is as before.
	 */
	take(): Promise<number>;
}

/** A listening socket, on its way from one listener to the next. */
export interface ListeningSocket {
	/** Of its holder. */
	readonly fd: number;
	/** Absolute. */
	readonly path: string;
	/** Which file it made at `path`, if it made one. */
	readonly file: string | undefined;
}

export interface Listener {
	/** Stops accepting and removes the socket's file if it is still ours. */
	close(): void;
	/**
	 * Takes the socket out, and leaves its file alone. Resolves after the last
	 * connection; who connects then waits in the socket.
	 */
	take(): Promise<ListeningSocket>;
}

/** The native transport; its handle must not be used after the release. */
export interface Transport {
	readonly handle: bigint;
	released: boolean;
}

/** A connection's side that the routing knows. */
export interface Channel extends Connection {
	deliver(delivery: Delivery): void;
	closed(errno: number): void;
}

export function closeFds(fds: readonly number[]): void {
	for (const fd of fds) native.fdClose(fd);
}

/** Runs a call that may find that the peer has gone: its CLOSED upcall is on the way. */
function tolerateGone(call: () => unknown): void {
	try {
		call();
	} catch (error) {
		if (!(error instanceof NativeError && error.code === "ENOENT")) throw error;
	}
}

const TAKE_PATIENCE_MS = 100;

/** Takes a socket out of the transport, between two messages. Rejects with E_BUSY, E_CONNECT. */
async function takeSocket(take: () => number): Promise<number> {
	const end = performance.now() + TAKE_PATIENCE_MS;
	for (;;) {
		try {
			return take();
		} catch (error) {
			const code = error instanceof NativeError ? error.code : undefined;
			if (code === "ENOENT")
				throw new VhostctlError("E_CONNECT", "the peer has hung up");
			if (code !== "EBUSY") throw error;
			if (performance.now() > end)
				throw new VhostctlError("E_BUSY", "half a message is on its way");
		}
		await new Promise((resolve) => setTimeout(resolve, 1));
	}
}

/** What a socket needs of the runtime that it is in. */
export interface Routing {
	/** Resolves when what C has told so far was routed. */
	flush(): Promise<void>;
	/** The socket is not in the transport any more: nothing is routed to it. */
	forget(): void;
}

export function makeConnection(
	transport: Transport,
	id: number,
	{ flush, forget }: Routing,
): Channel {
	let takeMessage: ((delivery: Delivery) => void) | undefined;
	let takeClose: ((errno: number) => void) | undefined;
	let open = true;
	const checkOpen = (): void => {
		if (open && !transport.released) return;
		throw new VhostctlError("E_CONNECT", "the connection is closed");
	};
	return {
		id,
		onMessage(take) {
			takeMessage = take;
		},
		onClose(take) {
			takeClose = take;
		},
		next() {
			if (!open || transport.released) return;
			tolerateGone(() => native.transportNext(transport.handle, id));
		},
		send(data, fds = []) {
			checkOpen();
			native.transportSend(transport.handle, id, data, fds);
		},
		close() {
			if (!open || transport.released) return;
			open = false;
			tolerateGone(() => native.transportClose(transport.handle, id));
		},
		async take() {
			const fd = await takeSocket(() => {
				checkOpen();
				return native.transportTake(transport.handle, id);
			});
			await flush();
			open = false;
			forget();
			return fd;
		},
		deliver(delivery) {
			if (open && takeMessage) takeMessage(delivery);
			else closeFds(delivery.fds);
		},
		closed(errno) {
			open = false;
			takeClose?.(errno);
		},
	};
}

/** Device and inode, to tell our socket from one put in its place. */
export function fileId(path: string): string | undefined {
	const stat = statSync(path, { throwIfNoEntry: false });
	return stat && `${stat.dev}:${stat.ino}`;
}

/** Removes the file at a path if it is that one. */
export function removeFile(path: string, file: string | undefined): void {
	if (file !== undefined && fileId(path) === file) unlinkSync(path);
}

/** Makes a listening socket and its file. Throws NativeError. */
export function makeListeningSocket(
	path: string,
	mode: number,
): ListeningSocket {
	const fd = native.socketListen(path, mode);
	return { fd, path, file: fileId(path) };
}

/** Accepts on a socket, which it duplicates, as listener `id`. */
export function makeListener(
	transport: Transport,
	id: number,
	{ path, file }: ListeningSocket,
	{ flush, forget }: Routing,
): Listener {
	let listening = true;
	return {
		close() {
			if (!listening || transport.released) return;
			listening = false;
			forget();
			native.transportClose(transport.handle, id);
			removeFile(path, file);
		},
		async take() {
			const fd = await takeSocket(() =>
				native.transportTake(transport.handle, id),
			);
			listening = false;
			await flush();
			forget();
			return { fd, path, file };
		},
	};
}
