// SPDX-License-Identifier: MIT
// What a guest test plays in: an instance with disks of each sort, over memory and over
// files, and a guest that has them all.
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Device, Guest } from "../support/guest.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { bootQemu } from "../support/qemu.ts";
import { bootUml } from "../support/uml.ts";

export const MIB = 1024 * 1024;
export type GuestKind = "uml" | "qemu";
export type Transport = Device["kind"];
export const BACKINGS = ["malloc", "file"] as const;
export type Backing = (typeof BACKINGS)[number];

const ROLES = ["small", "large", "readonly", "resized", "doomed"] as const;
type Role = (typeof ROLES)[number];
const SIZES: Record<Role, number> = {
	small: 64,
	large: 48,
	readonly: 2,
	resized: 16,
	doomed: 16,
};

export interface SceneDisk {
	/** In the guest. A SCSI disk may have another one after the guest's restart. */
	device: string;
	/** Of the bdev and, of a blk disk, of its controller. */
	name: string;
	backing: Backing;
	bytes: number;
	blockSize: number;
	readonly: boolean;
	/** SCSI: the target that it is LUN 0 of. */
	target: number;
}

/** The disks over one kind of backing; `small` has blocks of 512 bytes, `large` of 4 KiB. */
export type Disks = Record<Role, SceneDisk>;

/** Name of the SCSI controller. */
export const CONTROLLER = "scsi";

/** Request queues of each device. The drivers take no more than they have processors. */
export const QUEUES: Record<GuestKind, number> = { uml: 1, qemu: 2 };

/** How an instance waits for each: by polling, which a process as a guest gets no time beside, or not. */
const MODES: Record<GuestKind, string> = { uml: "interrupt", qemu: "adaptive" };

export interface Scene {
	kind: GuestKind;
	transport: Transport;
	instance: Instance;
	guest: Guest;
	disks: Record<Backing, Disks>;
	/** Finds out what the disks are called since the guest's start, but for those that are gone. */
	locate(gone?: SceneDisk[]): Promise<void>;
	/** Ends the guest, and the instance in good order. */
	close(): Promise<void>;
}

/** All disks, with numbers and blk names in the order in which the guest gets them. */
function makeDisks(): Record<Backing, Disks> {
	let next = 0;
	const over = (backing: Backing) =>
		Object.fromEntries(
			ROLES.map((role): [Role, SceneDisk] => {
				const target = next++;
				const disk = {
					device: `vd${String.fromCharCode(97 + target)}`,
					name: `${backing}-${role}`,
					backing,
					bytes: SIZES[role] * MIB,
					blockSize: role === "large" ? 4096 : 512,
					readonly: role === "readonly",
					target,
				};
				return [role, disk];
			}),
		) as Disks;
	return { malloc: over("malloc"), file: over("file") };
}

export function allDisks(disks: Record<Backing, Disks>): SceneDisk[] {
	return BACKINGS.flatMap((backing) => Object.values(disks[backing]));
}

/** The file behind a disk over a file. */
export function fileOf(instance: Instance, { name }: SceneDisk): string {
	return join(instance.dir, `${name}.img`);
}

export async function createBdev(
	instance: Instance,
	disk: SceneDisk,
): Promise<void> {
	const { name, bytes, blockSize: block_size } = disk;
	if (disk.backing === "malloc") {
		const num_blocks = bytes / block_size;
		await instance.rpc("bdev_malloc_create", { name, block_size, num_blocks });
	} else {
		const filename = fileOf(instance, disk);
		writeFileSync(filename, "");
		truncateSync(filename, bytes);
		await instance.rpc("bdev_aio_create", {
			name,
			block_size,
			filename,
			readonly: disk.readonly,
		});
	}
}

/** Makes the controllers that serve the disks. Gives the guest's devices. */
async function serve(
	instance: Instance,
	transport: Transport,
	disks: SceneDisk[],
	queues: number,
): Promise<Device[]> {
	if (transport === "scsi")
		await instance.rpc("vhost_create_scsi_controller", { ctrlr: CONTROLLER });
	for (const { name, target, readonly } of disks)
		if (transport === "scsi")
			await instance.rpc("vhost_scsi_controller_add_target", {
				ctrlr: CONTROLLER,
				scsi_target_num: target,
				bdev_name: name,
			});
		else
			await instance.rpc("vhost_create_blk_controller", {
				ctrlr: name,
				dev_name: name,
				readonly,
			});
	const sockets =
		transport === "scsi" ? [CONTROLLER] : disks.map(({ name }) => name);
	return sockets.map((name) => ({
		kind: transport,
		socket: instance.socket(name),
		queues,
	}));
}

export const boot = (kind: GuestKind, devices: Device[]): Promise<Guest> =>
	kind === "uml" ? bootUml(devices) : bootQemu(devices);

/** Starts an instance, and a guest on it. */
export async function openScene(
	kind: GuestKind,
	transport: Transport,
): Promise<Scene> {
	const instance = await startInstance(["--mode", MODES[kind]]);
	const disks = makeDisks();
	const all = allDisks(disks);
	try {
		for (const disk of all) await createBdev(instance, disk);
		const guest = await boot(
			kind,
			await serve(instance, transport, all, QUEUES[kind]),
		);
		// Nothing waits for a guest whose disks are gone.
		void instance.process.exited.then(() => guest.kill());
		const locate = async (gone: SceneDisk[] = []) => {
			if (transport !== "scsi") return;
			for (const disk of all)
				if (!gone.includes(disk))
					disk.device = (
						await guest.run(`scsi_disk ${disk.target} 0`, 10_000)
					).trim();
		};
		await locate();
		return {
			kind,
			transport,
			instance,
			guest,
			disks,
			locate,
			close: async () => {
				try {
					await guest.kill();
				} finally {
					await instance.stop();
				}
			},
		};
	} catch (error) {
		await instance.stop().catch(() => {});
		throw new Error(instance.log(), { cause: error });
	}
}
