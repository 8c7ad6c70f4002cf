// SPDX-License-Identifier: MIT
// Files that only one process at a time has locked (flock(2)).
import {
	closeSync,
	constants,
	fstatSync,
	openSync,
	statSync,
	unlinkSync,
} from "node:fs";
import { constants as os } from "node:os";
import { NativeError, native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";

const { EAGAIN } = os.errno;

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
 * Locks the file at path, which is made, and removed on release. taken: the message if
 * another process has it; then it throws E_BUSY.
 */
export function lockFile(path: string, taken: string): FileLock {
	try {
		let fd = tryLock(path);
		while (fd === undefined) fd = tryLock(path);
		const held = fd;
		return makeLock(path, held, () => closeSync(held));
	} catch (error) {
		const isTaken = error instanceof NativeError && error.errno === EAGAIN;
		if (!isTaken) throw fromErrno(error, `cannot lock ${path}`);
		throw new VhostctlError("E_BUSY", taken, { cause: error });
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

/** A lock on the file at path as a predecessor left it: a descriptor that this takes over. */
export function inheritLock(path: string, fd: number): FileLock {
	return makeLock(path, fd, () => void native.fdClose(fd));
}
