// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";

/** Descriptors that came with a message. */
export interface MessageFds {
	/** How many came. */
	readonly count: number;
	/** A descriptor for use during the message. */
	peek(index: number): number;
	/** One, by default the first, which is the caller's from now on. */
	take(index?: number): number;
}

/** Each is taken or closed, on every path. */
export interface ReceivedFds extends MessageFds {
	/** Closes what was not taken. */
	close(): void;
}

export function receiveFds(fds: number[]): ReceivedFds {
	const left = new Set(fds);
	const at = (index: number): number => {
		const fd = fds[index];
		if (fd === undefined) throw new RangeError(`no descriptor ${index}`);
		return fd;
	};
	return {
		count: fds.length,
		peek: at,
		take(index = 0) {
			const fd = at(index);
			left.delete(fd);
			return fd;
		},
		close() {
			for (const fd of left) native.fdClose(fd);
			left.clear();
		},
	};
}

/** Closes a descriptor that may be -1 for none. */
export function closeFd(fd: number): void {
	if (fd >= 0) native.fdClose(fd);
}
