// SPDX-License-Identifier: MIT
// Calls as messages (vhost-user, "In-band notifications"): the ring signals a socket of ours.
import { Socket } from "node:net";
import { native } from "../../ffi/native.ts";

export interface CallRelay {
	/** What the ring signals, in the place of a call descriptor. */
	readonly fd: number;
	/** The ring has stopped; what it signalled last is still told. */
	close(): void;
}

/** Has `call` run after each signal: one at a time, and once for all that came meanwhile. */
export function relayCalls(call: () => Promise<void>): CallRelay {
	const [ours, theirs] = native.socketPair();
	const socket = new Socket({ fd: ours, readable: true, writable: false });
	let calling = false;
	let due = false;

	const tell = async (): Promise<void> => {
		due = true;
		if (calling) return;
		calling = true;
		while (due) {
			due = false;
			await call();
		}
		calling = false;
	};
	socket.on("data", () => void tell());
	socket.on("error", () => socket.destroy());
	return {
		fd: theirs,
		close: () => void native.fdClose(theirs), // the end comes after the last signal
	};
}
