// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import type { Logger } from "../log.ts";
import type { RequestHandlers } from "../runtime.ts";
import type { MessageFds } from "./fds.ts";
import type { SessionImage } from "./session-image.ts";

/** A message as a device with messages of its own sees it. */
export interface DeviceMessage {
	/** Number of the request. */
	readonly request: number;
	/** Of the header: version, FLAG_NEED_REPLY. */
	readonly flags: number;
	readonly payload: Buffer;
	/** What is not taken is closed after the message. */
	readonly fds: MessageFds;
}

/** How a device ends a message that it carried out. */
export interface DeviceAnswer {
	/** Payload of the reply; without it the message gets an ack, if one was asked for. */
	readonly reply?: Buffer;
	/** Sent along with the reply, and closed then. */
	readonly fds?: readonly number[];
}

/** What a session asks of the device behind its socket: a controller. */
export interface VhostDevice {
	readonly name: string;
	/** Virtio features offered, without bit 30. */
	readonly features: bigint;
	/**
	 * Protocol features offered: a subset of SUPPORTED_PROTOCOL_FEATURES, usually
	 * DEFAULT_PROTOCOL_FEATURES. With PAGEFAULT a front end can make a reactor wait
	 * for a page for ever.
	 */
	readonly protocolFeatures: bigint;
	/** 1..256. */
	readonly maxQueues: number;

	/** Throws E_INVALID unless offset + length <= 256. */
	readConfig(offset: number, length: number, session: Session): Buffer;
	/** Throws E_INVALID for anything but a writable field. */
	writeConfig(offset: number, data: Buffer, session: Session): void;

	/**
	 * A connection came; its last word is detach, after all its rings stopped. image:
	 * what exportSession gave in another process, which served it until now.
	 */
	attach(session: Session, image?: unknown): void;
	detach(session: Session): void;
	/** What another process must know to go on with a connection; JSON. */
	exportSession?(session: Session): unknown;
	/** Nobody waits for the requests of its rings any more: the front end is gone, or resets the device. */
	abandoned?(session: Session): void;
	/** The driver reset the device; its rings have stopped. */
	reset?(session: Session): void;

	/**
	 * State that migrates with the guest (DEVICE_STATE): up to 64 KiB. Asked for and
	 * given while the rings are stopped.
	 */
	exportState?(session: Session): Buffer;
	/** Throws E_INVALID for what exportState does not make. */
	importState?(session: Session, state: Buffer): void;

	/**
	 * A message came, known or not: to carry it out instead of the session, or to
	 * look at it (undefined). What it throws refuses the message.
	 */
	handleMessage?(
		session: Session,
		message: DeviceMessage,
	): Promise<DeviceAnswer | undefined>;
	/** A message was carried out, by whomever, or (ok: false) refused; its answer goes next. */
	messageHandled?(
		session: Session,
		message: Pick<DeviceMessage, "request" | "flags" | "payload">,
		ok: boolean,
	): void;

	/** Who is to answer the requests of a ring that is about to start, if it is not C alone. */
	requestHandlers?(session: Session, index: number): Partial<RequestHandlers>;

	/**
	 * Puts a ring (a handle, which stays the session's) on a reactor. Not called
	 * again for the same index before the ring stopped. node: the NUMA node that its
	 * memory is on, or -1. Most devices answer with runningRing.
	 */
	startRing(
		session: Session,
		index: number,
		ring: bigint,
		node: number,
	): Promise<RunningRing>;
	/** The session saw the ring stop: nothing of the device is in use by it any more. */
	ringStopped?(session: Session, index: number): void;
	/** Address of the struct vhc_stats that counts for a ring; it outlives the session. */
	statsPage(session: Session, index: number): bigint;

	/** Its lines name the device. */
	readonly log: Logger;
}

/** A ring that a reactor owns. */
export interface RunningRing {
	/** Id of the reactor, for display. */
	readonly reactor: number;
	/** Asks the reactor to stop it; the session awaits VHC_UPCALL_RING_STOPPED. */
	requestStop(): void;
	/** vhc_reactor_set_mem. */
	setMem(mem: bigint, refuse: boolean): void;
}

/** What a device may know and ask of a connection. */
export interface Session {
	/** Number of the connection, unique in the process. */
	readonly id: number;
	/** Virtio features acknowledged, bit 30 included. */
	readonly features: bigint;
	readonly protocolFeatures: bigint;
	/** Device status (virtio 2.1), if the front end tells it. */
	readonly status: number;
	/** Guest memory that the front end shares. */
	readonly memory: readonly MemoryInfo[];
	/** Rings that the front end has set up, by index. */
	readonly rings: readonly RingInfo[];

	/**
	 * Copies guest memory, at most 1 GiB, from or to a guest-physical address; what is
	 * written is logged as a ring's is. Throw E_INVALID for what is not wholly shared.
	 */
	readMemory(gpa: bigint, length: number): Buffer;
	writeMemory(gpa: bigint, data: Uint8Array): void;

	/**
	 * Stops all rings and keeps them stopped until resume; calls nest. Resolves
	 * when nothing is in flight.
	 */
	pause(): Promise<void>;
	/** Starts again what pause stopped. */
	resume(): Promise<void>;
	/** Tells the front end that the configuration space changed, if it can be told. */
	configChanged(): Promise<void>;
	/** Resolves when the connection has ended, all rings have stopped and all is freed. */
	readonly ended: Promise<void>;
	/** Ends the connection. Resolves when all rings have stopped and all is freed. */
	close(): Promise<void>;

	/**
	 * Stops all rings and takes the connection out of the transport, for another
	 * process to go on with it (resumeSession). The descriptors in the image stay the
	 * session's: valid until thaw or close. Nothing is served meanwhile, and a close
	 * leaves the socket alone. Rejects with E_BUSY while half a message is on its way,
	 * or E_CONNECT when the front end has gone; then all goes on as before.
	 */
	freeze(): Promise<SessionImage>;
	/** Goes on after freeze as if nothing had been. */
	thaw(): Promise<void>;
}

/** A region of guest memory. */
export interface MemoryInfo {
	readonly gpa: bigint;
	readonly size: bigint;
	/** In the front end's address space. */
	readonly userAddr: bigint;
}

export interface RingInfo {
	readonly index: number;
	/** Entries. */
	readonly size: number;
	readonly packed: boolean;
	readonly running: boolean;
	/** What SET_VRING_ENABLE said; undefined: nothing. */
	readonly enabled: boolean | undefined;
	/** The driver corrupted it; it does nothing until it is set up again. */
	readonly broken: boolean;
	/** Id of the reactor it runs on, if it runs. */
	readonly reactor: number | undefined;
	/** Where it goes on (as GET_VRING_BASE says it) if it does not run. */
	readonly base: number | undefined;
	/** Its parts, as SET_VRING_ADDR has them. */
	readonly address:
		| { readonly desc: bigint; readonly avail: bigint; readonly used: bigint }
		| undefined;
	/** Whether what it writes is logged (VHOST_F_LOG_ALL). */
	readonly logged: boolean;
	/** Whether requests in flight are tracked (INFLIGHT_SHMFD). */
	readonly tracked: boolean;
}
