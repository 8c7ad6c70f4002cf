// SPDX-License-Identifier: MIT
import {
	type BackendKind,
	type Bdev,
	type Engine,
	VhostctlError,
} from "../../engine.ts";
import type { bdevMethods } from "../schema/bdev.ts";
import type { Handlers } from "./context.ts";
import { identity } from "./identity.ts";
import { rateLimits } from "./qos.ts";

const MIB = 1024 * 1024;

const IO_TYPES = [
	"reset",
	"nvme_admin",
	"nvme_io",
	"nvme_io_md",
	"zcopy",
	"get_zone_info",
	"zone_management",
	"zone_append",
	"compare",
	"compare_and_write",
	"abort",
	"seek_hole",
	"seek_data",
	"copy",
	"nvme_iov_md",
];

function supportedIoTypes({ supports, readonly }: Bdev["backend"]) {
	return {
		read: true,
		write: !readonly,
		unmap: supports.unmap,
		flush: supports.flush,
		write_zeroes: supports.writeZeroes,
		...Object.fromEntries(IO_TYPES.map((name) => [name, false])),
	};
}

function describe(bdev: Bdev) {
	const { name, uuid, backend, claimType } = bdev;
	return {
		name,
		aliases: [uuid],
		product_name: backend.productName,
		block_size: backend.blockSize,
		num_blocks: backend.numBlocks,
		preferred_write_alignment: 0,
		preferred_write_granularity: 0,
		optimal_write_size: 0,
		preferred_unmap_alignment: 0,
		preferred_unmap_granularity: 0,
		uuid,
		assigned_rate_limits: rateLimits(bdev),
		claimed: claimType !== undefined,
		...(claimType === undefined ? {} : { claim_type: claimType }),
		zoned: false,
		supported_io_types: supportedIoTypes(backend),
		driver_specific: backend.driverSpecific(),
	};
}

async function resize(
	engine: Engine,
	kind: "malloc" | "null",
	{ name, new_size }: { name: string; new_size: number },
): Promise<true> {
	const { blockSize } = engine.bdevs.get(name, kind).backend;
	await engine.bdevs.resize(name, (new_size * MIB) / blockSize, kind);
	return true;
}

async function remove(
	engine: Engine,
	kind: BackendKind,
	name: string,
): Promise<true> {
	await engine.bdevs.delete(name, kind);
	return true;
}

async function rescan(
	engine: Engine,
	kind: BackendKind,
	name: string,
): Promise<true> {
	await engine.bdevs.rescan(name, kind);
	return true;
}

async function created(bdev: Promise<Bdev>): Promise<string> {
	return (await bdev).name;
}

export const bdevHandlers: Handlers<keyof typeof bdevMethods> = {
	bdev_malloc_create({ engine }, p) {
		if (p.numa_id !== undefined && p.numa_id < -1) {
			throw new VhostctlError("E_INVALID", `parameter 'numa_id' ${p.numa_id}`);
		}
		return created(
			engine.bdevs.createMalloc({
				...(p.name === undefined ? {} : { name: p.name }),
				...identity(p),
				blockSize: p.block_size,
				numBlocks: p.num_blocks,
				physicalBlockSize: p.physical_block_size,
				pageSize: p.page_size,
				node: p.numa_id,
			}),
		);
	},
	bdev_null_create: ({ engine }, p) =>
		created(
			engine.bdevs.createNull({
				name: p.name,
				...identity(p),
				blockSize: p.block_size,
				numBlocks: p.num_blocks,
				physicalBlockSize: p.physical_block_size,
			}),
		),
	bdev_aio_create: ({ engine }, p) =>
		created(
			engine.bdevs.createFile({
				driver: "aio",
				name: p.name,
				filename: p.filename,
				...identity(p),
				blockSize: p.block_size,
				readonly: p.readonly,
				fallocate: p.fallocate,
			}),
		),
	bdev_uring_create: ({ engine }, p) =>
		created(
			engine.bdevs.createFile({
				driver: "uring",
				name: p.name,
				filename: p.filename,
				...identity(p),
				blockSize: p.block_size,
			}),
		),
	bdev_malloc_delete: ({ engine }, { name }) => remove(engine, "malloc", name),
	bdev_null_delete: ({ engine }, { name }) => remove(engine, "null", name),
	bdev_aio_delete: ({ engine }, { name }) => remove(engine, "aio", name),
	bdev_uring_delete: ({ engine }, { name }) => remove(engine, "uring", name),
	bdev_malloc_resize: ({ engine }, p) => resize(engine, "malloc", p),
	bdev_null_resize: ({ engine }, p) => resize(engine, "null", p),
	bdev_aio_rescan: ({ engine }, { name }) => rescan(engine, "aio", name),
	bdev_uring_rescan: ({ engine }, { name }) => rescan(engine, "uring", name),
	async bdev_get_bdevs({ engine }, { name, timeout }) {
		const bdevs =
			name === undefined
				? engine.bdevs.list()
				: [await engine.bdevs.waitFor(name, timeout ?? 0)];
		return bdevs.map(describe);
	},
};
