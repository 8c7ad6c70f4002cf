// SPDX-License-Identifier: MIT
// The dirty log of a connection (vhost-user, "Migration").
import { native } from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";
import type { LogArea } from "./codec.ts";
import { closeFd } from "./fds.ts";
import type { GuestMemory } from "./memory.ts";

export interface LogBase extends LogArea {
	readonly fd: number;
}

/** What the front end said of its log. Descriptors are the log's. */
export interface DirtyLog {
	/** struct vhc_log *, if a base was set. */
	readonly handle: bigint | undefined;
	readonly base: LogBase | undefined;
	/** Eventfd to signal; -1: none. */
	readonly signal: number;
}

export const NO_LOG: DirtyLog = {
	handle: undefined,
	base: undefined,
	signal: -1,
};

/** Maps a log, with descriptors that are its own if that succeeds. Throws why not. */
export function makeLog(base: LogBase | undefined, signal: number): DirtyLog {
	if (!base) return { handle: undefined, base, signal };
	try {
		const handle = native.logCreate({ ...base, signalFd: signal });
		return { handle, base, signal };
	} catch (error) {
		throw fromErrno(error, "dirty log");
	}
}

/** Ends a log, and closes its descriptors but for those that `next` goes on with. */
export function releaseLog(log: DirtyLog, next: DirtyLog = NO_LOG): void {
	if (log.handle !== undefined) native.logRelease(log.handle);
	if (log.base && log.base.fd !== next.base?.fd) closeFd(log.base.fd);
	if (log.signal !== next.signal) closeFd(log.signal);
}

/** Marks all memory that there is: what was written without a log is not known. */
export function markAll(log: DirtyLog, memory: GuestMemory | undefined): void {
	if (log.handle === undefined) return;
	for (const { gpa, size } of memory?.regions ?? []) {
		try {
			native.logMark(log.handle, gpa, size);
		} catch {
			// A region beyond the end of the log: the front end does not want to know.
		}
	}
}
