// SPDX-License-Identifier: MIT
/** What connected controllers cost that have nothing to do. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createRuntime, type Runtime } from "../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../src/engine/vhost-user/frontend.ts";
import { pinned, TARGET_CPU, vhostctl } from "./machine.ts";
import { cpuTime, type Daemon, startDaemon } from "./process.ts";
import { perf } from "./targets.ts";
import type { Workload } from "./workloads.ts";

export interface Idle {
	readonly controllers: number;
	/** Processor time of the target for each second, all controllers idle. */
	readonly cpuPerSecond: number;
	/** IOPS of a busy controller beside them, and alone. */
	readonly busyBeside: number;
	readonly busyAlone: number;
}

const CONTROLLERS = 64;
const BUSY: Workload = {
	name: "busy",
	rw: "randread",
	blockSize: 4096,
	depth: 32,
};
const SETTLE_MS = 500;
const WATCH_MS = 3000;

async function serveMany(dir: string): Promise<Daemon> {
	const names = Array.from({ length: CONTROLLERS }, (_, i) => `idle${i}`);
	const disks = ["busy", ...names].flatMap((name) => [
		...["--bdev", `null:name=${name}-disk,size=1G`],
		...["--blk", `${name}=${name}-disk`],
	]);
	const serve = vhostctl("serve", "-S", dir, "-r", `${dir}.rpc`);
	const options = ["-m", `[${TARGET_CPU}]`, "--log-level", "error", ...disks];
	return startDaemon(pinned(TARGET_CPU, [...serve, ...options]), () =>
		existsSync(join(dir, `idle${CONTROLLERS - 1}`)),
	);
}

/** Connects as a guest's driver does that then does nothing: rings are set up and run. */
function connectAll(runtime: Runtime, dir: string): Promise<Frontend[]> {
	return Promise.all(
		Array.from({ length: CONTROLLERS }, (_, i) =>
			connectFrontend(runtime, join(dir, `idle${i}`), {
				queues: 1,
				queueSize: 128,
				memoryBytes: 65536,
				mode: "interrupt",
			}),
		),
	);
}

async function cpuWhileIdle(daemon: Daemon): Promise<number> {
	await sleep(SETTLE_MS);
	const before = cpuTime(daemon.pid);
	await sleep(WATCH_MS);
	return ((cpuTime(daemon.pid) - before) / WATCH_MS) * 1000;
}

function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Measures in turns, so that what else the machine does falls on both alike. */
export async function measureIdle(dir: string, seconds: number): Promise<Idle> {
	const sockets = join(dir, "many");
	const daemon = await serveMany(sockets);
	const runtime = createRuntime();
	const busy = async () =>
		(await perf({ socket: join(sockets, "busy") }, BUSY, seconds, daemon.pid))
			.iops;
	const alone: number[] = [];
	const beside: number[] = [];
	let cpuPerSecond = 0;
	try {
		for (let round = 0; round < 3; round++) {
			alone.push(await busy());
			const frontends = await connectAll(runtime, sockets);
			if (round === 0) cpuPerSecond = await cpuWhileIdle(daemon);
			beside.push(await busy());
			await Promise.all(frontends.map((frontend) => frontend.close()));
		}
	} finally {
		await runtime.close();
		await daemon.stop();
	}
	return {
		controllers: CONTROLLERS,
		cpuPerSecond,
		busyBeside: median(beside),
		busyAlone: median(alone),
	};
}
