// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import { native } from "../ffi/native.ts";

/** Bytes of a chunk. */
export const CHUNK_BYTES = 1024 * 1024;
const MAX_CHUNKS = 32;

/** Memory that native I/O reads and writes. */
export interface Chunk {
	/** In this process. */
	readonly address: bigint;
	/** CHUNK_BYTES of it. */
	readonly view: Buffer;
}

/** Chunks that are made when needed and never unmapped, so that their views stay good. */
export interface Arena {
	/** Runs work with a chunk of its own; waits for one while all are in use. */
	use<T>(work: (chunk: Chunk) => Promise<T>): Promise<T>;
}

function makeChunk(): Chunk {
	const { addr } = native.pagesAlloc({
		size: BigInt(CHUNK_BYTES),
		pageSize: 4096n,
	});
	return { address: addr, view: native.pointer(addr, CHUNK_BYTES) };
}

export function createArena(
	make: () => Chunk = makeChunk,
	max = MAX_CHUNKS,
): Arena {
	const free: Chunk[] = [];
	const waiting: ((chunk: Chunk) => void)[] = [];
	let made = 0;

	const take = async (): Promise<Chunk> => {
		const chunk = free.pop();
		if (chunk) return chunk;
		if (made >= max) return new Promise((resolve) => waiting.push(resolve));
		const fresh = make(); // counted only if there was memory for it
		made++;
		return fresh;
	};
	const give = (chunk: Chunk): void => {
		const next = waiting.shift();
		if (next) next(chunk);
		else free.push(chunk);
	};
	return {
		async use(work) {
			const chunk = await take();
			try {
				return await work(chunk);
			} finally {
				give(chunk);
			}
		},
	};
}

/** The process's: engines come and go, its chunks stay. */
export const arena = createArena();
