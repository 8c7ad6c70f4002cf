// SPDX-License-Identifier: MIT
// The last requests of a controller's rings, recorded while that is switched on.
import {
	errnoName,
	native,
	TRACE_MAX_SIZE,
	TRACE_MIN_SIZE,
	TRACE_NOWHERE,
	TRACE_QUIET,
	TRACE_UP,
} from "../ffi/native.ts";
import { VhostctlError } from "./errors.ts";
import { OPS, type Op } from "./stats.ts";
import type { Session } from "./vhost-user/device.ts";

/** Most requests that can be kept of a ring. */
export const MAX_TRACE = TRACE_MAX_SIZE;

/** What a SCSI driver was told. */
export interface TracedCommand {
	/** Undefined: it named no logical unit that can be. */
	readonly target: number | undefined;
	readonly lun: number | undefined;
	readonly tag: bigint;
	/** Of the CDB; undefined for a READ or WRITE that took the shortest way. */
	readonly opcode: number | undefined;
	readonly status: number;
	/** VIRTIO_SCSI_S_*. */
	readonly response: number;
	readonly senseKey: number;
	readonly asc: number;
	readonly ascq: number;
}

/**
 * A request that has ended. Times are nanoseconds of CLOCK_MONOTONIC; undefined: it did
 * not happen, is yet to, or was before the recording began.
 */
export interface TracedRequest {
	/** From 0 on, since the recording began, in the order in which requests ended. */
	readonly number: number;
	/** The same for requests of which all times are one: they were taken together. */
	readonly batch: number;
	readonly op: Op;
	/** In bytes; of several ranges that of the first, and the sum of their lengths. */
	readonly offset: number;
	readonly length: number;
	/** "EIO": how the backend failed, or what was wrong with the request. */
	readonly error: string | undefined;
	/** Of its descriptor chain. */
	readonly head: number;
	/** Undefined on a ring that has no commands. */
	readonly scsi: TracedCommand | undefined;
	/** It was answered outside of the data plane. */
	readonly up: boolean;
	/** The driver wanted no call. */
	readonly quiet: boolean;
	/** The kick that announced it was seen. */
	readonly kicked: number | undefined;
	/** From the ring. */
	readonly taken: number;
	/** To the backend, last. */
	readonly submitted: number | undefined;
	/** By the backend, or whoever answered it. */
	readonly completed: number | undefined;
	/** The driver can see its end. */
	readonly published: number | undefined;
	/** The driver was called. */
	readonly called: number | undefined;
}

/** What was read of a ring. */
export interface Trace {
	/** When; as the times of requests. */
	readonly nowNs: number;
	/** Oldest first. */
	readonly requests: readonly TracedRequest[];
}

/** What is left of a connection that has ended. */
export interface EndedTrace {
	/** The connection's number. */
	readonly session: number;
	/** When it ended: milliseconds since 1970. */
	readonly endedAt: number;
	/** By index. */
	readonly rings: readonly number[];
	/** As Traces.read. */
	read(index: number, last?: number): Trace | undefined;
}

/** A controller's traces: one for each ring that has run since it was switched on. */
export interface Traces {
	/** Requests kept of each ring; 0: off. */
	readonly size: number;
	/**
	 * Keeps the last `size` requests of each ring, rounded up to a power of two of 64 at
	 * least; 0 switches it off. What was kept is dropped, also of ended connections. Throws
	 * E_INVALID.
	 */
	setSize(size: number): void;
	/** The last requests of a ring, up to `last`; undefined if it has no trace. */
	read(session: Session, index: number, last?: number): Trace | undefined;
	/** Of the last connection with requests that has ended: what a guest did before it died. */
	readonly ended: EndedTrace | undefined;
	/** To be called before a ring starts, */
	ringStarts(session: Session, index: number, ring: bigint): void;
	/** after it has stopped, or did not start, */
	ringStopped(session: Session, index: number): void;
	/** when a connection has ended, */
	sessionEnded(session: Session): void;
	/** and when all have and the controller goes. */
	close(): void;
}

interface Entry {
	/** struct vhc_trace *; 0n: none. */
	trace: bigint;
	/** struct vhc_ring * while it runs. */
	ring: bigint | undefined;
}

/** What is kept of a connection that has ended. */
interface Past {
	readonly session: number;
	readonly endedAt: number;
	readonly entries: ReadonlyMap<number, Entry>;
}

type Raw = ReturnType<typeof native.traceRead>["records"][number];

const moment = (ns: bigint) => (ns === 0n ? undefined : Number(ns));

