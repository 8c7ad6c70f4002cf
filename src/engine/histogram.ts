// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { HIST_BUCKETS } from "../ffi/layout.ts";
import { bucketLow } from "./stats.ts";

/** Our own buckets are SPDK's of this granularity: 2^5 for each power of two. */
export const GRANULARITY = 5;
/** Our last bucket ends below this, in ns. */
export const MAX_NS = bucketLow(HIST_BUCKETS);

/** What part of the latencies to tell how finely. */
export interface HistogramShape {
	/** 0 to GRANULARITY. */
	granularity: number;
	/** From this many ns, inclusive, to that, exclusive. */
	minNs: number;
	maxNs: number;
}

/** A histogram as SPDK's bdev_get_histogram gives it, with ticks of 1 ns. */
export interface SpdkHistogram {
	histogram: string;
	granularity: number;
	min_range: number;
	max_range: number;
	tsc_rate: number;
}

/** The power of two, of SPDK's numbering, that a value falls into. */
function rangeOf(value: number, granularity: number): number {
	const bits = value < 1 ? 0 : Math.floor(Math.log2(value)) + 1;
	return Math.max(0, bits - granularity);
}

function slotOf(value: number, range: number, granularity: number): number {
	return Math.floor(value / 2 ** Math.max(0, range - 1)) % 2 ** granularity;
}

/** Lays counts by our buckets out as a struct spdk_histogram_data's (histogram_data.h). */
export function toSpdkHistogram(
	hist: Float64Array,
	shape: HistogramShape,
): SpdkHistogram {
	const { granularity } = shape;
	const min = rangeOf(shape.minNs, granularity);
	const max = rangeOf(shape.maxNs - 1, granularity);
	const slots = 2 ** granularity;
	const buckets = new BigUint64Array((max - min + 1) * slots);
	for (const [i, count] of hist.entries()) {
		if (count === 0) continue;
		const value = bucketLow(i);
		const range = rangeOf(value, granularity);
		let at = (range - min) * slots + slotOf(value, range, granularity);
		if (range < min) at = 0;
		else if (range > max) at = buckets.length - 1;
		buckets[at] = (buckets[at] ?? 0n) + BigInt(count);
	}
	return {
		histogram: Buffer.from(buckets.buffer).toString("base64"),
		granularity,
		min_range: min,
		max_range: max,
		tsc_rate: 1e9,
	};
}

/**
 * For each of `borders`, ascending, in ns, how many latencies it is not exceeded by, exact to a
 * bucket; then how many there are.
 */
export function countsUpTo(
	hist: Float64Array,
	borders: readonly number[],
): number[] {
	const upTo = (border: number) =>
		hist.reduce((sum, n, i) => (bucketLow(i) <= border ? sum + n : sum), 0);
	return [...borders, Number.POSITIVE_INFINITY].map(upTo);
}
