// SPDX-License-Identifier: MIT
// A device that is killed under a load, and its successor: nothing is lost, nothing done twice.
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { watchDevice } from "../../src/engine/perf-watch.ts";
import { createRuntime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import {
	expectFormat,
	FORMATS,
	type Format,
	featuresFor,
	type LoadShape,
	loadBytes,
	MIXED_DISK,
	MIXED_MEMORY,
	startLoad,
	startMixed,
	stopIdle,
} from "../support/driver.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { SOAK } from "../support/soak.ts";

const MIB = 1024 * 1024;
const KILLS = SOAK ? 100 : 4;
const PATIENCE_MS = 60_000;

const SHAPE: LoadShape = {
	rw: "randrw",
	size: 4 * MIB,
	blockSize: 4096,
	iodepth: 32,
	ios: 5000,
	verify: true,
	rings: 2,
};
const MIXED_RING = SHAPE.rings;

interface Scene {
	readonly format: Format;
	readonly image: string;
	instance: Instance;
}

function serve({ image }: Pick<Scene, "image">, dir?: string) {
	const disk = ["--bdev", `file:name=disk,path=${image}`, "--blk", "vm=disk"];
	return startInstance(disk, {}, dir);
}

/** Kills the device and starts its successor. */
async function replace(scene: Scene): Promise<void> {
	const { dir } = scene.instance;
	await scene.instance.crash();
	scene.instance = await serve(scene, dir);
}

function connect(
	runtime: ReturnType<typeof createRuntime>,
	{ format, instance }: Scene,
): Promise<Frontend> {
	return connectFrontend(runtime, instance.socket("vm"), {
		queues: SHAPE.rings + 1,
		// As many as are in flight, so that positions wrap around again and again.
		queueSize: format === "packed" ? 97 : 128,
		memoryBytes: loadBytes(SHAPE),
		features: featuresFor(format),
		mode: "interrupt",
		pageSize: 4096n,
		inflight: true,
	});
}

/** One load, under which the device is killed once or twice. */
async function killUnderLoad(
	runtime: ReturnType<typeof createRuntime>,
	frontend: Frontend,
	scene: Scene,
	round: number,
): Promise<number> {
	const path = scene.instance.socket("vm");
	const load = startLoad(runtime, frontend, { ...SHAPE, seed: BigInt(round) });
	const watch = watchDevice(frontend, path, PATIENCE_MS / 1000, load.stop);
	try {
		const kills = 1 + (round % 2);
		for (let i = 0; i < kills; i++) {
			await load.progress(1 + Math.floor((Math.random() * SHAPE.ios) / 2));
			await sleep(Math.random() * 5);
			await replace(scene);
			// The second time perhaps while the successor is told of the rings.
		}
		await load.succeed(PATIENCE_MS);
		await waitUntil(
			() => watch.away() === undefined,
			PATIENCE_MS,
			() => `the driver reconnects: ${watch.away()}`,
		);
		return kills;
	} finally {
		await watch.end();
		load.release();
	}
}

/** Loads, one after the other, beside requests that overtake each other all the time. */
async function killMany(
	runtime: ReturnType<typeof createRuntime>,
	frontend: Frontend,
	scene: Scene,
): Promise<void> {
	const memory = await frontend.addMemory(MIXED_MEMORY);
	const mixed = startMixed(frontend, MIXED_RING, memory, SHAPE.size);
	try {
		for (let kills = 0, round = 0; kills < KILLS; round++) {
			const before = mixed.count();
			kills += await killUnderLoad(runtime, frontend, scene, round);
			await waitUntil(
				() => mixed.count() > before + 50,
				PATIENCE_MS,
				() => "large and small requests go on",
			);
		}
		await mixed.finish(PATIENCE_MS);
	} finally {
		mixed.abandon();
	}
}

for (const format of FORMATS)
	test(`${format} rings: a device killed ${KILLS} times under a verifying load`, async () => {
		const folder = makeTempDir();
		const image = join(folder, "disk.img");
		writeFileSync(image, "");
		truncateSync(image, SHAPE.size + MIXED_DISK);
		const scene: Scene = { format, image, instance: await serve({ image }) };
		const runtime = createRuntime();
		try {
			const frontend = await connect(runtime, scene);
			expectFormat(frontend, format);
			await killMany(runtime, frontend, scene);
			for (const index of frontend.rings.keys())
				await stopIdle(frontend, index);
			await frontend.close();
			await scene.instance.stop();
		} finally {
			await scene.instance.crash();
			removeTempDir(scene.instance.dir);
			await runtime.close();
			removeTempDir(folder);
		}
	});
