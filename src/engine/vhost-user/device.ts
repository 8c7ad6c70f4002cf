// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import type { RequestHandlers } from "../runtime.ts";

/** What a session asks of the device behind its socket: a controller. */
export interface VhostDevice {
	readonly name: string;
	/** Virtio features offered, without bit 30. */
	readonly features: bigint;
	/** Protocol features offered: a subset of SUPPORTED_PROTOCOL_FEATURES. */
	readonly protocolFeatures: bigint;
	/** 1..256. */
	readonly maxQueues: number;

	/** Throws E_INVALID unless offset + length <= 256. */
	readConfig(offset: number, length: number, session: Session): Buffer;
	/** Throws E_INVALID for anything but a writable field. */
	writeConfig(offset: number, data: Buffer, session: Session): void;

	/** A connection came; its last word is detach, after all its rings stopped. */
	attach(session: Session): void;
	detach(session: Session): void;
	/** Nobody waits for the requests of its rings any more: the front end is gone, or resets the device. */
	abandoned?(session: Session): void;
	/** The driver reset the device; its rings have stopped. */
	reset?(session: Session): void;

	/** Who is to answer the requests of a ring that is about to start, if it is not C alone. */
	requestHandlers?(session: Session, index: number): Partial<RequestHandlers>;

	/**
	 * Puts a ring (a handle, which stays the session's) on a reactor. Not called
	 * again for the same index before the ring stopped.
	 */
	startRing(
		session: Session,
		index: number,
		ring: bigint,
	): Promise<RunningRing>;
	/** The session saw the ring stop: nothing of the device is in use by it any more. */
	ringStopped?(session: Session, index: number): void;
	/** Address of the struct vhc_stats that counts for a ring; it outlives the session. */
	statsPage(session: Session, index: number): bigint;

	log(level: "debug" | "info" | "warn" | "error", text: string): void;
}

/** A ring that a reactor owns. */
export interface RunningRing {
	/** Id of the reactor, for display. */
	readonly reactor: number;
	/** Asks the reactor to stop it; the session awaits VHC_UPCALL_RING_STOPPED. */
	requestStop(): void;
}

/** What a device may know and ask of a connection. */
export interface Session {
	/** Number of the connection, unique in the process. */
	readonly id: number;
	/** Virtio features acknowledged, bit 30 included. */
	readonly features: bigint;
	readonly protocolFeatures: bigint;
	/** Rings that the front end has set up, by index. */
	readonly rings: readonly RingInfo[];

	/**
	 * Stops all rings and keeps them stopped until resume; calls nest. Resolves
	 * when nothing is in flight.
	 */
	pause(): Promise<void>;
	/** Starts again what pause stopped. */
	resume(): Promise<void>;
	/** Tells the front end that the configuration space changed, if it can be told. */
	configChanged(): Promise<void>;
	/** Ends the connection. Resolves when all rings have stopped and all is freed. */
	close(): Promise<void>;
}

export interface RingInfo {
	readonly index: number;
	/** Entries. */
	readonly size: number;
	readonly running: boolean;
	/** The driver corrupted it; it does nothing until it is set up again. */
	readonly broken: boolean;
	/** Id of the reactor it runs on, if it runs. */
	readonly reactor: number | undefined;
}
