// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import { setImmediate } from "node:timers";
import {
	native,
	UPCALL_ABORTED,
	UPCALL_ACCEPTED,
	UPCALL_CLOSED,
	UPCALL_IO_DONE,
	UPCALL_IOTLB_MISS,
	UPCALL_LOAD_DONE,
	UPCALL_LUN_IDLE,
	UPCALL_MALFORMED,
	UPCALL_MESSAGE,
	UPCALL_REQUEST,
	UPCALL_RING_BROKEN,
	UPCALL_RING_STOPPED,
} from "../ffi/native.ts";
import {
	type Channel,
	type Connection,
	closeFds,
	type Delivery,
	type Listener,
	type ListeningSocket,
	makeConnection,
	makeListener,
	makeListeningSocket,
	removeFile,
	type Transport,
} from "./transport.ts";
import { readUpcalls, type Upcall } from "./upcalls.ts";

export type {
	Connection,
	Delivery,
	Listener,
	ListeningSocket,
} from "./transport.ts";

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
	/** next: as GET_VRING_BASE wants it. The ring is no reactor's any more. */
	onStopped(next: number): void;
	/** errno: positive; reason: BREAK_*. The ring stays its reactor's until stopped. */
	onBroken(errno: number, reason: number): void;
	/** Its view lacks iova, wanted with access (MEM_*): it waits for reactorSetMem. */
	onMiss?(iova: bigint, access: number): void;
	/** The chain `head` was no request: the first, or one a second. errno: positive. */
	onMalformed?(errno: number, head: number): void;
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
	/** The same on a socket that listens already, which it duplicates. Throws NativeError. */
	listenOn(
		socket: ListeningSocket,
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
	/** Resolves when whatever C has told so far has come to its handlers. */
	flush(): Promise<void>;
	/**
	 * Closes listeners and connections, and gives everything back. Reactors and
	 * loads must be gone, for they write upcalls.
	 */
	close(): Promise<void>;
}

type Done = (errno: number) => void;

/** Who is told what, by the ids that upcalls carry. */
interface Routes {
	readonly listeners: Map<number, (connection: Connection) => void>;
	readonly connections: Map<number, Channel>;
	readonly rings: Map<number, RingHandlers>;
	readonly loads: Map<number, Done>;
	readonly ios: Map<number, Done>;
	/** Makes what a new connection is known by. */
	track(id: number): Channel;
}

function routeConnection(
	{ listeners, connections, track }: Routes,
	{ type, id, status, arg }: Upcall,
	delivery: Delivery,
): void {
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
}

function routeRing(
	{ rings }: Routes,
	{ type, id, status, arg }: Upcall,
	{ data }: Delivery,
): void {
	const ring = rings.get(id);
	if (type === UPCALL_RING_STOPPED) ring?.onStopped(Number(arg));
	else if (type === UPCALL_RING_BROKEN)
		ring?.onBroken(Math.abs(status), Number(arg));
	else if (type === UPCALL_REQUEST)
		ring?.onRequest?.(arg, data, Math.abs(status));
	else if (type === UPCALL_LUN_IDLE) ring?.onLunIdle?.(Number(arg));
	else if (type === UPCALL_ABORTED) ring?.onAborted?.(Number(arg), status);
	else if (type === UPCALL_IOTLB_MISS) ring?.onMiss?.(arg, status);
	else if (type === UPCALL_MALFORMED)
		ring?.onMalformed?.(Math.abs(status), Number(arg));
}

function route(routes: Routes, upcall: Upcall, delivery: Delivery): void {
	const { type, id, status } = upcall;
	if (type === UPCALL_LOAD_DONE) routes.loads.get(id)?.(Math.abs(status));
	else if (type === UPCALL_IO_DONE) {
		const done = routes.ios.get(id);
		routes.ios.delete(id);
		done?.(Math.abs(status));
	} else if (type <= UPCALL_CLOSED) routeConnection(routes, upcall, delivery);
	else routeRing(routes, upcall, delivery);
}

/** Makes the runtime. It keeps the process alive until closed. Throws NativeError. */
export function createRuntime(): Runtime {
	const routes: Routes = {
		listeners: new Map(),
		connections: new Map(),
		rings: new Map(),
		loads: new Map(),
		ios: new Map(),
		track(id) {
			const forget = () => void connections.delete(id);
			const connection = makeConnection(transport, id, { flush, forget });
			connections.set(id, connection);
			return connection;
		},
	};
	const { listeners, connections, rings, loads, ios } = routes;
	const reader = readUpcalls((upcall, delivery) =>
		route(routes, upcall, delivery),
	);
	const transport = createTransport(reader.handle, () => reader.close());
	let lastId = 0;
	let lastIo = 0;

	const flush = async (): Promise<void> => {
		await new Promise((resolve) => setImmediate(resolve)); // not within a handler
		reader.flush();
	};
	const listenOn: Runtime["listenOn"] = (socket, onAccept) => {
		const id = native.transportListen(transport.handle, socket.fd);
		listeners.set(id, onAccept);
		const forget = () => void listeners.delete(id);
		return makeListener(transport, id, socket, { flush, forget });
	};
	return {
		upcalls: reader.handle,
		listen(path, mode, onAccept) {
			const socket = makeListeningSocket(path, mode);
			try {
				return listenOn(socket, onAccept);
			} catch (error) {
				removeFile(path, socket.file);
				throw error;
			} finally {
				native.fdClose(socket.fd);
			}
		},
		listenOn,
		adopt: (socket) =>
			routes.track(native.transportConnect(transport.handle, socket)),
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
		flush,
		async close() {
			await undefined; // a handler may call this: let it finish first
			listeners.clear();
			transport.released = true;
			native.transportRelease(transport.handle);
			// Descriptors in messages that nobody will read are closed by routing them.
			const closed = reader.close();
			for (const connection of connections.values()) connection.closed(0);
			connections.clear();
			await closed;
		},
	};
}

/** Makes the transport; if that fails, `undo` is called. */
function createTransport(upcalls: bigint, undo: () => unknown): Transport {
	try {
		return { handle: native.transportCreate(upcalls), released: false };
	} catch (error) {
		void undo();
		throw error;
	}
}
