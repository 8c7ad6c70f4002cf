// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import type { Bdev } from "./bdev.ts";
import { createStackedBackend, type Part } from "./stacked.ts";

const MIB = 1024 * 1024;

/** How a bdev is split. */
export interface Split {
	/** Parts that were asked for; there are fewer if no more fit. */
	readonly count: number;
	/** MiB of each; 0: as much as fits. */
	readonly sizeMb: number;
}

/** The parts that there are. Throws E_INVALID. */
export function partsOf(base: Bdev, { count, sizeMb }: Split): Part[] {
	const { blockSize, numBlocks } = base.backend;
	if (count < 1)
		throw new VhostctlError("E_INVALID", "split_count 0: must be 1 or more");
	if ((sizeMb * MIB) % blockSize !== 0)
		throw new VhostctlError(
			"E_INVALID",
			`split_size_mb ${sizeMb}: not a multiple of the block size, ${blockSize}`,
		);
	const each =
		sizeMb > 0 ? (sizeMb * MIB) / blockSize : Math.floor(numBlocks / count);
	const fit = each > 0 ? Math.min(count, Math.floor(numBlocks / each)) : 0;
	if (fit === 0)
		throw new VhostctlError(
			"E_INVALID",
			`bdev ${base.name} has ${numBlocks} blocks of ${blockSize} bytes: too few for a part`,
		);
	return Array.from({ length: fit }, (_, i) => ({
		firstBlock: i * each,
		numBlocks: each,
	}));
}

/** Part i of those that partsOf gave. */
export function partAt(parts: readonly Part[], i: number): Part {
	const part = parts[i];
	if (part) return part;
	throw new Error(`no part ${i}`);
}

/** Makes a bdev that is a part of another. Throws E_NO_MEMORY. */
export function createSplitBackend(
	base: Bdev,
	part: Part,
	split: Split,
	reactors: readonly number[],
): Backend {
	const { firstBlock, numBlocks } = part;
	return createStackedBackend({
		productName: "Split Disk",
		made: { kind: "split", split },
		base,
		part,
		reactors,
		create: (handle) =>
			native.bdevPassthruCreate(handle, BigInt(firstBlock), BigInt(numBlocks)),
		describe: () => ({
			split: { base_bdev: base.name, offset_blocks: firstBlock },
		}),
	});
}
