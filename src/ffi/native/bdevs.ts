// SPDX-License-Identifier: MIT
// Backends.
import { encode, type StructOf } from "../layout.ts";
import { check, library, produce, produceStruct } from "./call.ts";
import type { Pages } from "./memory.ts";

export const bdevs = {
	bdevNullCreate: (blockSize: number, numBlocks: bigint) =>
		produce((out) => check("vhc_bdev_null_create", blockSize, numBlocks, out)),
	bdevMallocCreate: (pages: Pages, blockSize: number, numBlocks: bigint) =>
		produce((out) =>
			check(
				"vhc_bdev_malloc_create",
				encode("vhc_pages", pages),
				blockSize,
				numBlocks,
				out,
			),
		),

	fileAlignment: (fd: number) =>
		produceStruct("vhc_file_align", (out) =>
			check("vhc_file_alignment", fd, out),
		),

	bdevFileCreate: (config: StructOf<"vhc_file_config">) =>
		produce((out) =>
			check("vhc_bdev_file_create", encode("vhc_file_config", config), out),
		),
	bdevResize: (bdev: bigint, numBlocks: bigint) =>
		check("vhc_bdev_resize", bdev, numBlocks),
	bdevMallocMove: (bdev: bigint, pages: Pages, numBlocks: bigint) =>
		check("vhc_bdev_malloc_move", bdev, encode("vhc_pages", pages), numBlocks),
	/** Returns how many pages of 4 KiB were copied. */
	bdevMallocCopy: (bdev: bigint, pages: Pages, offset: bigint, len: bigint) =>
		check(
			"vhc_bdev_malloc_copy",
			bdev,
			encode("vhc_pages", pages),
			offset,
			len,
		),
	bdevMallocSaveMap: (bdev: bigint, fd: number) =>
		check("vhc_bdev_malloc_save_map", bdev, fd),
	bdevMallocLoadMap: (bdev: bigint, fd: number) =>
		check("vhc_bdev_malloc_load_map", bdev, fd),
	bdevExtent: (bdev: bigint, offset: bigint): StructOf<"vhc_extent"> =>
		produceStruct("vhc_extent", (out) =>
			check("vhc_bdev_extent", bdev, offset, out),
		),
	bdevSetQos: (bdev: bigint, limits: StructOf<"vhc_qos_limits">) =>
		check("vhc_bdev_set_qos", bdev, encode("vhc_qos_limits", limits)),
	bdevPassthruCreate: (base: bigint, firstBlock: bigint, numBlocks: bigint) =>
		produce((out) =>
			check("vhc_bdev_passthru_create", base, firstBlock, numBlocks, out),
		),
	bdevDelayCreate: (base: bigint) =>
		produce((out) => check("vhc_bdev_delay_create", base, out)),
	bdevDelaySet: (bdev: bigint, which: number, ns: bigint) =>
		check("vhc_bdev_delay_set", bdev, which, ns),
	bdevErrorCreate: (base: bigint) =>
		produce((out) => check("vhc_bdev_error_create", base, out)),
	bdevErrorInject: (
		bdev: bigint,
		ops: number,
		rule: StructOf<"vhc_error_rule">,
	) =>
		check("vhc_bdev_error_inject", bdev, ops, encode("vhc_error_rule", rule)),
	bdevErrorResume: (bdev: bigint) => check("vhc_bdev_error_resume", bdev),
	bdevErrorLeft: (bdev: bigint, op: number) =>
		Number(library().call("vhc_bdev_error_left", bdev, op)),
	bdevErrorHanging: (bdev: bigint) =>
		Number(library().call("vhc_bdev_error_hanging", bdev)),
	bdevSetHolding: (bdev: bigint, holding: boolean) =>
		library().call("vhc_bdev_set_holding", bdev, holding ? 1 : 0),
	bdevRebase: (bdev: bigint, base: bigint) =>
		check("vhc_bdev_rebase", bdev, base),
	bdevSetStats: (bdev: bigint, reactorIndex: number, stats: bigint) =>
		check("vhc_bdev_set_stats", bdev, reactorIndex, stats),
	bdevRelease: (bdev: bigint) => library().call("vhc_bdev_release", bdev),
};
