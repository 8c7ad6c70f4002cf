// SPDX-License-Identifier: MIT
// State of the device that migrates with the guest (vhost-user, "Migrating back-end state").
import { Buffer } from "node:buffer";
import { Socket } from "node:net";
import { VhostctlError } from "../errors.ts";

/** A state on its way; it is in memory on our side, whole. */
export interface StateTransfer {
	/** What came, or an empty buffer for what was sent; rejects if it did not get through. */
	readonly done: Promise<Buffer>;
	/** Ends it in the middle. */
	cancel(): void;
}

/** More is not a state of ours. */
const MAX_STATE = 65536;
/** How long the other end may take, in ms. */
const PATIENCE = 5000;

/** Takes over a descriptor; throws E_PROTOCOL if it is no pipe or socket. */
function openStream(fd: number, readable: boolean): Socket {
	try {
		return new Socket({ fd, readable, writable: !readable });
	} catch {
		throw new VhostctlError("E_PROTOCOL", "neither a pipe nor a socket");
	}
}

function track(
	socket: Socket,
	begin: (resolve: (data: Buffer) => void, fail: (why: string) => void) => void,
): StateTransfer {
	const done = new Promise<Buffer>((resolve, reject) => {
		const fail = (why: string) => reject(new VhostctlError("E_IO", why));
		socket.setTimeout(PATIENCE, () => fail("the other end does nothing"));
		socket.on("error", ({ message }) => fail(message));
		socket.on("close", () => fail("closed in the middle"));
		begin(resolve, fail);
	}).finally(() => socket.destroy());
	done.catch(() => {}); // whoever checks the state will see it
	return { done, cancel: () => void socket.destroy() };
}

/** Writes a state to a pipe or socket, which is taken over, and closes it. */
export function sendState(fd: number, state: Buffer): StateTransfer {
	const socket = openStream(fd, false);
	return track(socket, (resolve) => {
		socket.end(state, () => resolve(Buffer.alloc(0)));
	});
}

/** Reads a state to its end. */
export function receiveState(fd: number): StateTransfer {
	const socket = openStream(fd, true);
	return track(socket, (resolve, fail) => {
		const parts: Buffer[] = [];
		let size = 0;
		socket.on("data", (part: Buffer) => {
			parts.push(part);
			size += part.length;
			if (size > MAX_STATE) fail(`more than ${MAX_STATE} bytes`);
		});
		socket.on("end", () => resolve(Buffer.concat(parts)));
	});
}
