// SPDX-License-Identifier: MIT
/**
 * What coalescing does at several rates: calls a request, and the time that it adds. The driver
 * makes evenly spaced requests and sleeps until it is called; a null disk ends each at once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, connect } from "../src/engine/control/client.ts";
import { CTRLR, ourTarget, perf, type Shape } from "./targets.ts";
import type { Measurement, Workload } from "./workloads.ts";

const RATES = [5_000, 20_000, 50_000, 100_000, 200_000] as const;

/** Over these it is measured: many times the 10 ms over which the rule takes the rate. */
const SECONDS = 0.5;

interface Setting {
	readonly delayBaseUs: number;
	readonly iopsThreshold: number;
}

const OFF: Setting = { delayBaseUs: 0, iopsThreshold: 60_000 };
const SETTINGS: readonly Setting[] = [
	{ delayBaseUs: 50, iopsThreshold: 60_000 },
	{ delayBaseUs: 100, iopsThreshold: 10_000 },
];

/** Deep enough for what comes together while a call is put off. */
const WORKLOAD: Workload = {
	name: "4K randread at a rate",
	rw: "randread",
	blockSize: 4096,
	depth: 1024,
};

/** Calls and requests of a second. */
interface Rates {
	readonly calls: number;
	readonly ios: number;
}

/** One setting at one rate. Times are in nanoseconds, other figures a second's. */
export interface Coalesced extends Setting {
	/** What the driver was told to make. */
	readonly rate: number;
	readonly ios: number;
	readonly calls: number;
	/** Calls at the same rate without a delay. */
	readonly callsWithout: number;
	/** Most calls by the rule, at the rate that was reached. */
	readonly callsByRule: number;
	readonly mean: number;
	readonly p50: number;
	readonly p99: number;
	/** To the median without a delay. */
	readonly added: number;
}

interface Counts {
	readonly calls: number;
	readonly ios: number;
	readonly ms: number;
}

/** Calls and requests of the one session so far. */
async function count(client: Client): Promise<Counts> {
	const { controllers } = await client.call("vhostctl_get_stats", {
		name: CTRLR,
	});
	const rings = controllers.flatMap(({ sessions }) =>
		sessions.flatMap((session) => session.rings),
	);
	return {
		calls: rings.reduce((sum, { calls }) => sum + calls, 0),
		ios: rings.reduce((sum, { ops }) => sum + ops.read.count, 0),
		ms: performance.now(),
	};
}

/** The middle of a load of so many seconds, once it runs. */
async function rates(client: Client, seconds: number): Promise<Rates> {
	while ((await count(client)).ios === 0) await sleep(5);
	await sleep(seconds * 200);
	const from = await count(client);
	await sleep(seconds * 600);
	const to = await count(client);
	const passed = (to.ms - from.ms) / 1000;
	return {
		calls: (to.calls - from.calls) / passed,
		ios: (to.ios - from.ios) / passed,
	};
}

/** How many calls a second the rule leaves: they are its delay apart, of 10 ms at most. */
function callsByRule({ delayBaseUs, iopsThreshold }: Setting, ios: number) {
	const above = (ios - iopsThreshold) / iopsThreshold;
	const delayUs = Math.min(delayBaseUs * above, 10_000);
	return delayUs > 0 ? 1e6 / delayUs : Number.POSITIVE_INFINITY;
}

async function measureSetting(
	client: Client,
	socket: string,
	rate: number,
	{ delayBaseUs, iopsThreshold }: Setting,
	seconds: number,
): Promise<Measurement & Rates> {
	await client.call("vhost_controller_set_coalescing", {
		ctrlr: CTRLR,
		delay_base_us: delayBaseUs,
		iops_threshold: iopsThreshold,
	});
	const pace = ["--mode", "interrupt", "--rate", String(rate)];
	const disk = { socket, driver: ["--split", ...pace] };
	const [measured, reached] = await Promise.all([
		perf(disk, WORKLOAD, seconds),
		rates(client, seconds),
	]);
	return { ...measured, ...reached };
}

/** The round that was disturbed least. */
async function best(
	rounds: number,
	run: () => Promise<Measurement & Rates>,
): Promise<Measurement & Rates> {
	let found = await run();
	for (let round = 1; round < rounds; round++) {
		const next = await run();
		if ((next.p99 ?? 0) < (found.p99 ?? 0)) found = next;
	}
	return found;
}

export async function measureCoalescing(shape: Shape): Promise<Coalesced[]> {
	const bdev = `null:name=bench,size=${shape.size}`;
	const target = await ourTarget("coalescing", bdev, shape);
	const client = await connect(target.rpc);
	const run = (rate: number, setting: Setting) =>
		best(shape.rounds, () =>
			measureSetting(client, target.disk.socket, rate, setting, SECONDS),
		);
	const rows: Coalesced[] = [];
	try {
		for (const rate of RATES) {
			const without = await run(rate, OFF);
			const row = (setting: Setting, one: Measurement & Rates): Coalesced => {
				const { calls, ios } = one;
				const { mean = Number.NaN, p50 = Number.NaN, p99 = Number.NaN } = one;
				return {
					...{ rate, ...setting, ios, calls, mean, p50, p99 },
					callsWithout: without.calls,
					callsByRule: callsByRule(setting, ios),
					added: p50 - (without.p50 ?? Number.NaN),
				};
			};
			rows.push(row(OFF, without));
			for (const setting of SETTINGS)
				rows.push(row(setting, await run(rate, setting)));
		}
	} finally {
		client.close();
		await target.stop();
	}
	return rows;
}

/** Of its calls without, those that a ring makes whose rate is under the threshold: the least. */
export function callsUnder(rows: readonly Coalesced[]): number {
	const under = rows.filter(
		({ delayBaseUs, iopsThreshold, rate }) =>
			delayBaseUs > 0 && rate < iopsThreshold,
	);
	const shares = under.map(({ calls, callsWithout }) => calls / callsWithout);
	return shares.length > 0 ? Math.min(...shares) : Number.NaN;
}

/**
 * How far the calls of rings above the threshold are from what the rule leaves, in percent: the
 * most. Where the rule leaves about as many as there are without it says nothing.
 */
export function callsOff(rows: readonly Coalesced[]): number {
	const above = rows.filter(
		({ callsByRule, callsWithout }) => callsByRule < callsWithout / 2,
	);
	const off = above.map(
		({ calls, callsByRule }) => Math.abs(calls / callsByRule - 1) * 100,
	);
	return off.length > 0 ? Math.max(...off) : Number.NaN;
}
