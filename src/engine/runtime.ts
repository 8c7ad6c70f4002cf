// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { statSync, unlinkSync } from "node:fs";
import { Socket } from "node:net";
import { setImmediate } from "node:timers";
import { LAYOUTS, UPCALL_SLOTS } from "../ffi/layout.ts";
import {
	NativeError,
	native,
	UPCALL_ABORTED,
	UPCALL_ACCEPTED,
	UPCALL_CLOSED,
	UPCALL_IO_DONE,
	UPCALL_LOAD_DONE,
	UPCALL_LUN_IDLE,
	UPCALL_MESSAGE,
	UPCALL_REQUEST,
	UPCALL_RING_BROKEN,
	UPCALL_RING_STOPPED,
} from "../ffi/native.ts";
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
}

export interface Listener {
	/** Stops accepting and removes the socket's file if it is still ours. */
	close(): void;
}

/** What a ring tells of the requests in it, on the way to whoever answers them. */
export interface RequestHandlers {
	/**
	 * A request is the receiver's to answer. info: struct vhc_request_info and the
	 * beginning of the request's data, copied. errno: 0, or positive: what it was
	 * executed for has failed.
	 */
	onRequest(request: bigint, info: Buffer, errno: number): void;
	/** Nothing is being executed for address: a hold has taken effect. */
	onLunIdle(address: number): void;
	/** What an abort was to end has ended; count: how many requests that were. */
	onAborted(cookie: number, count: number): void;
}

export interface RingHandlers extends Partial<RequestHandlers> {
	/** nextAvail: as GET_VRING_BASE wants it. The ring is no reactor's any more. */
	onStopped(nextAvail: number): void;
	/** errno: positive. The ring stays its reactor's until stopped. */
	onBroken(errno: number): void;
}

/** One per process that needs the library's events: the upcall ring and the transport. */
export interface Runtime {
	/** Handle of the upcall ring, for reactors and loads. */
	readonly upcalls: bigint;
	/**
	 * Listens on a Unix socket with permission bits mode. onAccept runs for each
	 * connection before its first message. Throws NativeError.
	 */
	listen(
		path: string,
		mode: number,
		onAccept: (connection: Connection) => void,
	): Listener;
	/** Makes a connection of a connected socket, which it duplicates. Throws NativeError. */
	adopt(fd: number): Connection;
	/** Routes a ring's events; returns the id to give vhc_ring_config. */
	registerRing(handlers: RingHandlers): number;
	unregisterRing(id: number): void;
	/** Routes a load's end; errno: 0 or positive. Returns the id to give vhc_load_config. */
	registerLoad(onDone: (errno: number) => void): number;
	unregisterLoad(id: number): void;
	/**
	 * Routes the end of one I/O; errno: 0 or positive. Returns the id to give
	 * vhc_io_config, which is used up by the call.
	 */
	registerIo(onDone: (errno: number) => void): number;
	unregisterIo(id: number): void;
	/**
	 * Closes listeners and connections, and gives everything back. Reactors and
	 * loads must be gone, for they write upcalls.
	 */
	close(): Promise<void>;
}

const SLOT = LAYOUTS.vhc_upcall;

interface Upcall {
	type: number;
	id: number;
	status: number;
	arg: bigint;
}

/** A connection's side that the routing knows. */
interface Channel extends Connection {
	deliver(delivery: Delivery): void;
	closed(errno: number): void;
}

function closeFds(fds: readonly number[]): void {
	for (const fd of fds) native.fdClose(fd);
}

/** The native transport; its handle must not be used after the release. */
interface Transport {
	readonly handle: bigint;
	released: boolean;
}

/** Runs a call that may find that the peer has gone: its CLOSED upcall is on the way. */
function tolerateGone(call: () => unknown): void {
	try {
		call();
	} catch (error) {
		if (!(error instanceof NativeError && error.code === "ENOENT")) throw error;
	}
}

