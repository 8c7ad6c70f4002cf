// SPDX-License-Identifier: MIT
// Lines to standard error, which nothing waits for: a reader that stands still must not stop the
// engine, and one that has gone must not end it.
import { Buffer } from "node:buffer";
import { constants, fstatSync, openSync } from "node:fs";
import { NativeError, native } from "../ffi/native.ts";

/** Standard error. */
export const STDERR = 2;

/**
 * Writes what a descriptor takes at once, without waiting. Returns how many bytes. Throws
 * NativeError (EAGAIN: none).
 */
export type TryWrite = (data: Uint8Array) => number;

/**
 * A way to a pipe or a terminal that does not wait, without a change for the others that have
 * it open; undefined if there is none, or the kind of file needs none.
 */
function reopen(fd: number): number | undefined {
	const { O_WRONLY, O_APPEND, O_NONBLOCK, O_NOCTTY } = constants;
	try {
		const file = fstatSync(fd);
		if (!file.isFIFO() && !file.isCharacterDevice()) return undefined;
		const flags = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY;
		return openSync(`/proc/self/fd/${fd}`, flags);
	} catch {
		return undefined; // of another user, or closed
	}
}

/** Writes to a descriptor of this process, for as long as the process runs. */
export function writerOf(fd: number): TryWrite {
	let own: number | undefined;
	return (data) => {
		own ??= reopen(fd) ?? fd;
		return native.fdTryWrite(own, data);
	};
}

/** What a descriptor that is of no more use gives. */
const GONE: ReadonlySet<string> = new Set(["EPIPE", "EBADF", "ECONNRESET"]);

/**
 * Makes what takes lines. Those that are not taken at once are lost; how many is told, in the
 * line that `noteOf` makes, before the first that is taken again. When the reader has gone, all
 * are lost.
 */
export function createOutput(
	write: TryWrite,
	noteOf: (lost: number) => string,
): (line: string) => void {
	let lost = 0;
	/** The last line was not taken to its end. */
	let torn = false;
	let gone = false;

	const put = (text: string): boolean => {
		const data = Buffer.from(torn ? `\n${text}` : text);
		try {
			const count = write(data);
			torn = count < data.length;
			return !torn;
		} catch (error) {
			gone = error instanceof NativeError && GONE.has(error.code);
			return false;
		}
	};
	return (line) => {
		if (gone) return;
		const told = lost === 0 || put(noteOf(lost));
		if (told) lost = 0;
		if (!told || !put(line)) lost++;
	};
}
