// SPDX-License-Identifier: MIT
// What guest tests look at, and change, from outside the guest.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { truncateSync } from "node:fs";
import { fileOf, MIB, type Scene, type SceneDisk } from "./scene.ts";

/** How many requests of a kind reach a bdev while action runs. */
export async function countRequests(
	{ instance }: Scene,
	{ name }: SceneDisk,
	opc: "read" | "write" | "flush" | "unmap" | "write_zeroes",
	action: () => Promise<unknown>,
): Promise<number> {
	await instance.rpc("bdev_enable_histogram", { name, enable: true, opc });
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

/** What the rings of a controller have counted, together. */
export async function ringTotals(
	{ instance }: Scene,
	ctrlr: string,
): Promise<{ calls: number; calls_delayed: number }> {
	const { controllers } = (await instance.rpc("vhostctl_get_stats", {
		name: ctrlr,
	})) as {
		controllers: {
			sessions: { rings: { calls: number; calls_delayed: number }[] }[];
		}[];
	};
	const total = { calls: 0, calls_delayed: 0 };
	for (const { sessions } of controllers)
		for (const ring of sessions.flatMap(({ rings }) => rings)) {
			total.calls += ring.calls;
			total.calls_delayed += ring.calls_delayed;
		}
	return total;
}

/** Makes a disk larger or smaller while it is served. */
export async function resizeDisk(
	{ instance }: Scene,
	disk: SceneDisk,
	bytes: number,
): Promise<void> {
	const { name } = disk;
	if (disk.backing === "malloc") {
		const size = { name, new_size: bytes / MIB };
		await instance.rpc("bdev_malloc_resize", size);
	} else {
		truncateSync(fileOf(instance, disk), bytes);
		await instance.rpc("bdev_aio_rescan", { name });
	}
}

/** Deletes a disk while it is served. */
export async function deleteDisk(
	{ instance }: Scene,
	{ name, backing }: SceneDisk,
): Promise<void> {
	const kind = backing === "malloc" ? "malloc" : "aio";
	await instance.rpc(`bdev_${kind}_delete`, { name });
}

/** What disk_sum in the guest gives for zeroes. */
export function sumOfZeroes(bytes: number): string {
	return createHash("md5").update(Buffer.alloc(bytes)).digest("hex");
}

interface FioJob {
	error: number;
	read: { total_ios: number };
	write: { total_ios: number };
}

/** The jobs in what fio printed, which may have warnings before the JSON. */
export function fioJobs(output: string): FioJob[] {
	const { jobs } = JSON.parse(output.slice(output.indexOf("{"))) as {
		jobs: FioJob[];
	};
	return jobs;
}

/** Does something to several disks at the same time. */
export async function onEach(
	disks: SceneDisk[],
	action: (disk: SceneDisk) => Promise<void>,
): Promise<void> {
	await Promise.all(disks.map(action));
}