function makeConnection(transport: Transport, id: number): Channel {
	let takeMessage: ((delivery: Delivery) => void) | undefined;
	let takeClose: ((errno: number) => void) | undefined;
	let open = true;
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
			if (!open || transport.released)
				throw new VhostctlError("E_CONNECT", "the connection is closed");
			native.transportSend(transport.handle, id, data, fds);
		},
		close() {
			if (!open || transport.released) return;
			open = false;
			tolerateGone(() => native.transportClose(transport.handle, id));
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

/** Makes the runtime. It keeps the process alive until closed. Throws NativeError. */
export function createRuntime(): Runtime {
	const { upcalls, slots, fd, transport } = startNative();
	// Upcall slots are never unmapped, so the view is safe to keep.
	const ring = native.pointer(slots, UPCALL_SLOTS * SLOT.size);
	const listeners = new Map<number, (connection: Connection) => void>();
	const connections = new Map<number, Channel>();
	const rings = new Map<number, RingHandlers>();
	const loads = new Map<number, (errno: number) => void>();
	const ios = new Map<number, (errno: number) => void>();
	let lastId = 0;
	let lastIo = 0;
	let cursor = 0;
	let consumed = 0;

	const track = (id: number): Channel => {
		const connection = makeConnection(transport, id);
		connections.set(id, connection);
		return connection;
	};

	const routeConnection = (upcall: Upcall, delivery: Delivery): void => {
		const { type, id, status, arg } = upcall;
		if (type === UPCALL_ACCEPTED) {
			const connection = track(Number(arg));
			const accept = listeners.get(id);
			if (accept) accept(connection);
			else connection.close();
		} else if (type === UPCALL_MESSAGE) {
			const connection = connections.get(id);
			if (connection) connection.deliver(delivery);
			else closeFds(delivery.fds);
		} else if (type === UPCALL_CLOSED) {
			const connection = connections.get(id);
			connections.delete(id);
			connection?.closed(Math.abs(status));
		}
	};
	const routeRing = (upcall: Upcall, { data }: Delivery): void => {
		const { type, id, status, arg } = upcall;
		const ring = rings.get(id);
		if (type === UPCALL_RING_STOPPED) ring?.onStopped(Number(arg));
		else if (type === UPCALL_RING_BROKEN) ring?.onBroken(Math.abs(status));
		else if (type === UPCALL_REQUEST)
			ring?.onRequest?.(arg, data, Math.abs(status));
		else if (type === UPCALL_LUN_IDLE) ring?.onLunIdle?.(Number(arg));
		else if (type === UPCALL_ABORTED) ring?.onAborted?.(Number(arg), status);
	};
	const route = (upcall: Upcall, delivery: Delivery): void => {
		const { type, id, status } = upcall;
		if (type === UPCALL_LOAD_DONE) loads.get(id)?.(Math.abs(status));
		else if (type === UPCALL_IO_DONE) {
			const done = ios.get(id);
			ios.delete(id);
			done?.(Math.abs(status));
		} else if (type <= UPCALL_CLOSED) routeConnection(upcall, delivery);
		else routeRing(upcall, delivery);
	};

	/** Routes what is ready, at most a ring full. False: nothing is. */
	const drainBatch = (): boolean => {
		const ready = native.upcallsAdvance(upcalls, consumed);
		consumed = 0;
		for (; consumed < ready; consumed++) {
			const start = cursor * SLOT.size;
			cursor = (cursor + 1) % UPCALL_SLOTS;
			try {
				route(readUpcall(ring, start), readDelivery(ring, start));
			} catch (error) {
				// A defect in a handler: reported as uncaught, with the ring kept in step.
				queueMicrotask(() => {
					throw error;
				});
			}
		}
		return ready > 0;
	};
	/** The rest of the program has its turn after each batch: a guest may send without end. */
	const drain = (): void => {
		if (draining || transport.released) return;
		draining = drainBatch();
		if (draining)
			setImmediate(() => {
				draining = false;
				drain();
			});
	};
	let draining = false;

	const pipe = new Socket({ fd, readable: true, writable: false });
	pipe.on("data", drain);
	drain();

	return {
		upcalls,
		listen(path, mode, onAccept) {
			const { id, made } = startListening(transport.handle, path, mode);
			listeners.set(id, onAccept);
			return {
				close() {
					if (!listeners.delete(id)) return;
					native.transportClose(transport.handle, id);
					if (made !== undefined && fileId(path) === made) unlinkSync(path);
				},
			};
		},
		adopt: (socket) => track(native.transportConnect(transport.handle, socket)),
		registerRing(handlers) {
			rings.set(++lastId, handlers);
			return lastId;
		},
		unregisterRing: (id) => void rings.delete(id),
		registerLoad(onDone) {
			loads.set(++lastId, onDone);
			return lastId;
		},
		unregisterLoad: (id) => void loads.delete(id),
		registerIo(onDone) {
			do lastIo = (lastIo + 1) >>> 0;
			while (ios.has(lastIo));
			ios.set(lastIo, onDone);
			return lastIo;
		},
		unregisterIo: (id) => void ios.delete(id),
		async close() {
			await undefined; // a handler may call this: let drain finish first
			listeners.clear();
			transport.released = true;
			native.transportRelease(transport.handle);
			// Descriptors in messages that nobody will read are closed by routing them.
			while (drainBatch());
			for (const connection of connections.values()) connection.closed(0);
			connections.clear();
			await new Promise<void>((resolve) => {
				pipe.once("close", () => resolve());
				pipe.destroy();
			});
			native.upcallsRelease(upcalls);
		},
	};
}

/** Makes the socket's file and accepts on it; on failure the file goes again. */
function startListening(
	transport: bigint,
	path: string,
	mode: number,
): { id: number; made: string | undefined } {
	const socket = native.socketListen(path, mode);
	try {
		const id = native.transportListen(transport, socket);
		return { id, made: fileId(path) };
	} catch (error) {
		unlinkSync(path);
		throw error;
	} finally {
		native.fdClose(socket);
	}
}

/** Makes the upcall ring and the transport that writes to it, or neither. */
function startNative(): {
	upcalls: bigint;
	slots: bigint;
	fd: number;
	transport: Transport;
} {
	const { handle: upcalls, slots, fd } = native.upcallsCreate();
	try {
		const handle = native.transportCreate(upcalls);
		return { upcalls, slots, fd, transport: { handle, released: false } };
	} catch (error) {
		native.upcallsRelease(upcalls);
		native.fdClose(fd);
		throw error;
	}
}

/** Device and inode, to tell our socket from one put in its place. */
function fileId(path: string): string | undefined {
	const stat = statSync(path, { throwIfNoEntry: false });
	return stat && `${stat.dev}:${stat.ino}`;
}

function readUpcall(ring: Buffer, start: number): Upcall {
	const { offsets } = SLOT;
	return {
		type: ring.readUInt32LE(start + offsets.type),
		id: ring.readUInt32LE(start + offsets.id),
		status: ring.readInt32LE(start + offsets.status),
		arg: ring.readBigUInt64LE(start + offsets.arg),
	};
}

/** Copies the message out of its slot, which C will use again. */
function readDelivery(ring: Buffer, start: number): Delivery {
	const { offsets } = SLOT;
	const len = ring.readUInt32LE(start + offsets.len);
	const count = ring.readUInt32LE(start + offsets.num_fds);
	const data = start + offsets.data;
	return {
		data: Buffer.from(ring.subarray(data, data + len)),
		fds: Array.from({ length: count }, (_, i) =>
			ring.readInt32LE(start + offsets.fds + 4 * i),
		),
	};
}
