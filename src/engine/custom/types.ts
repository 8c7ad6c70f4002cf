// SPDX-License-Identifier: MIT
// Devices that a program makes of its own: what it says of them, and what it is given.
import type { Buffer } from "node:buffer";
import type { ControllerOptions } from "../engine-options.ts";
import type { Stats } from "../stats.ts";
import type {
	DeviceAnswer,
	DeviceMessage,
	Session,
} from "../vhost-user/device.ts";

/** A front end connected to a device. */
export type DeviceConnection = Omit<Session, "freeze" | "thaw">;

/**
 * Chain of a ring, in the program's hands until it completes it. What is in it was
 * written by the guest: lengths and contents may be anything.
 */
export interface DeviceRequest {
	readonly connection: DeviceConnection;
	/** Number of the queue that it came from. */
	readonly queue: number;
	/** Bytes of its device-readable part. */
	readonly readable: number;
	/** Bytes of its device-writable part. */
	readonly writable: number;
	/** It was completed, by whomever. */
	readonly completed: boolean;
	/**
	 * Aborted when nobody waits for it any more: the front end has gone, or the driver
	 * reset the device. It is completed then, and the methods below do nothing.
	 */
	readonly signal: AbortSignal;
	/**
	 * Copies up to length bytes of the readable part, from offset on. Gives fewer where
	 * the part ends. Throws E_INVALID (not whole numbers, completed).
	 */
	read(length: number, offset?: number): Buffer;
	/**
	 * Copies data to the writable part, at offset. Returns how many bytes found room.
	 * Throws E_INVALID (not a whole number, completed).
	 */
	write(data: Uint8Array, offset?: number): number;
	/**
	 * Gives it back to the driver: so many bytes were written. Default: as many as
	 * write() was given, from the first on without a gap. Throws E_INVALID (completed).
	 */
	complete(written?: number): void;
}

/** What changed of a connection: features, status and memory are the connection's to ask. */
export type DeviceChange =
	| "features"
	| "protocolFeatures"
	| "status"
	| "memory";

/** The configuration space of a device (virtio 2.5). */
export interface DeviceConfig {
	/** The whole space as it is now: at most 256 bytes. */
	read(connection: DeviceConnection): Uint8Array;
	/** Takes what the driver wrote. Throws to refuse it. Default: all is refused. */
	write?(offset: number, data: Buffer, connection: DeviceConnection): void;
}

/**
 * What is called as a device is used. Calls come one at a time. An error thrown, or a
 * promise rejected, is logged; what more it does is said with each.
 */
export interface DeviceHandlers {
	/**
	 * A request has come: to be completed now or later. An error completes it with
	 * nothing written. Until it is completed its ring cannot stop, and a front end that
	 * stops or migrates its machine waits: no request may wait for something that may
	 * never happen.
	 */
	onRequest(request: DeviceRequest): void | Promise<void>;
	/** A front end has connected: before its first message. */
	onConnect?(connection: DeviceConnection): void;
	/** It has gone, and all its rings have stopped. */
	onDisconnect?(connection: DeviceConnection): void;
	/** Something of a connection has changed. */
	onChange?(connection: DeviceConnection, change: DeviceChange): void;
	/** The driver reset the device: its requests have ended and its rings stopped. */
	onReset?(connection: DeviceConnection): void;
	/** Requests of the queue come from now on. */
	onQueueStart?(connection: DeviceConnection, queue: number): void;
	/** No more come: there is none in flight. It may start again. */
	onQueueStop?(connection: DeviceConnection, queue: number): void;
	/**
	 * Sees each message before the library does, its number known or not. What it returns
	 * is the answer, and the library does not see the message; undefined leaves it to the
	 * library. An error refuses it. The connection's next message is read when this one is
	 * answered; it must not await the connection's pause, resume or close.
	 */
	onMessage?(
		connection: DeviceConnection,
		message: DeviceMessage,
	): DeviceAnswer | undefined | Promise<DeviceAnswer | undefined>;
	/**
	 * Sees each message that was carried out, by whomever, or (ok: false) refused, before
	 * it is answered.
	 */
	onMessageHandled?(
		connection: DeviceConnection,
		message: Omit<DeviceMessage, "fds">,
		ok: boolean,
	): void;
	/**
	 * State of the device that migrates with the guest, up to 64 KiB; asked for while the
	 * rings are stopped. Without these two a device has none.
	 */
	saveState?(connection: DeviceConnection): Buffer;
	/** Takes what saveState gave on the other side. Throws to refuse it. */
	loadState?(connection: DeviceConnection, state: Buffer): void;
}

/** A device to be: see docs/library.md. */
export interface DeviceOptions extends DeviceHandlers, ControllerOptions {
	/** 1..256. Default: 1. */
	queues?: number | undefined;
	/** Feature bits of the device's type (0 to 23, 50 and up). Default: none. */
	features?: bigint | undefined;
	/**
	 * Protocol feature bits beside the library's, for messages that onMessage answers.
	 * Default: none.
	 */
	protocolFeatures?: bigint | undefined;
	/** A space that the driver cannot write is given as its bytes. Default: there is none. */
	config?: DeviceConfig | Uint8Array | undefined;
}

/** A device in service: a socket's name, and the front ends that use it. */
export interface Device {
	readonly name: string;
	/** Absolute: of its socket, or of the front end's that it connects to. */
	readonly path: string;
	/** Virtio features offered. */
	readonly features: bigint;
	/** Protocol features offered. */
	readonly protocolFeatures: bigint;
	readonly queues: number;
	/** The front ends connected. */
	readonly connections: readonly DeviceConnection[];
	/**
	 * Says that the configuration space has changed; resolves when all front ends that
	 * can be told have been.
	 */
	configChanged(): Promise<void>;
	/** What a queue of a connection did so far; undefined for one that never started. */
	stats(connection: DeviceConnection, queue: number): Stats | undefined;
	/** Ends all connections and removes the socket. Idempotent. */
	close(): Promise<void>;
}
