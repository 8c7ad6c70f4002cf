// SPDX-License-Identifier: MIT
import {
	closeSync,
	constants,
	fstatSync,
	openSync,
	statSync,
	unlinkSync,
} from "node:fs";
import type { Server, Socket } from "node:net";
import { constants as os } from "node:os";
import process from "node:process";
import { NativeError, native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";

const { EAGAIN } = os.errno;

/** A file that only one process at a time has locked. */
export interface FileLock {
	/** As long as one process has it open, the file is locked. */
	readonly fd: number;
	/** With `leave` the file stays, for a successor that has the descriptor. */
	release(leave?: boolean): void;
}

function tryLock(path: string): number | undefined {
	const fd = openSync(
		path,
		constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
		0o600,
	);
	try {
		native.fdLock(fd);
		// The holder before us may have removed the file that we opened.
		const now = statSync(path, { throwIfNoEntry: false });
		if (now?.ino === fstatSync(fd).ino) return fd;
		closeSync(fd);
		return undefined;
	} catch (error) {
		closeSync(fd);
		throw error;
	}
}

/**
 * Locks path.lock, as SPDK does, for as long as this process uses the socket at
 * path. Throws E_BUSY if another process has it.
 */
export function lockSocket(path: string): FileLock {
	const lockPath = `${path}.lock`;
	try {
		let fd = tryLock(lockPath);
		while (fd === undefined) fd = tryLock(lockPath);
		const held = fd;
		return makeLock(lockPath, held, () => closeSync(held));
	} catch (error) {
		const taken = error instanceof NativeError && error.errno === EAGAIN;
		if (!taken) throw fromErrno(error, `cannot lock ${lockPath}`);
		throw new VhostctlError(
			"E_BUSY",
			`another instance has the control socket ${path}`,
			{ cause: error },
		);
	}
}

function makeLock(path: string, fd: number, close: () => void): FileLock {
	return {
		fd,
		release(leave = false) {
			if (!leave) unlinkSync(path);
			close();
		},
	};
}

/** The lock of the socket at path as a predecessor left it: a descriptor that this takes over. */
export function inheritLock(path: string, fd: number): FileLock {
	return makeLock(`${path}.lock`, fd, () => void native.fdClose(fd));
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
