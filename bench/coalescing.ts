// SPDX-License-Identifier: MIT
/**
 * What coalescing does at several rates, which the depth makes: calls a request, and the time that
 * it adds. The driver sleeps until it is called.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, connect } from "../src/engine/control/client.ts";
import {
	CTRLR,
	type Files,
	fillFile,
	ourTarget,
	perf,
	type Shape,
} from "./targets.ts";
import type { Measurement, Workload } from "./workloads.ts";

const DEPTHS = [1, 8, 32, 128] as const;

interface Setting {
	readonly delayBaseUs: number;
	readonly iopsThreshold: number;
}

const SETTINGS: readonly Setting[] = [
	{ delayBaseUs: 0, iopsThreshold: 60_000 },
	{ delayBaseUs: 20, iopsThreshold: 60_000 },
	{ delayBaseUs: 100, iopsThreshold: 20_000 },
];

/** One setting at one depth. Times are in nanoseconds. */
export interface Coalesced extends Setting {
	readonly disk: string;
	readonly depth: number;
	readonly iops: number;
	readonly callsPerIo: number;
	readonly p50: number;
	readonly p99: number;
	/** To the median without a delay at the same depth. */
	readonly added: number;
}

/** Calls and requests of the one session so far. */
async function counted(
	client: Client,
): Promise<{ calls: number; ios: number }> {
	const { controllers } = await client.call("vhostctl_get_stats", {
		name: CTRLR,
	});
	const rings = controllers.flatMap(({ sessions }) =>
		sessions.flatMap((session) => session.rings),
	);
	return {
		calls: rings.reduce((sum, { calls }) => sum + calls, 0),
		ios: rings.reduce((sum, { ops }) => sum + ops.read.count, 0),
	};
}

/** Calls a request in the middle half of a load of so many seconds, once it runs. */
async function callsPerIo(client: Client, seconds: number): Promise<number> {
	while ((await counted(client)).ios === 0) await sleep(5);
	await sleep(seconds * 250);
	const from = await counted(client);
	await sleep(seconds * 500);
	const to = await counted(client);
	return (to.calls - from.calls) / (to.ios - from.ios);
}

async function measureSetting(
	client: Client,
	socket: string,
	depth: number,
	{ delayBaseUs, iopsThreshold }: Setting,
	seconds: number,
): Promise<Measurement & { callsPerIo: number }> {
	await client.call("vhost_controller_set_coalescing", {
		ctrlr: CTRLR,
		delay_base_us: delayBaseUs,
		iops_threshold: iopsThreshold,
	});
	const workload: Workload = {
		name: `4K randread ${depth}`,
		rw: "randread",
		blockSize: 4096,
		depth,
	};
	const driver = ["--split", "--mode", "interrupt"];
	const [measured, calls] = await Promise.all([
		perf({ socket, driver }, workload, seconds),
		callsPerIo(client, seconds),
	]);
	return { ...measured, callsPerIo: calls };
}

async function measureDisk(
	disk: string,
	bdev: string,
	shape: Shape,
): Promise<Coalesced[]> {
	const target = await ourTarget(`coalescing, ${disk}`, bdev, shape);
	const client = await connect(target.rpc);
	const rows: Coalesced[] = [];
	try {
		for (const depth of DEPTHS) {
			let without: number | undefined;
			for (const setting of SETTINGS) {
				const { socket } = target.disk;
				const seconds = shape.seconds;
				const m = await measureSetting(client, socket, depth, setting, seconds);
				const { iops, callsPerIo, p50 = Number.NaN, p99 = Number.NaN } = m;
				without ??= p50;
				const added = p50 - without;
				rows.push({
					disk,
					depth,
					...setting,
					iops,
					callsPerIo,
					p50,
					p99,
					added,
				});
			}
		}
	} finally {
		client.close();
		await target.stop();
	}
	return rows;
}

/** A disk that ends a batch at once, and one whose requests end one by one. */
export async function measureCoalescing(
	shape: Shape,
	files: Files,
): Promise<Coalesced[]> {
	const nothing = `null:name=bench,size=${shape.size}`;
	await fillFile(files.disk, shape.size);
	const file = `file:name=bench,path=${files.disk}`;
	return [
		...(await measureDisk("null", nothing, shape)),
		...(await measureDisk("file, O_DIRECT", file, shape)),
	];
}
