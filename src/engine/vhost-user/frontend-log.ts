// SPDX-License-Identifier: MIT
import {
	native,
	PAGES_FALLBACK,
	PAGES_SHARED,
	type Pages,
} from "../../ffi/native.ts";
import { encodeLog } from "./codec.ts";
import { call, type Link } from "./frontend-link.ts";

/** Bytes of guest memory for each bit (vhost-user, "Migration"). */
export const LOG_PAGE = 4096n;
const WORD_BITS = 64n;
const OWN_PAGE = 4096n;

/** A bitmap that the device marks what it writes in. */
export interface DirtyLog {
	readonly pages: Pages;
	/** Guest memory below this address can be marked. */
	readonly end: bigint;
	readonly words: BigUint64Array;
}

/** Makes a log of nothing for guest memory up to an address. Throws NativeError. */
export function createLog(memoryEnd: bigint): DirtyLog {
	const bits = (memoryEnd + LOG_PAGE - 1n) / LOG_PAGE;
	const pages = native.pagesAlloc({
		size: ((bits + WORD_BITS - 1n) / WORD_BITS) * 8n,
		pageSize: OWN_PAGE,
		flags: PAGES_SHARED | PAGES_FALLBACK,
	});
	const view = native.pointer(pages.addr, Number(pages.size));
	return {
		pages,
		end: pages.size * 8n * LOG_PAGE,
		words: new BigUint64Array(
			view.buffer,
			view.byteOffset,
			view.byteLength / BigUint64Array.BYTES_PER_ELEMENT,
		),
	};
}

export function freeLog({ pages }: DirtyLog): void {
	native.pagesFree(pages);
}

export async function sendLog(link: Link, { pages }: DirtyLog): Promise<void> {
	const payload = encodeLog({ size: pages.size, offset: 0n });
	await call(link, "SET_LOG_BASE", payload, [pages.fd]);
}

/**
 * Numbers of the guest pages (addresses divided by LOG_PAGE) that were written since the last
 * call, in order. The device may go on marking at the same time.
 */
export function takeDirty({ words }: DirtyLog): number[] {
	const found: number[] = [];
	for (let i = 0; i < words.length; i++) {
		if (words[i] === 0n) continue;
		let word = Atomics.exchange(words, i, 0n);
		for (let bit = 0; word !== 0n; bit++, word >>= 1n)
			if (word & 1n) found.push(i * Number(WORD_BITS) + bit);
	}
	return found;
}
