// SPDX-License-Identifier: MIT
import {
	closeSync,
	constants,
	fstatSync,
	openSync,
	readFileSync,
	realpathSync,
	type Stats,
	statfsSync,
	statSync,
} from "node:fs";
import { FILE_BLOCK_DEVICE, FILE_READONLY, native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, BackendParts, Quiesced } from "./backend.ts";
import { resizeInPlace } from "./null.ts";
import { checkBlockSize, checkNumBlocks } from "./size.ts";

/** Under which of SPDK's names it was made; the backend is the same. */
export type FileDriver = "aio" | "uring";

export interface FileOptions {
	driver: FileDriver;
	/** A regular file or a block device. */
	filename: string;
	/** Bytes: a power of two from 512 to 65536. Default: the device's own, 512 for a file. */
	blockSize?: number | undefined;
	readonly?: boolean | undefined;
	/** Offer UNMAP and WRITE ZEROES; default: true. */
	fallocate?: boolean | undefined;
}

const TMPFS_MAGIC = 0x01021994;
const SECTOR = 512;

/** The folder in sysfs that tells of the block device behind a stat. */
function sysfsOf(stat: Stats): string {
	const dev = BigInt(stat.rdev);
	const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
	const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
	return `/sys/dev/block/${major}:${minor & 0xffffffffn}`;
}

/** Bytes. */
function sizeOf(stat: Stats): number {
	if (!stat.isBlockDevice()) return stat.size;
	return Number(readFileSync(`${sysfsOf(stat)}/size`, "utf8")) * SECTOR;
}

function logicalBlockSize(stat: Stats): number {
	if (!stat.isBlockDevice()) return SECTOR;
	const folder = sysfsOf(stat);
	// A partition has no queue of its own: its disk, the folder above, has.
	for (const queue of [`${folder}/queue`, `${folder}/../queue`]) {
		try {
			return Number(readFileSync(`${queue}/logical_block_size`, "utf8"));
		} catch {}
	}
	return SECTOR;
}

function blocksOf(filename: string, stat: Stats, blockSize: number): number {
	const size = sizeOf(stat);
	if (size % blockSize !== 0) {
		throw new VhostctlError(
			"E_INVALID",
			`${filename}: its ${size} bytes are no multiple of block_size ${blockSize}`,
		);
	}
	checkNumBlocks(size / blockSize, blockSize);
	return size / blockSize;
}

function isTmpfs(filename: string): boolean {
	return statfsSync(filename).type === TMPFS_MAGIC;
}

/** Names an open file, whatever its name is now, or none any more. */
function procPath(fd: number): string {
	return `/proc/self/fd/${fd}`;
}

/** Opens the file again for direct I/O. A string says why that cannot be. */
function openDirect(
	filename: string,
	flags: number,
	blockSize: number,
): number | string {
	// Its pages are the page cache, whatever it says to O_DIRECT.
	if (isTmpfs(filename)) return "tmpfs is memory";
	let fd: number;
	try {
		fd = openSync(filename, flags | constants.O_DIRECT);
	} catch {
		return "its file system takes no O_DIRECT";
	}
	try {
		const { offset } = native.fileAlignment(fd);
		if (offset <= blockSize && offset > 0) return fd;
		closeSync(fd);
		return `direct I/O wants blocks of ${offset} bytes`;
	} catch {
		closeSync(fd);
		return "its file system does no direct I/O";
	}
}

interface Opened {
	path: string;
	/** Kept: a block device is ours as long as it is open, and a successor goes on with it. */
	fd: number;
	/** Closes it. */
	close(): void;
	stat: Stats;
	blockSize: number;
	numBlocks: number;
	handle: bigint;
	/** Undefined: I/O is direct. */
	buffered: string | undefined;
}

function makeNative(
	options: FileOptions,
	opened: Omit<Opened, "handle" | "buffered">,
): Opened {
	const { fd, blockSize } = opened;
	const access = options.readonly ? constants.O_RDONLY : constants.O_RDWR;
	const direct = openDirect(procPath(fd), access, blockSize);
	const directFd = typeof direct === "number" ? direct : -1;
	try {
		const handle = native.bdevFileCreate({
			fd,
			direct_fd: directFd,
			block_size: blockSize,
			flags:
				(options.readonly ? FILE_READONLY : 0) |
				(opened.stat.isBlockDevice() ? FILE_BLOCK_DEVICE : 0),
			num_blocks: BigInt(opened.numBlocks),
		});
		const buffered = typeof direct === "string" ? direct : undefined;
		return { ...opened, handle, buffered };
	} finally {
		if (directFd >= 0) closeSync(directFd);
	}
}

