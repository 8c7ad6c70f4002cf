// SPDX-License-Identifier: MIT
/**
 * What a feature costs: two drivers on the same disk, with it and without, one after the other
 * and in turns, so that what else the machine does falls on both alike.
 */
import { connect } from "../src/engine/control/client.ts";
import { CTRLR, ourTarget, perf, type Shape } from "./targets.ts";
import type { Workload } from "./workloads.ts";

/** How the driver of one side differs from the other's, as options of vhostctl perf. */
interface Contrast {
	readonly name: string;
	readonly one: readonly string[];
	readonly other: readonly string[];
	/** The one side's last requests are kept. */
	readonly traced?: boolean;
}

export interface Pair {
	readonly disk: string;
	readonly contrast: string;
	/** IOPS of one side by those of the other: the middle one of all rounds, and how they spread. */
	readonly ratio: number;
	readonly least: number;
	readonly most: number;
}

export const PACKED = "packed / split";
export const INFLIGHT = "in-flight on / off";
export const LOGGING = "logging on / off";
export const TRACING = "trace on / off";

const CONTRASTS: readonly Contrast[] = [
	{ name: PACKED, one: [], other: ["--split"] },
	{
		name: `split, ${INFLIGHT}`,
		one: ["--split", "--inflight"],
		other: ["--split"],
	},
	{ name: `packed, ${INFLIGHT}`, one: ["--inflight"], other: [] },
	{
		name: `split, ${LOGGING}`,
		one: ["--split", "--log-dirty"],
		other: ["--split"],
	},
	{ name: `packed, ${LOGGING}`, one: ["--log-dirty"], other: [] },
	{
		name: `split, ${TRACING}`,
		one: ["--split"],
		other: ["--split"],
		traced: true,
	},
	{ name: `packed, ${TRACING}`, one: [], other: [], traced: true },
];

const WORKLOAD: Workload = {
	name: "4K randread 32",
	rw: "randread",
	blockSize: 4096,
	depth: 32,
};
/** Requests kept of each ring; the command line's default. */
const TRACE_SIZE = 256;
const MIN_ROUNDS = 3;
const ROUNDS_MORE = 2;

interface Bdev {
	readonly name: string;
	readonly bdev: string;
	readonly scsi?: boolean;
	readonly fill?: boolean;
}

function disks({ size }: Shape): Bdev[] {
	const nothing = `null:name=bench,size=${size}`;
	const malloc = `malloc:name=bench,size=${size}`;
	return [
		{ name: "null", bdev: nothing },
		{ name: "null, scsi", bdev: nothing, scsi: true },
		{ name: "malloc", bdev: malloc, fill: true },
	];
}

function spread(disk: string, contrast: string, ratios: number[]): Pair {
	ratios.sort((a, b) => a - b);
	const at = (i: number) => ratios[i] ?? Number.NaN;
	const ratio = at(Math.floor(ratios.length / 2));
	return {
		disk,
		contrast,
		ratio,
		least: at(0),
		most: at(ratios.length - 1),
	};
}

/** One round: the side that goes first changes from round to round. */
async function measureRound(
	run: (driver: readonly string[], traced: boolean) => Promise<number>,
	{ one, other, traced = false }: Contrast,
	round: number,
): Promise<number> {
	if (round % 2 === 0) {
		const first = await run(one, traced);
		return first / (await run(other, false));
	}
	const first = await run(other, false);
	return (await run(one, traced)) / first;
}

/** Measures all contrasts on all disks. `say` hears what comes next. */
export async function measurePairs(
	shape: Shape,
	say: (text: string) => void,
): Promise<Pair[]> {
	const pairs: Pair[] = [];
	const rounds = shape.rounds === 1 ? MIN_ROUNDS : shape.rounds + ROUNDS_MORE;
	for (const { name, bdev, ...options } of disks(shape)) {
		const target = await ourTarget(`pair, ${name}`, bdev, shape, options);
		const { disk } = target;
		const client = await connect(target.rpc);
		const run = async (driver: readonly string[], traced: boolean) => {
			const size = traced ? TRACE_SIZE : 0;
			await client.call("vhostctl_set_trace", { ctrlr: CTRLR, size });
			return (await perf({ ...disk, driver }, WORKLOAD, shape.seconds)).iops;
		};
		try {
			for (const contrast of CONTRASTS) {
				say(`${name}: ${contrast.name}`);
				const ratios: number[] = [];
				for (let round = 0; round < rounds; round++)
					ratios.push(await measureRound(run, contrast, round));
				pairs.push(spread(name, contrast.name, ratios));
			}
		} finally {
			client.close();
			await target.stop();
		}
	}
	return pairs;
}
