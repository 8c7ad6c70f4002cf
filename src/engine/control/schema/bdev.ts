// SPDX-License-Identifier: MIT
import { identityMadeOf, named } from "./bdev-params.ts";
import {
	array,
	bdevName,
	boolean,
	done,
	int32,
	methods,
	name,
	number,
	object,
	oneOf,
	only,
	optional,
	record,
	required,
	string,
	uint32,
	uint64,
	unknown,
} from "./types.ts";

const identity = identityMadeOf("the kind, the name and the file");
const blockSize = required(
	uint32,
	"Bytes a block: a power of two from 512 to 65536",
);
const newSize = object({
	name: required(name, "Name or UUID of the bdev"),
	new_size: required(uint64, "New size in MiB"),
});

const metadata = {
	md_size: only(0, "metadata"),
	dif_type: only(0, "protection information"),
	dif_is_head_of_md: only(false, "protection information"),
	dif_pi_format: only(0, "protection information"),
};

const bdev = object({
	name: string,
	aliases: array(string),
	product_name: string,
	block_size: number,
	num_blocks: number,
	preferred_write_alignment: number,
	preferred_write_granularity: number,
	optimal_write_size: number,
	preferred_unmap_alignment: number,
	preferred_unmap_granularity: number,
	uuid: string,
	assigned_rate_limits: record(string, number),
	claimed: boolean,
	claim_type: optional(string, "Only while claimed"),
	zoned: boolean,
	supported_io_types: record(string, boolean),
	driver_specific: record(string, unknown),
});

export const PAGE_SIZES = ["4K", "2M", "1G", "thp"] as const;

const mallocMethods = methods({
	bdev_malloc_create: {
		effect: "makes",
		description: "Makes a RAM disk.",
		params: object({
			name: optional(name, "Name. Default: Malloc0, Malloc1, ..."),
			block_size: blockSize,
			num_blocks: required(uint64, "Number of blocks"),
			...identity,
			page_size: optional(
				oneOf(...PAGE_SIZES),
				"Pages to take the memory from. Hugepages that are not there fall back to thp, transparent hugepages, and those to plain pages; bdev_get_bdevs tells what it got. Not in SPDK. Default: thp",
			),
			numa_id: optional(
				int32,
				"NUMA node to take the memory from. Default: -1, any",
			),
			physical_block_size: optional(
				uint32,
				"Physical bytes a block. Default: block_size",
			),
			optimal_io_boundary: only(0, "splitting at a boundary"),
			md_interleave: only(false, "metadata"),
			...metadata,
		}),
		result: bdevName,
		example: { name: "Malloc0", block_size: 512, num_blocks: 131072 },
	},
	bdev_malloc_delete: {
		effect: "alters",
		description:
			"Deletes a RAM disk. Controllers that serve it answer I/O with errors from then on.",
		params: named,
		result: done,
		example: { name: "Malloc0" },
	},
	bdev_malloc_resize: {
		effect: "alters",
		description:
			"Makes a RAM disk larger or smaller, keeping what it holds. Guests see it at once.",
		params: newSize,
		result: done,
		example: { name: "Malloc0", new_size: 128 },
		own: true,
	},
});

const nullMethods = methods({
	bdev_null_create: {
		effect: "makes",
		description:
			"Makes a disk that forgets what is written and reads as whatever is there.",
		params: object({
			name: required(name, "Name"),
			block_size: blockSize,
			num_blocks: required(uint64, "Number of blocks"),
			...identity,
			physical_block_size: optional(
				uint32,
				"Physical bytes a block. Default: block_size",
			),
			...metadata,
			preferred_write_granularity: only(0, "a preferred write size"),
			preferred_write_alignment: only(0, "a preferred write alignment"),
			optimal_write_size: only(0, "an optimal write size"),
			preferred_unmap_granularity: only(0, "a preferred unmap size"),
			preferred_unmap_alignment: only(0, "a preferred unmap alignment"),
		}),
		result: bdevName,
		example: { name: "Null0", block_size: 512, num_blocks: 2097152 },
	},
	bdev_null_delete: {
		effect: "alters",
		description: "Deletes a null disk.",
		params: named,
		result: done,
		example: { name: "Null0" },
	},
	bdev_null_resize: {
		effect: "alters",
		description: "Makes a null disk larger or smaller. Guests see it at once.",
		params: newSize,
		result: done,
		example: { name: "Null0", new_size: 2048 },
	},
});

const fileParams = {
	name: required(name, "Name"),
	filename: required(
		name,
		"Regular file or block device; its size must be a multiple of the block size",
	),
	block_size: optional(
		uint32,
		"Bytes a block: a power of two from 512 to 65536. Default: the device's own, 512 for a file",
	),
	...identity,
};

const fileMethods = methods({
	bdev_aio_create: {
		effect: "makes",
		description:
			"Makes a disk of a file or a block device. The same as bdev_uring_create under SPDK's other name: both use io_uring.",
		params: object({
			...fileParams,
			readonly: optional(boolean, "Open it read-only. Default: false"),
			fallocate: optional(
				boolean,
				"Offer UNMAP and WRITE ZEROES. Default: true, for they do not block here",
			),
			nowait: optional(
				boolean,
				"Taken for compatibility: either way no request blocks the reactor",
			),
		}),
		result: bdevName,
		example: { name: "disk0", filename: "/srv/disk0.img", block_size: 512 },
	},
	bdev_aio_delete: {
		effect: "alters",
		description:
			"Deletes a disk that bdev_aio_create made. The file stays as it is.",
		params: named,
		result: done,
		example: { name: "disk0" },
	},
	bdev_aio_rescan: {
		effect: "alters",
		description:
			"Looks at the size of the file or block device again. Guests see a new size at once.",
		params: named,
		result: done,
		example: { name: "disk0" },
	},
	bdev_uring_create: {
		effect: "makes",
		description: "Makes a disk of a file or a block device, with io_uring.",
		params: object(fileParams),
		result: bdevName,
		example: { name: "disk1", filename: "/srv/disk1.img" },
	},
	bdev_uring_delete: {
		effect: "alters",
		description:
			"Deletes a disk that bdev_uring_create made. The file stays as it is.",
		params: named,
		result: done,
		example: { name: "disk1" },
	},
	bdev_uring_rescan: {
		effect: "alters",
		description:
			"Looks at the size of the file or block device again. Guests see a new size at once.",
		params: named,
		result: done,
		example: { name: "disk1" },
	},
});

const listMethods = methods({
	bdev_get_bdevs: {
		effect: "none",
		description: "Lists the bdevs.",
		params: object({
			name: optional(name, "Only the bdev of this name or UUID"),
			timeout: optional(
				uint64,
				"Milliseconds to wait for it to appear. Default: 0",
			),
		}),
		result: array(bdev),
		example: { name: "Malloc0" },
	},
});

export const bdevMethods = {
	...mallocMethods,
	...nullMethods,
	...fileMethods,
	...listMethods,
};
