// SPDX-License-Identifier: MIT
import type { Server, Socket } from "node:net";
import process from "node:process";
import { native } from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";
import { type FileLock, inheritLock, lockFile } from "./file-lock.ts";

/**
 * Locks path.lock, as SPDK does, for as long as this process uses the socket at
 * path. Throws E_BUSY if another process has it.
 */
export function lockSocket(path: string): FileLock {
	return lockFile(
		`${path}.lock`,
		`another instance has the control socket ${path}`,
	);
}

/** The lock of the socket at path as a predecessor left it: a descriptor that this takes over. */
export function inheritSocketLock(path: string, fd: number): FileLock {
	return inheritLock(`${path}.lock`, fd);
}

/** Makes the socket at path, which only this user may use from its first moment on. */
export function listen(server: Server, path: string): Promise<void> {
	return new Promise((resolve, reject) => {
		server.once("error", (error) =>
			reject(fromErrno(error, `cannot listen at ${path}`)),
		);
		server.once("listening", resolve);
		// bind(2) happens within the call, on Node and on Deno.
		const before = process.umask(0o177);
		try {
			server.listen(path);
		} finally {
			process.umask(before);
		}
	});
}

function descriptorOf(socket: Socket): number | undefined {
	const { _handle: handle } = socket as Socket & {
		_handle?: { fd?: unknown } | null;
	};
	return typeof handle?.fd === "number" ? handle.fd : undefined;
}

/** True if the process at the other end is ours or root's. */
export function isTrusted(socket: Socket): boolean {
	const fd = descriptorOf(socket);
	if (fd === undefined || fd < 0) return false;
	try {
		const uid = native.socketPeerUid(fd);
		return uid === 0 || uid === process.geteuid?.();
	} catch {
		return false;
	}
}
