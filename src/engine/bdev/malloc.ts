// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers";
import {
	native,
	PAGES_FALLBACK,
	PAGES_HUGETLB,
	PAGES_SHARED,
	PAGES_THP,
	type Pages,
} from "../../ffi/native.ts";
import { fromErrno, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, BackendParts, Quiesced, SavedFile } from "./backend.ts";
import { noRescan, resizeInPlace } from "./null.ts";
import {
	checkBlockSize,
	checkNumBlocks,
	checkPhysicalBlockSize,
} from "./size.ts";

const PAGE_BYTES = {
	thp: 0n,
	"4K": 1n << 12n,
	"2M": 1n << 21n,
	"1G": 1n << 30n,
};
/** Pages that a RAM disk can ask for: hugepages of a size, base pages, or what the kernel makes huge. */
export type PageSize = keyof typeof PAGE_BYTES;

export interface MallocOptions {
	/** Bytes: a power of two from 512 to 65536. */
	blockSize: number;
	numBlocks: number;
	physicalBlockSize?: number | undefined;
	/** Default: thp. Sizes that the system has not got fall back to smaller ones. */
	pageSize?: PageSize | undefined;
	/** NUMA node; default: -1, any. */
	node?: number | undefined;
}

function describe(pages: Pages): string {
	if (pages.kind === PAGES_THP) return "transparent hugepages";
	const size = `${pages.page_size / 1024n} KiB`;
	return pages.kind === PAGES_HUGETLB
		? `hugepages of ${size}`
		: `pages of ${size}`;
}

/** Whether pages of the size are reserved ones. These can be shared with other processes at no cost. */
function isHuge(size: PageSize): boolean {
	return size === "2M" || size === "1G";
}

/** Pages as asked for, of another kind if there are none; with flags PAGES_*. */
function alloc(bytes: number, options: MallocOptions, flags: number): Pages {
	return native.pagesAlloc({
		size: BigInt(bytes),
		pageSize: PAGE_BYTES[options.pageSize ?? "thp"],
		node: options.node ?? -1,
		flags,
	});
}

/** Reserved hugepages, to be shared; undefined if there are none. */
function tryHuge(bytes: number, options: MallocOptions): Pages | undefined {
	try {
		return alloc(bytes, options, PAGES_SHARED);
	} catch {
		return undefined;
	}
}

function takePages(bytes: number, options: MallocOptions, log: Logger): Pages {
	const asked = options.pageSize ?? "thp";
	const node = options.node ?? -1;
	try {
		const huge = isHuge(asked) ? tryHuge(bytes, options) : undefined;
		const pages = huge ?? alloc(bytes, options, PAGES_FALLBACK);
		if (isHuge(asked) && pages.kind !== PAGES_HUGETLB) {
			log.warning(
				`no ${asked} hugepages for ${bytes} bytes on ${node < 0 ? "any node" : `node ${node}`}: took ${describe(pages)}`,
			);
		}
		return pages;
	} catch (error) {
		throw fromErrno(error, `cannot take ${bytes} bytes of memory`);
	}
}

function create(pages: Pages, blockSize: number, numBlocks: number): bigint {
	try {
		return native.bdevMallocCreate(pages, blockSize, BigInt(numBlocks));
	} catch (error) {
		native.pagesFree(pages);
		throw fromErrno(error, "cannot make a RAM disk");
	}
}

/** Pages that other processes can map too. */
function takeSharedPages(bytes: bigint, options: MallocOptions): Pages {
	try {
		return alloc(Number(bytes), options, PAGES_SHARED | PAGES_FALLBACK);
	} catch (error) {
		throw fromErrno(error, `cannot take ${bytes} bytes of shared memory`);
	}
}

/** What goes to another process; its descriptor beside it. */
interface PagesDocument {
	readonly size: string;
	readonly pageSize: string;
	readonly kind: number;
	readonly node: number;
}

function exportPages({ size, page_size, kind, node }: Pages): PagesDocument {
	return { size: `${size}`, pageSize: `${page_size}`, kind, node };
}

/** Maps the pages of another process. */
function adoptPages({ document, fds }: BackendParts): Pages {
	const { size, pageSize, kind, node } = document as PagesDocument;
	const [fd = -1] = fds;
	const theirs = { addr: 0n, kind, node, fd, reserved: 0 };
	try {
		const pages = native.pagesAdopt({
			...theirs,
			size: BigInt(size),
			page_size: BigInt(pageSize),
		});
		native.fdClose(fd); // they have their own
		return pages;
	} catch (error) {
		throw fromErrno(error, "cannot map a RAM disk of another process");
	}
}

