// SPDX-License-Identifier: MIT
// What a guest test plays in: an instance with one disk of each sort, and a guest using them.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Guest } from "../support/guest.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { bootQemu } from "../support/qemu.ts";
import { bootUml } from "../support/uml.ts";

export const MIB = 1024 * 1024;
export type GuestKind = "uml" | "qemu";
export type Backing = "malloc" | "file";

export interface SceneDisk {
	/** In the guest. */
	device: string;
	/** Of the bdev and of its controller. */
	name: string;
	bytes: number;
	blockSize: number;
	readonly: boolean;
}

export type Check = (scene: Scene) => Promise<void>;

/** The disks of each scene, in the order the guest finds them. */
export const DISKS = {
	main: disk("vda", "main", 64, 512),
	large: disk("vdb", "large-blocks", 48, 4096),
	readonly: { ...disk("vdc", "read-only", 2, 512), readonly: true },
	resized: disk("vdd", "resized", 16, 512),
	doomed: disk("vde", "doomed", 16, 512),
} as const;

function disk(
	device: string,
	name: string,
	mib: number,
	blockSize: number,
): SceneDisk {
	return { device, name, bytes: mib * MIB, blockSize, readonly: false };
}

/** Queues of each disk. The drivers take no more than they have processors. */
export const QUEUES: Record<GuestKind, number> = { uml: 1, qemu: 2 };

export interface Scene {
	kind: GuestKind;
	backing: Backing;
	instance: Instance;
	guest: Guest;
	/** The file behind a disk, when the backing is files. */
	file(disk: SceneDisk): string;
	/** Makes a disk larger or smaller while it is served. */
	resize(disk: SceneDisk, bytes: number): Promise<void>;
	/** Deletes a disk while it is served. */
	remove(disk: SceneDisk): Promise<void>;
	/** Ends the guest, and the instance in good order. */
	close(): Promise<void>;
}

async function createDisk(
	instance: Instance,
	backing: Backing,
	{ name, bytes, blockSize, readonly }: SceneDisk,
): Promise<void> {
	if (backing === "malloc") {
		const size = { block_size: blockSize, num_blocks: bytes / blockSize };
		await instance.rpc("bdev_malloc_create", { name, ...size });
	} else {
		const filename = join(instance.dir, `${name}.img`);
		writeFileSync(filename, "");
		truncateSync(filename, bytes);
		const file = { filename, block_size: blockSize };
		await instance.rpc("bdev_aio_create", { name, ...file });
	}
	await instance.rpc("vhost_create_blk_controller", {
		ctrlr: name,
		dev_name: name,
		readonly,
	});
}

/** Starts an instance, and a guest on it. */
export async function openScene(
	kind: GuestKind,
	backing: Backing,
): Promise<Scene> {
	const instance = await startInstance();
	try {
		for (const disk of Object.values(DISKS))
			await createDisk(instance, backing, disk);
		const guest = await (kind === "uml" ? bootUml : bootQemu)(
			Object.values(DISKS).map(({ name }) => ({
				socket: instance.socket(name),
				queues: QUEUES[kind],
			})),
		);
		return scene(kind, backing, instance, guest);
	} catch (error) {
		await instance.stop().catch(() => {});
		throw error;
	}
}

function scene(
	kind: GuestKind,
	backing: Backing,
	instance: Instance,
	guest: Guest,
): Scene {
	const file = ({ name }: SceneDisk) => join(instance.dir, `${name}.img`);
	const method = backing === "malloc" ? "bdev_malloc" : "bdev_aio";
	return {
		kind,
		backing,
		instance,
		guest,
		file,
		resize: async (disk, bytes) => {
			const { name } = disk;
			if (backing === "malloc") {
				const size = { name, new_size: bytes / MIB };
				await instance.rpc("bdev_malloc_resize", size);
			} else {
				truncateSync(file(disk), bytes);
				await instance.rpc("bdev_aio_rescan", { name });
			}
		},
		remove: async ({ name }) => {
			await instance.rpc(`${method}_delete`, { name });
		},
		close: async () => {
			try {
				await guest.kill();
			} finally {
				await instance.stop();
			}
		},
	};
}

/** How many requests of a kind reach a bdev while action runs. */
export async function countRequests(
	{ instance }: Scene,
	{ name }: SceneDisk,
	kind: "read" | "write" | "flush" | "unmap" | "write_zeroes",
	action: () => Promise<unknown>,
): Promise<number> {
	const enable = { name, enable: true, opc: kind };
	await instance.rpc("bdev_enable_histogram", enable);
	await action();
	const { histogram } = (await instance.rpc("bdev_get_histogram", {
		name,
	})) as { histogram: string };
	await instance.rpc("bdev_enable_histogram", { name, enable: false });
	const buckets = new BigUint64Array(
		Uint8Array.from(Buffer.from(histogram, "base64")).buffer,
	);
	return Number(buckets.reduce((sum, count) => sum + count, 0n));
}

/** Reads that a bdev has completed. */
export async function readCount(
	{ instance }: Scene,
	{ name }: SceneDisk,
): Promise<number> {
	const { bdevs } = (await instance.rpc("bdev_get_iostat", {
		names: [name],
	})) as { bdevs: { num_read_ops: number }[] };
	return bdevs[0]?.num_read_ops ?? Number.NaN;
}

/** What disk_sum in the guest gives for zeroes. */
export function sumOfZeroes(bytes: number): string {
	return createHash("md5").update(Buffer.alloc(bytes)).digest("hex");
}
