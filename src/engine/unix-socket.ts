// SPDX-License-Identifier: MIT
import { lstatSync, unlinkSync } from "node:fs";
import { constants } from "node:os";
import { NativeError, native } from "../ffi/native.ts";
import { VhostctlError } from "./errors.ts";

/** Longest path of a Unix socket, in bytes. */
const MAX_PATH = 107;

/** Throws E_INVALID for a path that does not fit into a socket's address. */
export function checkSocketPath(path: string): void {
	if (new TextEncoder().encode(path).length <= MAX_PATH) return;
	throw new VhostctlError(
		"E_INVALID",
		`${path}: a socket's path has at most ${MAX_PATH} bytes`,
	);
}

/** Whether a process listens at a path where there is a socket. */
export function isServed(path: string): boolean {
	try {
		native.fdClose(native.socketConnect(path));
		return true;
	} catch (error) {
		// Whatever else fails, such as a full backlog, somebody is there.
		const refused = constants.errno.ECONNREFUSED;
		return !(error instanceof NativeError && error.errno === refused);
	}
}

/**
 * Removes the socket that a process which is gone left at path, if there is one.
 * Returns whether. Throws E_BUSY if somebody listens there, E_EXISTS if it is no socket.
 */
export function clearStaleSocket(path: string): boolean {
	const stat = lstatSync(path, { throwIfNoEntry: false });
	if (!stat) return false;
	if (!stat.isSocket()) {
		throw new VhostctlError("E_EXISTS", `${path} exists and is no socket`);
	}
	if (isServed(path)) {
		throw new VhostctlError("E_BUSY", `${path}: another process listens there`);
	}
	unlinkSync(path);
	return true;
}
