// SPDX-License-Identifier: MIT
// Documents of logical units in files, one a UUID.
import {
	closeSync,
	constants,
	fstatSync,
	fsyncSync,
	mkdirSync,
	openSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Store } from "../scsi/task.ts";

/** Bytes of the largest document that is read. */
const MAX_BYTES = 1024 * 1024;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function fileOf(dir: string, uuid: string): string {
	if (!UUID.test(uuid)) throw new Error(`${JSON.stringify(uuid)} is no UUID`);
	return join(dir, `${uuid.toLowerCase()}.json`);
}

function isMissing(error: unknown): boolean {
	return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/** Opens a file, lets work have its descriptor, and closes it whatever happens. */
function withFile<T>(
	path: string,
	flags: string | number,
	work: (fd: number) => T,
	mode?: number,
): T {
	const fd = openSync(path, flags, mode);
	try {
		return work(fd);
	} finally {
		closeSync(fd);
	}
}

/** Makes a rename or removal in a folder survive a crash. */
function syncFolder(dir: string): void {
	withFile(dir, "r", fsyncSync);
}

function load(path: string): unknown {
	let text: string;
	try {
		// O_NONBLOCK: a FIFO in its place would make the open wait.
		const flags = constants.O_RDONLY | constants.O_NONBLOCK;
		text = withFile(path, flags, (fd) => {
			const stat = fstatSync(fd);
			if (!stat.isFile()) throw new Error(`${path} is not a file`);
			if (stat.size > MAX_BYTES)
				throw new Error(`${path} is larger than ${MAX_BYTES} bytes`);
			return readFileSync(fd, "utf8");
		});
	} catch (error) {
		if (isMissing(error)) return undefined;
		throw error;
	}
	try {
		return JSON.parse(text);
	} catch {
		throw new Error(`${path} is not JSON`);
	}
}

/** Replaces the file as a whole: a crash leaves what was there, or what is to be. */
function save(dir: string, path: string, state: unknown): void {
	mkdirSync(dir, { recursive: true, mode: 0o700 });
	const draft = `${path}.new`;
	rmSync(draft, { force: true }); // of a crash
	try {
		withFile(
			draft,
			"wx",
			(fd) => {
				writeFileSync(fd, `${JSON.stringify(state, undefined, "\t")}\n`);
				fsyncSync(fd);
			},
			0o600,
		);
		renameSync(draft, path);
	} catch (error) {
		rmSync(draft, { force: true });
		throw error;
	}
	syncFolder(dir);
}

function remove(dir: string, path: string): void {
	try {
		rmSync(path);
	} catch (error) {
		if (isMissing(error)) return;
		throw error;
	}
	syncFolder(dir);
}

/**
 * A store of JSON files, `<UUID in lower case>.json` in `dir`, readable by their owner
 * alone. The folder is made when the first is saved. A load gives undefined where
 * there is no file, and throws where there is something that is not such a file.
 */
export function openStore(dir: string): Store {
	return {
		load: (uuid) => load(fileOf(dir, uuid)),
		save(uuid, state) {
			const path = fileOf(dir, uuid);
			if (state === null) remove(dir, path);
			else save(dir, path, state);
		},
	};
}
