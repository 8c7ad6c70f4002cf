// SPDX-License-Identifier: MIT
// A guest with disks on bdevs that stack on others: what the tests of faults on demand play in.
import assert from "node:assert/strict";
import {
	type DelayBackend,
	isDelay,
	type Latencies,
} from "../../src/engine/bdev/delay.ts";
import { type ErrorBackend, isError } from "../../src/engine/bdev/error.ts";
import { type Engine, startEngine } from "../../src/engine/engine.ts";
import type { Device, Guest } from "../support/guest.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";
import { bootUml } from "../support/uml.ts";

const MIB = 1024 * 1024;
export const NO_DELAY: Latencies = {
	...{ avg_read: 0, p99_read: 0 },
	...{ avg_write: 0, p99_write: 0 },
};

export const blocksOf = (mib: number): number => (mib * MIB) / 512;

/** A disk on an error bdev, on a delay, on a RAM disk. */
export interface FaultyDisk {
	/** In the guest. */
	readonly device: string;
	/** Of the RAM disk. */
	readonly bdev: string;
	readonly errors: ErrorBackend;
	readonly delays: DelayBackend;
}

export interface FaultScene {
	readonly engine: Engine;
	readonly guest: Guest;
	readonly blk: FaultyDisk;
	readonly scsi: FaultyDisk;
	/** blk disks of 1 MiB, each a half of a bdev. */
	readonly halves: readonly [string, string];
	/** A blk disk that shows the bdev "grows", of 8 MiB. */
	readonly shown: string;
	close(): Promise<void>;
}

/** Makes the bdevs of a faulty disk and gives it. */
async function makeStack(
	{ bdevs }: Engine,
	bdev: string,
): Promise<Omit<FaultyDisk, "device"> & { top: string }> {
	const numBlocks = blocksOf(32);
	await bdevs.createMalloc({ name: bdev, blockSize: 512, numBlocks });
	const slow = { name: `slow-${bdev}`, base: bdev, latencies: NO_DELAY };
	const { backend: delays } = await bdevs.createDelay(slow);
	const { name, backend: errors } = await bdevs.createError({
		base: slow.name,
	});
	assert(isDelay(delays) && isError(errors));
	return { top: name, bdev, errors, delays };
}

async function makeOthers(engine: Engine): Promise<void> {
	const { bdevs } = engine;
	for (const [name, mib] of [
		["halved", 2],
		["grows", 8],
	] as const)
		await bdevs.createMalloc({
			...{ name, blockSize: 512, numBlocks: blocksOf(mib) },
		});
	await bdevs.createSplit("halved", { count: 2, sizeMb: 0 });
	await bdevs.createPassthru({ name: "pass", base: "grows" });
	for (const [name, bdev] of [
		["vdb", "halvedp0"],
		["vdc", "halvedp1"],
		["vdd", "pass"],
	] as const)
		await engine.createBlkController({ name, bdev });
}

/** Starts an engine in this process, and a guest on it. */
export async function openFaultScene(): Promise<FaultScene> {
	const dir = makeTempDir();
	const engine = await startEngine({ socketDir: dir });
	let guest: Guest | undefined;
	const close = async () => {
		await guest?.kill();
		await engine.close();
		removeTempDir(dir);
	};
	try {
		const blk = await makeStack(engine, "blk");
		await engine.createBlkController({ name: "vda", bdev: blk.top });
		await makeOthers(engine);
		const scsi = await makeStack(engine, "scsi");
		await engine.createScsiController({ name: "scsi" });
		await engine.addScsiLun({ name: "scsi", target: 0, bdev: scsi.top });
		const device = (name: string, kind: Device["kind"]): Device => ({
			...{ socket: engine.socketPath(name), kind, queues: 1 },
		});
		const blks = ["vda", "vdb", "vdc", "vdd"].map((vd) => device(vd, "blk"));
		guest = await bootUml([...blks, device("scsi", "scsi")]);
		const sd = (await guest.run("scsi_disk 0 0", 20_000)).trim();
		return {
			engine,
			guest,
			blk: { ...blk, device: "vda" },
			scsi: { ...scsi, device: sd },
			halves: ["vdb", "vdc"],
			shown: "vdd",
			close,
		};
	} catch (error) {
		await close();
		throw error;
	}
}