/** Of one call, during which nothing else is done here. */
const COPY_CHUNK = 8n << 20n;
/** The second time over the disk copies what changed during the first. */
const COPY_PASSES = 2;

/** Copies a disk that is in use to other pages, so that little is left for the move. */
async function copyAhead(disk: bigint, from: Pages, to: Pages): Promise<void> {
	const end = from.size < to.size ? from.size : to.size;
	for (let pass = 0; pass < COPY_PASSES; pass++)
		for (let at = 0n; at < end; at += COPY_CHUNK) {
			const len = end - at < COPY_CHUNK ? end - at : COPY_CHUNK;
			native.bdevMallocCopy(disk, to, at, len);
			await new Promise((resolve) => setImmediate(resolve));
		}
}

/** Bytes of a disk that the map of written ones tells apart. */
const MAP_UNIT = 4096n;

/** A file in memory that holds the map of a disk. */
function makeMapFile(pages: Pages, blockSize: number): Pages {
	const size = (pages.size + BigInt(blockSize)) / MAP_UNIT + 1n;
	try {
		const flags = PAGES_SHARED;
		return native.pagesAlloc({ size, pageSize: PAGE_BYTES["4K"], flags });
	} catch (error) {
		throw fromErrno(error, "map of a RAM disk");
	}
}

function saveMap(disk: bigint, file: Pages): SavedFile {
	native.bdevMallocSaveMap(disk, file.fd);
	return { fd: file.fd, free: () => void native.pagesFree(file) };
}

/** Where it is not known what was written, everything counts as written. */
function loadMap(disk: bigint, fd: number | undefined, spare: Pages): void {
	if (fd === undefined)
		native.copyIn(spare.addr, Buffer.alloc(Number(spare.size), 1));
	native.bdevMallocLoadMap(disk, fd ?? spare.fd);
	native.pagesFree(spare);
}

/**
 * Makes a RAM disk of zeroes, or of the pages of another process. Throws E_INVALID,
 * E_NO_MEMORY. It can grow beyond the pages that it has: then it moves to new ones.
 */
export function createMallocBackend(
	options: MallocOptions,
	log: Logger,
	inherited?: BackendParts,
): Backend {
	const { blockSize, numBlocks } = options;
	checkBlockSize(blockSize);
	checkNumBlocks(numBlocks, blockSize);
	const physicalBlockSize = checkPhysicalBlockSize(
		options.physicalBlockSize,
		blockSize,
	);
	let pages = inherited
		? adoptPages(inherited)
		: takePages(numBlocks * blockSize, options, log);
	const handle = create(pages, blockSize, numBlocks);

	const mapFile = () => makeMapFile(pages, blockSize);
	const move = async (to: Pages, numBlocks: number, quiesced: Quiesced) => {
		let moved = false;
		try {
			await quiesced(() => {
				native.bdevMallocMove(handle, to, BigInt(numBlocks));
				moved = true; // the pages are the disk's now
				pages = to;
				backend.numBlocks = numBlocks;
			});
		} catch (error) {
			if (!moved) {
				native.bdevMallocCopy(handle, to, 0n, 0n);
				native.pagesFree(to);
			}
			throw fromErrno(error, "move to other pages");
		}
	};
	const moveToShared = async (quiesced: Quiesced) => {
		const shared = takeSharedPages(pages.size, options);
		try {
			await copyAhead(handle, pages, shared);
		} catch (error) {
			log.info(`RAM disk: copied while it waits: ${messageOf(error)}`);
		}
		await move(shared, backend.numBlocks, quiesced);
	};
	const backend = {
		kind: "malloc" as const,
		productName: "Malloc disk",
		handle,
		blockSize,
		physicalBlockSize,
		numBlocks,
		readonly: false,
		supports: { flush: true, unmap: true, writeZeroes: true },
		made: { kind: "malloc" as const, options },
		handover: {
			async share(quiesced: Quiesced) {
				if (pages.fd < 0) await moveToShared(quiesced);
				return { document: exportPages(pages), fds: [pages.fd] };
			},
			save: () => saveMap(handle, mapFile()),
			load: (fd: number | undefined) => loadMap(handle, fd, mapFile()),
		},
		driverSpecific: () => ({
			malloc: { pages: describe(pages), numa_id: pages.node },
		}),
		async resize(numBlocks: number, quiesced: Quiesced) {
			checkNumBlocks(numBlocks, blockSize);
			const bytes = numBlocks * blockSize;
			if (BigInt(bytes) <= pages.size)
				await resizeInPlace(backend, numBlocks, quiesced);
			else await move(takePages(bytes, options, log), numBlocks, quiesced);
		},
		rescan: noRescan,
		release: () => native.bdevRelease(handle),
	};
	return backend;
}