function commandOf(raw: Raw): TracedCommand {
	const nowhere = raw.address === TRACE_NOWHERE;
	// No command that stays down has opcode 0: TEST UNIT READY goes up.
	const unknown = raw.opcode === 0 && (raw.flags & TRACE_UP) === 0;
	return {
		target: nowhere ? undefined : raw.address >>> 16,
		lun: nowhere ? undefined : raw.address & 0xffff,
		tag: raw.tag,
		opcode: unknown ? undefined : raw.opcode,
		status: raw.status,
		response: raw.response,
		senseKey: raw.sense_key,
		asc: raw.asc,
		ascq: raw.ascq,
	};
}

function requestOf(raw: Raw, isCommand: boolean): TracedRequest {
	return {
		number: Number(raw.number),
		batch: raw.batch,
		op: OPS[raw.op] ?? "other",
		offset: Number(raw.offset),
		length: Number(raw.len),
		error: raw.result === 0 ? undefined : errnoName(-raw.result),
		head: raw.head,
		scsi: isCommand ? commandOf(raw) : undefined,
		up: (raw.flags & TRACE_UP) !== 0,
		quiet: (raw.flags & TRACE_QUIET) !== 0,
		kicked: moment(raw.kicked),
		taken: Number(raw.taken),
		submitted: moment(raw.submitted),
		completed: moment(raw.completed),
		published: moment(raw.published),
		called: moment(raw.called),
	};
}

function roundUp(size: number): number {
	if (!Number.isInteger(size) || size < 0 || size > MAX_TRACE)
		throw new VhostctlError(
			"E_INVALID",
			`trace of ${size} requests: want 1 to ${MAX_TRACE}, or 0 for none`,
		);
	if (size === 0) return 0;
	return Math.max(TRACE_MIN_SIZE, 2 ** Math.ceil(Math.log2(size)));
}

/** hasCommands: whether what is asked in a ring are SCSI commands. */
export function createTraces(hasCommands: (index: number) => boolean): Traces {
	const sessions = new Map<Session, Map<number, Entry>>();
	let past: Past | undefined;
	let size = 0;

	const drop = (entry: Entry): void => {
		if (entry.trace !== 0n) native.traceRelease(entry.trace);
		entry.trace = 0n;
	};
	const dropPast = (): void => {
		for (const entry of past?.entries.values() ?? []) drop(entry);
		past = undefined;
	};
	const read = (
		entry: Entry | undefined,
		index: number,
		last: number,
	): Trace | undefined => {
		const trace = entry?.trace ?? 0n;
		if (trace === 0n) return undefined;
		const { nowNs, records } = native.traceRead(trace, Math.min(last, size));
		const scsi = hasCommands(index);
		return {
			nowNs: Number(nowNs),
			requests: records.map((raw) => requestOf(raw, scsi)),
		};
	};
	const isEmpty = ({ trace }: Entry): boolean =>
		trace === 0n || native.traceRead(trace, 1).records.length === 0;
	/** Gives an entry's ring a new trace, or none. */
	const renew = (entry: Entry): void => {
		const fresh = size === 0 ? 0n : native.traceCreate(size);
		if (entry.ring !== undefined) native.ringSetTrace(entry.ring, fresh);
		drop(entry);
		entry.trace = fresh;
	};
	const entryOf = (session: Session, index: number): Entry => {
		const rings = sessions.get(session) ?? new Map<number, Entry>();
		sessions.set(session, rings);
		const entry = rings.get(index) ?? { trace: 0n, ring: undefined };
		rings.set(index, entry);
		return entry;
	};
	return {
		get size() {
			return size;
		},
		setSize(asked) {
			size = roundUp(asked);
			dropPast();
			for (const rings of sessions.values())
				for (const entry of rings.values()) renew(entry);
		},
		read: (session, index, last = size) =>
			read(sessions.get(session)?.get(index), index, last),
		get ended() {
			if (!past) return undefined;
			const { session, endedAt, entries } = past;
			return {
				session,
				endedAt,
				rings: [...entries.keys()].sort((a, b) => a - b),
				read: (index: number, last = size) =>
					read(entries.get(index), index, last),
			};
		},
		ringStarts(session, index, ring) {
			const entry = entryOf(session, index);
			if (size > 0 && entry.trace === 0n)
				entry.trace = native.traceCreate(size);
			if (entry.trace !== 0n) native.ringSetTrace(ring, entry.trace);
			entry.ring = ring;
		},
		ringStopped(session, index) {
			entryOf(session, index).ring = undefined;
		},
		sessionEnded(session) {
			const entries = sessions.get(session) ?? new Map<number, Entry>();
			sessions.delete(session);
			// One that asked for nothing would drive out one that died of what it asked for.
			if ([...entries.values()].every(isEmpty)) {
				for (const entry of entries.values()) drop(entry);
				return;
			}
			dropPast();
			past = { session: session.id, endedAt: Date.now(), entries };
		},
		close: dropPast,
	};
}
