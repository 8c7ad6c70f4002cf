// SPDX-License-Identifier: MIT
/**
 * What a disk reaches under limits, against them: a null disk, which is faster than any of them,
 * and a driver that always has more to ask.
 */
import { connect } from "../src/engine/control/client.ts";
import { BDEV, type Disk, ourTarget, perf, type Shape } from "./targets.ts";
import type { Measurement, Workload } from "./workloads.ts";

/** Over these the rate is taken. */
const SECONDS = 2;
const MIB = 1024 * 1024;

const WORKLOAD: Workload = {
	name: "4K randread 128",
	rw: "randread",
	blockSize: 4096,
	depth: 128,
};

/** Of requests, or of MiB. */
interface Limit {
	readonly ios: number;
	readonly mebibytes: number;
}

const LIMITS: readonly Limit[] = [
	{ ios: 1_000, mebibytes: 0 },
	{ ios: 10_000, mebibytes: 0 },
	{ ios: 100_000, mebibytes: 0 },
	{ ios: 0, mebibytes: 100 },
];

/** Rates are a second's. */
export interface Limited {
	readonly unit: "IOPS" | "MiB/s";
	readonly limit: number;
	readonly reached: number;
}

/** How far what was reached is from the limit, in percent of it. */
export function offBy({ limit, reached }: Limited): number {
	return (Math.abs(reached - limit) / limit) * 100;
}

/** The round with the most: what else the machine does only makes it less, a limit must not. */
async function most(disk: Disk, rounds: number): Promise<Measurement> {
	let best = await perf(disk, WORKLOAD, SECONDS);
	for (let round = 1; round < rounds; round++) {
		const next = await perf(disk, WORKLOAD, SECONDS);
		if (next.iops > best.iops) best = next;
	}
	return best;
}

export async function measureQos(shape: Shape): Promise<Limited[]> {
	const bdev = `null:name=${BDEV},size=${shape.size}`;
	const target = await ourTarget("qos", bdev, shape);
	const client = await connect(target.rpc);
	const rows: Limited[] = [];
	try {
		for (const { ios, mebibytes } of LIMITS) {
			await client.call("bdev_set_qos_limit", {
				name: BDEV,
				rw_ios_per_sec: ios,
				rw_mbytes_per_sec: mebibytes,
			});
			const measured = await most(target.disk, shape.rounds);
			const { iops, bytesPerSecond } = measured;
			rows.push(
				ios > 0
					? { unit: "IOPS", limit: ios, reached: iops }
					: { unit: "MiB/s", limit: mebibytes, reached: bytesPerSecond / MIB },
			);
		}
	} finally {
		client.close();
		await target.stop();
	}
	return rows;
}
