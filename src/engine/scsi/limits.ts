// SPDX-License-Identifier: MIT
// What VPD page B0h (Block Limits, SBC-3 6.5.3) promises, and what the block commands enforce.
import type { Medium } from "./task.ts";

const MIB = 1024 * 1024;

/** MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT. */
export const MAX_UNMAP_DESCRIPTORS = 256;

function blocksOf(medium: Medium, bytes: number): number {
	return Math.floor(bytes / medium.blockSize);
}

/** MAXIMUM TRANSFER LENGTH: 4 MiB, in blocks. */
export function maxTransferBlocks(medium: Medium): number {
	return blocksOf(medium, 4 * MIB);
}

/** MAXIMUM UNMAP LBA COUNT, of all descriptors of a command together: 64 MiB, in blocks. */
export function maxUnmapBlocks(medium: Medium): number {
	return blocksOf(medium, 64 * MIB);
}

/** MAXIMUM WRITE SAME LENGTH: 16 MiB, in blocks. Zero blocks are refused (WSNZ). */
export function maxWriteSameBlocks(medium: Medium): number {
	return blocksOf(medium, 16 * MIB);
}

/** MAXIMUM COMPARE AND WRITE LENGTH: 1 MiB, in blocks, or the 255 that its field can say. */
export function maxCompareAndWriteBlocks(medium: Medium): number {
	return Math.min(255, blocksOf(medium, MIB));
}

/** Logical blocks of a physical one: 1, 2, 4 and so on. */
export function blocksPerPhysical(medium: Medium): number {
	return Math.max(1, medium.physicalBlockSize / medium.blockSize);
}
