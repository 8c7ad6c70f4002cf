// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import type { Sense, Status } from "./sense.ts";

/** An initiator as the logical units of one target port see it (SAM-5 4.7). */
export interface Nexus {
	/** Names the initiator port across restarts, and tells it from others of the controller. */
	readonly initiator: string;
	/** TransportID (SPC-4 7.6.4): 24 bytes. */
	readonly transportId: Buffer;
	/** RELATIVE TARGET PORT IDENTIFIER through which it came: 1 or more. */
	readonly targetPort: number;
}

/** A command as it came from an initiator. */
export interface Command {
	readonly nexus: Nexus;
	/** All bytes that were sent, at least 16, those beyond the CDB as they came. */
	readonly cdb: Buffer;
	/** Bytes of the data-out buffer. */
	readonly dataOutLength: number;
	/** Bytes of room in the data-in buffer. */
	readonly dataInLength: number;
	/** Copies from the data-out buffer; the range must lie in it. */
	readDataOut(offset: number, length: number): Buffer;
	/** Aborted by a task management function: nothing more needs to be done for it. */
	readonly signal: AbortSignal;
}

/** A read or write that moves the data of the command itself. */
export interface Transfer {
	readonly op: "read" | "write";
	readonly lba: number;
	/** At least 1. */
	readonly blocks: number;
	/** Of a write: on stable storage when it ends. */
	readonly durable: boolean;
}

/** How a command ends. */
export type Outcome =
	/** GOOD, with data-in, cut to the allocation length. */
	| { readonly kind: "good"; readonly data?: Buffer }
	/** Another status than GOOD and CHECK CONDITION. */
	| { readonly kind: "status"; readonly status: Status }
	/** CHECK CONDITION; dataOut tells how much of data-out was used, for the residual. */
	| { readonly kind: "check"; readonly sense: Sense; readonly data?: Buffer }
	/**
	 * The medium is to move the data between the command's buffers and the range,
	 * which is checked; then GOOD, or what outcomeOfFailure says.
	 */
	| { readonly kind: "transfer"; readonly transfer: Transfer }
	/** The data buffer is shorter than what the CDB asks for: nothing was done. */
	| { readonly kind: "overrun" };

export const GOOD: Outcome = { kind: "good" };

/** Names of errors that a medium ends in. ERANGE: beyond the end, as after a resize. */
export type MediumErrno =
	| "EIO"
	| "ENOSPC"
	| "ERANGE"
	| "EOPNOTSUPP"
	| "EROFS"
	| "ENODEV"
	| "ENOMEM";

/** What the calls of a medium reject with. */
export class MediumError extends Error {
	override readonly name = "MediumError";
	readonly errno: MediumErrno;
	constructor(errno: MediumErrno) {
		super(errno);
		this.errno = errno;
	}
}

/** What a logical unit is made of. All numbers are of logical blocks unless they say bytes. */
export interface Medium {
	/** Bytes: a power of two from 512 to 65536. */
	readonly blockSize: number;
	readonly physicalBlockSize: number;
	/** At this moment. */
	readonly numBlocks: number;
	readonly readonly: boolean;
	readonly supports: {
		readonly flush: boolean;
		readonly unmap: boolean;
		readonly writeZeroes: boolean;
	};
	readonly identity: Identity;
	/** Most blocks that one read or write may have: 1 MiB. */
	readonly maxBlocks: number;
	/** All reject with MediumError. The result is the caller's until its next read. */
	read(lba: number, blocks: number): Promise<Buffer>;
	write(lba: number, data: Buffer, durable: boolean): Promise<void>;
	flush(): Promise<void>;
	unmap(lba: number, blocks: number): Promise<void>;
	writeZeroes(lba: number, blocks: number, mayUnmap: boolean): Promise<void>;
	/** The run of blocks from lba on that are all mapped or all not. */
	extent(lba: number): { blocks: number; mapped: boolean };
	/**
	 * Runs work while nothing else, from any initiator, is executed on the medium.
	 * The calls above are work's to use. Not to be nested.
	 */
	exclusive<T>(work: () => Promise<T>): Promise<T>;
}

/** Who a disk is: the same after every restart. */
export interface Identity {
	readonly name: string;
	readonly uuid: string;
	/** ASCII, up to 8, 16 and 32 bytes. */
	readonly vendor: string;
	readonly product: string;
	readonly serial: string;
}

/** Whether reads or writes of a nexus may be executed without asking the logical unit. */
export type Gate = "run" | "ask" | "conflict";

/** What a logical unit needs of the controller that it is in. */
export interface Host {
	/** Gates, or the write cache, may differ from what they were. */
	changed(): void;
	/**
	 * Aborts the tasks that these nexuses have in the logical unit; resolves when
	 * none is left. `except` is not touched.
	 */
	abort(nexuses: readonly Nexus[], except?: Command): Promise<void>;
	/** All nexuses connected now. */
	nexuses(): readonly Nexus[];
	/** LUNs of the target, in ascending order. */
	luns(): readonly number[];
	/** Relative identifiers of the target ports: [1]. */
	targetPorts(): readonly number[];
	/** Name of the target: NAA designator, 8 bytes. */
	readonly targetNaa: Buffer;
	/** A logical unit of the controller, in whatever target, by its NAA or UUID designator. */
	findByDesignator(designator: Buffer): CopyPeer | undefined;
	/** Keeps what must survive a restart (APTPL), or undefined if there is nowhere to keep it. */
	readonly store: Store | undefined;
}

/** A logical unit as EXTENDED COPY sees it. */
export interface CopyPeer {
	readonly medium: Medium;
	/** Why the nexus may not read (write) it now; undefined: it may. */
	refusal(nexus: Nexus, access: "read" | "write"): Outcome | undefined;
}

/** A document of one logical unit, by the UUID of its medium. */
export interface Store {
	load(uuid: string): unknown;
	/** Durable and atomic; null removes. Throws if it cannot. */
	save(uuid: string, state: unknown): void;
}
