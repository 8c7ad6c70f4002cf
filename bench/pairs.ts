// SPDX-License-Identifier: MIT
/**
 * What a feature costs that costs much: two drivers on the same disk, with it and without, one
 * after the other and in turns, so that what else the machine does falls on both alike. What costs
 * less than the tenth by which that varies is counted in instructions.
 */
import { ourTarget, perf, type Shape } from "./targets.ts";
import type { Workload } from "./workloads.ts";

/** How the driver of one side differs from the other's, as options of vhostctl perf. */
interface Contrast {
	readonly name: string;
	readonly one: readonly string[];
	readonly other: readonly string[];
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
const LOGGING = "logging on / off";

const CONTRASTS: readonly Contrast[] = [
	{ name: PACKED, one: [], other: ["--split"] },
	{
		name: `split, ${LOGGING}`,
		one: ["--split", "--log-dirty"],
		other: ["--split"],
	},
	{ name: `packed, ${LOGGING}`, one: ["--log-dirty"], other: [] },
];

const WORKLOAD: Workload = {
	name: "4K randread 32",
	rw: "randread",
	blockSize: 4096,
	depth: 32,
};
const ROUNDS = 3;

interface Bdev {
	readonly name: string;
	readonly bdev: string;
	readonly fill?: boolean;
}

function disks({ size }: Shape): Bdev[] {
	const nothing = `null:name=bench,size=${size}`;
	const malloc = `malloc:name=bench,size=${size}`;
	return [
		{ name: "null", bdev: nothing },
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
	run: (driver: readonly string[]) => Promise<number>,
	{ one, other }: Contrast,
	round: number,
): Promise<number> {
	if (round % 2 === 0) {
		const first = await run(one);
		return first / (await run(other));
	}
	const first = await run(other);
	return (await run(one)) / first;
}

/** Measures all contrasts on all disks. `say` hears what comes next. */
export async function measurePairs(
	shape: Shape,
	say: (text: string) => void,
): Promise<Pair[]> {
	const pairs: Pair[] = [];
	for (const { name, bdev, ...options } of disks(shape)) {
		const target = await ourTarget(`pair, ${name}`, bdev, shape, options);
		const { disk } = target;
		const run = async (driver: readonly string[]) =>
			(await perf({ ...disk, driver }, WORKLOAD, shape.seconds)).iops;
		try {
			for (const contrast of CONTRASTS) {
				say(`${name}: ${contrast.name}`);
				const ratios: number[] = [];
				for (let round = 0; round < ROUNDS; round++)
					ratios.push(await measureRound(run, contrast, round));
				pairs.push(spread(name, contrast.name, ratios));
			}
		} finally {
			await target.stop();
		}
	}
	return pairs;
}
