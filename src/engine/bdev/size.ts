// SPDX-License-Identifier: MIT
import { VhostctlError } from "../errors.ts";

const MIN_BLOCK = 512;
const MAX_BLOCK = 65536;

/** Throws E_INVALID unless blockSize is a power of two that guests understand. */
export function checkBlockSize(blockSize: number): void {
	const ok =
		blockSize >= MIN_BLOCK &&
		blockSize <= MAX_BLOCK &&
		Number.isInteger(Math.log2(blockSize));
	if (!ok) {
		throw new VhostctlError(
			"E_INVALID",
			`block_size ${blockSize}: must be a power of two from ${MIN_BLOCK} to ${MAX_BLOCK}`,
		);
	}
}

/** The physical block size, checked; the logical one if none is given. */
export function checkPhysicalBlockSize(
	physical: number | undefined,
	blockSize: number,
): number {
	if (physical === undefined || physical === 0) return blockSize;
	checkBlockSize(physical);
	if (physical >= blockSize) return physical;
	throw new VhostctlError(
		"E_INVALID",
		`physical_block_size ${physical}: must not be less than block_size ${blockSize}`,
	);
}

/** Throws E_INVALID unless there are blocks and their bytes can be counted. */
export function checkNumBlocks(numBlocks: number, blockSize: number): void {
	const ok =
		Number.isSafeInteger(numBlocks) &&
		numBlocks > 0 &&
		Number.isSafeInteger(numBlocks * blockSize);
	if (!ok) {
		throw new VhostctlError(
			"E_INVALID",
			`${numBlocks} blocks of ${blockSize} bytes: must be from 1 block to ${Number.MAX_SAFE_INTEGER} bytes`,
		);
	}
}
