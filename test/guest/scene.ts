// SPDX-License-Identifier: MIT
// What a guest test plays in: an instance with disks of each sort, over memory and over
// files, and a guest that has them all.
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
	backing: Backing;
	bytes: number;
	blockSize: number;
	readonly: boolean;
}

/** The disks over one kind of backing. */
export interface Disks {
	/** Blocks of 512 bytes and of 4 KiB. */
	small: SceneDisk;
	large: SceneDisk;
	readonly: SceneDisk;
	resized: SceneDisk;
	doomed: SceneDisk;
}

/** All disks. The guest finds them in this order. */
export const DISKS: Record<Backing, Disks> = {
	malloc: disksOver("malloc", ["vda", "vdb", "vdc", "vdd", "vde"]),
	file: disksOver("file", ["vdf", "vdg", "vdh", "vdi", "vdj"]),
};
export const ALL_DISKS = Object.values(DISKS).flatMap((disks) =>
	Object.values(disks),
) as SceneDisk[];

function disksOver(
	backing: Backing,
	devices: [string, string, string, string, string],
): Disks {
	const disk = (i: number, role: string, mib: number, blockSize = 512) => ({
		device: devices[i] ?? "",
		name: `${backing}-${role}`,
		backing,
		bytes: mib * MIB,
		blockSize,
		readonly: role === "readonly",
	});
	return {
		small: disk(0, "small", 64),
		large: disk(1, "large", 48, 4096),
		readonly: disk(2, "readonly", 2),
		resized: disk(3, "resized", 16),
		doomed: disk(4, "doomed", 16),
	};
}

/** Queues of each disk. The drivers take no more than they have processors. */
export const QUEUES: Record<GuestKind, number> = { uml: 1, qemu: 2 };

export interface Scene {
	kind: GuestKind;
	instance: Instance;
	guest: Guest;
	/** Ends the guest, and the instance in good order. */
	close(): Promise<void>;
}

/** The file behind a disk over a file. */
export function fileOf(instance: Instance, { name }: SceneDisk): string {
	return join(instance.dir, `${name}.img`);
}

async function createDisk(instance: Instance, disk: SceneDisk): Promise<void> {
	const { name, bytes, blockSize: block_size, readonly } = disk;
	if (disk.backing === "malloc") {
		const num_blocks = bytes / block_size;
		await instance.rpc("bdev_malloc_create", { name, block_size, num_blocks });
	} else {
		const filename = fileOf(instance, disk);
		writeFileSync(filename, "");
		truncateSync(filename, bytes);
		await instance.rpc("bdev_aio_create", { name, block_size, filename });
	}
	const controller = { ctrlr: name, dev_name: name, readonly };
	await instance.rpc("vhost_create_blk_controller", controller);
}

/** Starts an instance, and a guest on it. */
export async function openScene(kind: GuestKind): Promise<Scene> {
	const instance = await startInstance();
	try {
		for (const disk of ALL_DISKS) await createDisk(instance, disk);
		const guest = await (kind === "uml" ? bootUml : bootQemu)(
			ALL_DISKS.map(({ name }) => ({
				socket: instance.socket(name),
				queues: QUEUES[kind],
			})),
		);
		// Nothing waits for a guest whose disks are gone.
		void instance.process.exited.then(() => guest.kill());
		const close = async () => {
			try {
				await guest.kill();
			} finally {
				await instance.stop();
			}
		};
		return { kind, instance, guest, close };
	} catch (error) {
		await instance.stop().catch(() => {});
		throw new Error(instance.log(), { cause: error });
	}
}
