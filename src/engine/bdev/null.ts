// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { Backend, Quiesced } from "./backend.ts";
import {
	checkBlockSize,
	checkNumBlocks,
	checkPhysicalBlockSize,
} from "./size.ts";

export interface NullOptions {
	/** Bytes: a power of two from 512 to 65536. */
	blockSize: number;
	numBlocks: number;
	physicalBlockSize?: number | undefined;
}

/** Resizes a backend that has every block anyway. A smaller disk must not be in use meanwhile. */
export async function resizeInPlace(
	backend: { handle: bigint; numBlocks: number },
	numBlocks: number,
	quiesced: Quiesced,
): Promise<void> {
	const resize = () => {
		native.bdevResize(backend.handle, BigInt(numBlocks));
		backend.numBlocks = numBlocks;
	};
	try {
		if (numBlocks < backend.numBlocks) await quiesced(resize);
		else resize();
	} catch (error) {
		throw fromErrno(error, "resize");
	}
}

/** What a backend whose medium cannot change its size answers to a rescan. */
export async function noRescan(): Promise<void> {
	throw new VhostctlError(
		"E_UNSUPPORTED",
		"rescan: only files have a size of their own",
	);
}

/** Makes a disk that reads as it finds and forgets writes. Throws E_INVALID. */
export function createNullBackend(options: NullOptions): Backend {
	const { blockSize, numBlocks } = options;
	checkBlockSize(blockSize);
	checkNumBlocks(numBlocks, blockSize);
	const physicalBlockSize = checkPhysicalBlockSize(
		options.physicalBlockSize,
		blockSize,
	);
	const handle = native.bdevNullCreate(blockSize, BigInt(numBlocks));
	const backend = {
		kind: "null" as const,
		made: { kind: "null" as const, options },
		productName: "Null disk",
		handle,
		blockSize,
		physicalBlockSize,
		numBlocks,
		readonly: false,
		supports: { flush: true, unmap: true, writeZeroes: true },
		driverSpecific: () => ({}),
		async resize(numBlocks: number, quiesced: Quiesced) {
			checkNumBlocks(numBlocks, blockSize);
			await resizeInPlace(backend, numBlocks, quiesced);
		},
		rescan: noRescan,
		release: () => native.bdevRelease(handle),
	};
	return backend;
}