function open(options: FileOptions): Opened {
	const { filename } = options;
	const before = statSync(filename);
	if (!before.isFile() && !before.isBlockDevice()) {
		throw new VhostctlError(
			"E_INVALID",
			`${filename}: neither a regular file nor a block device`,
		);
	}
	// O_EXCL without O_CREAT: a block device that is mounted or taken is refused.
	const exclusive =
		before.isBlockDevice() && !options.readonly ? constants.O_EXCL : 0;
	const access = options.readonly ? constants.O_RDONLY : constants.O_RDWR;
	const fd = openSync(filename, access | exclusive);
	const close = () => closeSync(fd);
	try {
		const stat = fstatSync(fd);
		const blockSize = options.blockSize || logicalBlockSize(stat);
		checkBlockSize(blockSize);
		const numBlocks = blocksOf(filename, stat, blockSize);
		const path = realpathSync(filename);
		return makeNative(options, { path, fd, close, stat, blockSize, numBlocks });
	} catch (error) {
		close();
		throw error;
	}
}

/** What goes to another process; its descriptor beside it. */
interface FileDocument {
	readonly path: string;
	readonly blockSize: number;
	readonly numBlocks: number;
}

/** The file as another process has it open, with the size that it knows. */
function inherit(
	options: FileOptions,
	{ document, fds }: BackendParts,
): Opened {
	const [fd = -1] = fds;
	const close = () => void native.fdClose(fd);
	const stat = statSync(procPath(fd));
	return makeNative(options, {
		...(document as FileDocument),
		fd,
		close,
		stat,
	});
}

/**
 * Makes a disk of a file or block device, or of one that another process has open,
 * with direct I/O where the file system
 * and the block size allow it; the log and driver_specific say whether.
 * Throws E_NOT_FOUND, E_PERMISSION, E_BUSY, E_INVALID, E_UNSUPPORTED.
 */
export function createFileBackend(
	options: FileOptions,
	log: Logger,
	inherited?: BackendParts,
): Backend {
	const { filename, driver } = options;
	let opened: Opened;
	try {
		opened = inherited ? inherit(options, inherited) : open(options);
	} catch (error) {
		throw fromErrno(error, `cannot open ${filename}`);
	}
	const { handle, blockSize, buffered } = opened;
	log.info(
		`${filename}: ${buffered === undefined ? "direct I/O" : `buffered I/O (${buffered})`}`,
	);
	const changes = !options.readonly && options.fallocate !== false;
	const backend = {
		kind: driver,
		productName: driver === "aio" ? "AIO disk" : "URING bdev",
		path: opened.path,
		handle,
		blockSize,
		physicalBlockSize: blockSize,
		numBlocks: opened.numBlocks,
		made: { kind: "file" as const, options },
		handover: {
			share: async () => ({
				document: {
					path: opened.path,
					blockSize,
					numBlocks: backend.numBlocks,
				},
				fds: [opened.fd],
			}),
			save: () => undefined,
			load() {},
		},
		readonly: options.readonly ?? false,
		supports: { flush: true, unmap: changes, writeZeroes: changes },
		driverSpecific: () => ({
			[driver]: {
				filename,
				block_size_override: Boolean(options.blockSize),
				readonly: options.readonly ?? false,
				fallocate: changes,
				direct: buffered === undefined,
			},
		}),
		async resize() {
			throw new VhostctlError(
				"E_UNSUPPORTED",
				`resize: ${filename} decides its size; change that, then rescan`,
			);
		},
		async rescan(quiesced: Quiesced) {
			await resizeInPlace(backend, currentBlocks(), quiesced);
		},
		release() {
			native.bdevRelease(handle);
			opened.close();
		},
	};
	const currentBlocks = () => {
		try {
			const stat = statSync(filename);
			const same =
				stat.ino === opened.stat.ino &&
				stat.dev === opened.stat.dev &&
				stat.rdev === opened.stat.rdev;
			if (same) return blocksOf(filename, stat, blockSize);
		} catch (error) {
			throw fromErrno(error, `cannot look at ${filename}`);
		}
		throw new VhostctlError("E_IO", `${filename} is another file now`);
	};
	return backend;
}
