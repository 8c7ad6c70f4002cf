// SPDX-License-Identifier: MIT
// A file that is replaced as a whole: a crash leaves what it had, or what it was to have.
import {
	ftruncateSync,
	lstatSync,
	readFileSync,
	realpathSync,
	rmSync,
	statSync,
	writeSync,
} from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";
import { fromErrno, VhostctlError } from "../../errors.ts";
import { createLock } from "../../lock.ts";
import { lockFile } from "../file-lock.ts";

export interface StateFile {
	/** Absolute, and no symbolic link. */
	readonly path: string;
	/** What it had when it was opened; undefined: there was none. */
	readonly text: string | undefined;
	/** Makes room for so many bytes, so that a write has them. Throws E_NO_MEMORY, E_IO and the like. */
	reserve(bytes: number): Promise<void>;
	/** Replaces what the file has. When this resolves, a crash of the machine keeps it. Throws as reserve. */
	write(text: string): Promise<void>;
	/** Gives up what was reserved and not written. */
	release(): Promise<void>;
	/** Ends what goes on and gives the file back: no write changes it any more. Idempotent. */
	close(): Promise<void>;
}

/** Where a file is, or is to be. A symbolic link stays one: what it leads to is replaced. */
function locate(path: string): string {
	const absolute = resolve(path);
	try {
		const link = lstatSync(absolute, { throwIfNoEntry: false });
		if (link) return realpathSync(absolute);
		return join(realpathSync(dirname(absolute)), basename(absolute));
	} catch (error) {
		throw fromErrno(error, `state file ${path}`);
	}
}

function read(path: string): string | undefined {
	try {
		const found = statSync(path, { throwIfNoEntry: false });
		if (!found) return undefined;
		if (found.isFile()) return readFileSync(path, "utf8");
	} catch (error) {
		throw fromErrno(error, `state file ${path}`);
	}
	throw new VhostctlError("E_INVALID", `state file ${path}: is not a file`);
}

/** The process that has a state file open; undefined if none has, or it cannot be told. */
export function holderOf(path: string): number | undefined {
	try {
		const pid = Number(readFileSync(`${locate(path)}.lock`, "utf8"));
		return pid > 0 ? pid : undefined;
	} catch {
		return undefined;
	}
}

async function syncFolder(path: string): Promise<void> {
	const folder = await open(path, "r");
	try {
		await folder.sync();
	} finally {
		await folder.close();
	}
}

/** What is written before it takes the file's place. */
interface Draft {
	readonly handle: FileHandle;
	size: number;
}

/** The writing half of a state file. */
function createWriter(
	path: string,
): Pick<StateFile, "reserve" | "write" | "release" | "close"> {
	const draftPath = `${path}.new`;
	const lock = createLock();
	let draft: Draft | undefined;
	let closed = false;

	const discard = async () => {
		const had = draft;
		draft = undefined;
		await had?.handle.close().catch(() => {});
		await rm(draftPath, { force: true }).catch(() => {});
	};
	const room = async (bytes: number): Promise<Draft> => {
		draft ??= { handle: await open(draftPath, "wx", 0o600), size: 0 };
		const missing = bytes - draft.size;
		if (missing > 0) {
			// A write tells that there is no room; making the file longer would not.
			const blanks = new Uint8Array(missing).fill(0x20);
			const { bytesWritten } = await draft.handle.write(
				blanks,
				0,
				missing,
				draft.size,
			);
			draft.size += bytesWritten;
			if (bytesWritten < missing) return room(bytes);
		}
		return draft;
	};
	const replace = async (text: string) => {
		const bytes = new TextEncoder().encode(text);
		const { handle } = await room(bytes.length);
		for (let at = 0; at < bytes.length; ) {
			const rest = bytes.length - at;
			at += (await handle.write(bytes, at, rest, at)).bytesWritten;
		}
		await handle.truncate(bytes.length);
		await handle.sync();
		await handle.close();
		draft = undefined;
		await rename(draftPath, path);
		await syncFolder(dirname(path));
	};
	const orDiscard = (work: () => Promise<unknown>) =>
		lock(async () => {
			if (closed) throw new VhostctlError("E_BUSY", "the instance ends");
			try {
				await work();
			} catch (error) {
				await discard();
				throw fromErrno(error, `state file ${path}`);
			}
		});

	return {
		reserve: (bytes) => orDiscard(() => room(bytes)),
		write: (text) => orDiscard(() => replace(text)),
		release: () => lock(discard),
		close: () =>
			lock(() => {
				closed = true;
				return discard();
			}),
	};
}

/**
 * Opens a state file, there or not, for this process alone. Throws E_BUSY (another
 * instance has it), E_NOT_FOUND (no such folder), E_INVALID, E_PERMISSION.
 */
export function openStateFile(path: string): StateFile {
	const real = locate(path);
	const lock = lockFile(
		`${real}.lock`,
		`another instance has the state file ${real}`,
	);
	try {
		ftruncateSync(lock.fd);
		writeSync(lock.fd, `${process.pid}\n`, 0);
		rmSync(`${real}.new`, { force: true }); // of a crash
		const writer = createWriter(real);
		let closing: Promise<void> | undefined;
		return {
			path: real,
			text: read(real),
			...writer,
			close() {
				closing ??= writer.close().finally(() => lock.release());
				return closing;
			},
		};
	} catch (error) {
		lock.release();
		throw fromErrno(error, `state file ${real}`);
	}
}
