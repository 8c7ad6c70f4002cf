// SPDX-License-Identifier: MIT
import {
	native,
	PAGES_FALLBACK,
	PAGES_HUGETLB,
	PAGES_THP,
	type Pages,
} from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, Quiesced } from "./backend.ts";
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

function takePages(bytes: number, options: MallocOptions, log: Logger): Pages {
	const asked = options.pageSize ?? "thp";
	const node = options.node ?? -1;
	try {
		const pages = native.pagesAlloc({
			size: BigInt(bytes),
			pageSize: PAGE_BYTES[asked],
			node,
			flags: PAGES_FALLBACK,
		});
		const huge = asked === "2M" || asked === "1G";
		if (huge && pages.kind !== PAGES_HUGETLB) {
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

/**
 * Makes a RAM disk of zeroes. Throws E_INVALID, E_NO_MEMORY. It can grow beyond
 * the pages that it has: then it moves to new ones.
 */
export function createMallocBackend(
	options: MallocOptions,
	log: Logger,
): Backend {
	const { blockSize, numBlocks } = options;
	checkBlockSize(blockSize);
	checkNumBlocks(numBlocks, blockSize);
	const physicalBlockSize = checkPhysicalBlockSize(
		options.physicalBlockSize,
		blockSize,
	);
	let pages = takePages(numBlocks * blockSize, options, log);
	const handle = create(pages, blockSize, numBlocks);

	const move = async (numBlocks: number, quiesced: Quiesced) => {
		const larger = takePages(numBlocks * blockSize, options, log);
		let moved = false;
		try {
			await quiesced(() => {
				native.bdevMallocMove(handle, larger, BigInt(numBlocks));
				moved = true; // the pages are the disk's now
				pages = larger;
				backend.numBlocks = numBlocks;
			});
		} catch (error) {
			if (!moved) native.pagesFree(larger);
			throw fromErrno(error, "resize");
		}
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
		driverSpecific: () => ({
			malloc: { pages: describe(pages), numa_id: pages.node },
		}),
		async resize(numBlocks: number, quiesced: Quiesced) {
			checkNumBlocks(numBlocks, blockSize);
			const fits = BigInt(numBlocks) * BigInt(blockSize) <= pages.size;
			if (fits) await resizeInPlace(backend, numBlocks, quiesced);
			else await move(numBlocks, quiesced);
		},
		rescan: noRescan,
		release: () => native.bdevRelease(handle),
	};
	return backend;
}
