// SPDX-License-Identifier: MIT
// What delays come to in the latencies that a guest's own fio measures.
import assert from "node:assert/strict";
import type { Guest } from "../support/guest.ts";
import { type FaultyDisk, NO_DELAY } from "./fault-scene.ts";

/** Milliseconds: what 99 in a hundred requests take, and the others. */
const DELAYS = {
	read: { average: 10, rare: 300 },
	write: { average: 20, rare: 400 },
} as const;
const REQUESTS = 3000;
/** fio's histogram has buckets of up to 1.6%, of which it gives the middle. */
const BUCKET = 0.99;

type Bins = Record<string, number>;

/** Latencies from before a request is submitted: exactly what the delay is of. */
interface FioSide {
	total_ios: number;
	lat_ns: { min: number; percentile: Record<string, number>; bins: Bins };
}

/** Of every request one direction's: none too early, and as many late as there are to be. */
function assertSide(
	{ total_ios, lat_ns }: FioSide,
	{ average, rare }: (typeof DELAYS)["read" | "write"],
	what: string,
): void {
	const told = `${what}: ${JSON.stringify({ ...lat_ns, bins: undefined })}`;
	const { percentile } = lat_ns;
	const median = (percentile["50.000000"] ?? 0) / 1e6;
	assert(total_ios > REQUESTS / 3, told);
	assert(lat_ns.min / 1e6 >= average, told);
	// A busy host has it take longer, but not half of all requests thrice as long.
	assert(median >= average * BUCKET && median < average * 4, told);
	assert((percentile["99.900000"] ?? 0) / 1e6 >= rare * BUCKET, told);
	const late = Object.entries(lat_ns.bins)
		.filter(([ns]) => Number(ns) / 1e6 >= rare * BUCKET)
		.reduce((sum, [, count]) => sum + count, 0);
	// One in a hundred of some 1500, at random: 15 on average, and hardly ever one alone.
	assert(late >= 2 && late <= total_ios * 0.08, `${late} late, ${told}`);
}

/** Fails unless reads and writes take as long as they were told to, on all disks at once. */
export async function assertLatencies(
	guest: Guest,
	disks: readonly FaultyDisk[],
): Promise<void> {
	for (const { delays } of disks)
		for (const operation of ["read", "write"] as const) {
			const { average, rare } = DELAYS[operation];
			delays.setLatency(`avg_${operation}`, average * 1000);
			delays.setLatency(`p99_${operation}`, rare * 1000);
		}
	const options = [
		...["--rw=randrw", "--iodepth=32", `--number_ios=${REQUESTS}`],
		...["--clocksource=clock_gettime", "--output-format=json+"],
		...["--lat_percentiles=1", "--percentile_list=50:99.9"],
	].join(" ");
	const names = disks.map(({ device }) => device).join(" ");
	const text = await guest.run(`fio_jobs "${options}" ${names}`);
	const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as {
		jobs: { jobname: string; error: number; read: FioSide; write: FioSide }[];
	};
	assert.equal(jobs.length, disks.length);
	for (const job of jobs) {
		assert.equal(job.error, 0);
		for (const operation of ["read", "write"] as const)
			assertSide(
				job[operation],
				DELAYS[operation],
				`${operation}s of ${job.jobname}`,
			);
	}
	for (const { delays } of disks)
		for (const which of [
			"avg_read",
			"p99_read",
			"avg_write",
			"p99_write",
		] as const)
			delays.setLatency(which, NO_DELAY[which]);
}
