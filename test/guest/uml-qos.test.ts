// SPDX-License-Identifier: MIT
// A guest's own fio under limits that change while it runs: what it measures is what was set.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Engine, startEngine } from "../../src/engine/engine.ts";
import type { Guest } from "../support/guest.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";
import { bootUml } from "../support/uml.ts";

const MIB = 1024 * 1024;
const SECONDS = 2;
const TRIES = 5;

interface FioSide {
	iops: number;
	bw_bytes: number;
	total_ios: number;
	clat_ns: { mean: number };
}

async function fio(guest: Guest, options: string) {
	const time = `--time_based --runtime=${SECONDS}`;
	const text = await guest.run(`fio_jobs "${time} ${options}" vda`);
	const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as {
		jobs: [{ error: number; read: FioSide; write: FioSide }];
	};
	assert.equal(jobs[0].error, 0);
	return jobs[0];
}

/**
 * fio counts what ended; at the end of its time requests are still under way. Measures again if the
 * machine was too busy to come near the limit, which always holds.
 */
async function measures(
	limit: number,
	measure: () => Promise<number>,
): Promise<void> {
	const all = await reaches(limit * 0.3, measure);
	for (const each of all) assert(each <= limit * 1.03, `${each} of ${limit}`);
}

/** Measures until it is that much, which a busy machine may not have time for at first. */
async function reaches(
	least: number,
	measure: () => Promise<number>,
): Promise<number[]> {
	const all: number[] = [];
	while (all.length < TRIES) {
		const measured = await measure();
		all.push(measured);
		if (measured >= least) return all;
	}
	throw new Error(`${all.join(", ")}: never ${least}`);
}

async function playLimits(engine: Engine, guest: Guest): Promise<void> {
	const set = (limits: object) => engine.bdevs.setQos("disk", limits);
	await set({ ios: 400 });
	await measures(400, async () => {
		const { read } = await fio(guest, "--rw=randread --iodepth=8");
		// Little's law: eight requests under way at 400 a second are 20 ms each.
		assert(8e9 / read.clat_ns.mean <= 400 * 1.03, `${read.clat_ns.mean} ns`);
		return read.iops;
	});
	await set({ ios: 0, readBytes: 4 * MIB, writeBytes: 8 * MIB });
	await measures(4 * MIB, async () => {
		const both = await fio(guest, "--rw=randrw --bs=16k --iodepth=8");
		assert(both.write.bw_bytes <= 8 * MIB * 1.03);
		return both.read.bw_bytes;
	});
	await set({ readBytes: 0, writeBytes: 0 });
	await reaches(1000, async () => {
		const { read } = await fio(guest, "--rw=randread --iodepth=8");
		return read.iops;
	});
}

test("a guest's fio measures the limits that are set", async () => {
	const dir = makeTempDir();
	const engine = await startEngine({ socketDir: dir });
	try {
		await engine.bdevs.createMalloc({
			name: "disk",
			blockSize: 512,
			numBlocks: (64 * MIB) / 512,
		});
		await engine.createBlkController({ name: "blk", bdev: "disk" });
		const guest = await bootUml([
			{ socket: engine.socketPath("blk"), kind: "blk", queues: 1 },
		]);
		try {
			await playLimits(engine, guest);
			await guest.powerOff();
		} catch (error) {
			await guest.kill();
			throw error;
		}
	} finally {
		await engine.close();
		removeTempDir(dir);
	}
});
