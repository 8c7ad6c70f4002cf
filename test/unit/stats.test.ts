// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { countsUpTo, toSpdkHistogram } from "../../src/engine/histogram.ts";
import {
	allocStatsPage,
	bucketHigh,
	bucketLow,
	latencyRange,
	opSince,
	percentiles,
	type Stats,
	sumOps,
	sumStats,
} from "../../src/engine/stats.ts";
import { HIST_BUCKETS, LAYOUTS } from "../../src/ffi/layout.ts";
import { native } from "../../src/ffi/native.ts";

/** The bucket of a latency, as vhostctl.h says. */
function bucketOf(value: number): number {
	if (value < 32) return value;
	const e = Math.floor(Math.log2(value));
	return (e - 4) * 32 + (Math.floor(value / 2 ** (e - 5)) % 32);
}

function histogram(values: readonly number[]): Float64Array {
	const hist = new Float64Array(HIST_BUCKETS);
	for (const value of values) {
		const i = bucketOf(value);
		hist[i] = (hist[i] ?? 0) + 1;
	}
	return hist;
}

test("buckets adjoin, hold their bounds and are at most 1/32 wide", () => {
	for (let i = 0; i < HIST_BUCKETS; i++) {
		const low = bucketLow(i);
		const high = bucketHigh(i);
		assert.equal(bucketOf(low), i);
		assert.equal(bucketOf(high), i);
		assert(high - low + 1 <= Math.max(1, low / 32));
	}
	assert.equal(bucketHigh(HIST_BUCKETS - 1), 2 ** 40 - 1);
});

test("percentiles of known latencies are exact to a bucket", () => {
	const values = Array.from({ length: 1000 }, (_, i) => (i + 1) * 100);
	const [p50 = 0, p99 = 0, p999 = 0, p100 = 0] = percentiles(
		histogram(values),
		[50, 99, 99.9, 100],
	);
	for (const [found, exact] of [
		[p50, 50_000],
		[p99, 99_000],
		[p999, 99_900],
		[p100, 100_000],
	] as const) {
		assert(found >= exact && found <= exact * (1 + 1 / 32), `${found}`);
	}
});

test("without requests percentiles and range are 0", () => {
	assert.deepEqual(percentiles(histogram([]), [50, 99]), [0, 0]);
	assert.deepEqual(latencyRange(histogram([])), { min: 0, max: 0 });
});

test("one request is every percentile, and the range", () => {
	const hist = histogram([7]);
	assert.deepEqual(percentiles(hist, [0.1, 50, 100]), [7, 7, 7]);
	assert.deepEqual(latencyRange(hist), { min: 7, max: 7 });
});

/** Counts in a page as a reactor does. */
function fakeRequest(address: bigint, op: number, latency: number): void {
	const { offsets, size } = LAYOUTS.vhc_op_stats;
	const start = address + BigInt(LAYOUTS.vhc_stats.offsets.op + op * size);
	const add = (offset: number, n: number) => {
		const at = start + BigInt(offset);
		const word = native.copyOut(at, 8);
		word.writeBigUInt64LE(word.readBigUInt64LE() + BigInt(n));
		native.copyIn(at, word);
	};
	add(offsets.count, 1);
	add(offsets.bytes, 4096);
	add(offsets.latency_ns, latency);
	add(offsets.hist + 8 * bucketOf(latency), 1);
}

test("a page reads as what was counted in it; sums and differences add up", () => {
	const pages = [allocStatsPage(), allocStatsPage()] as const;
	try {
		fakeRequest(pages[0].address, 0, 1000);
		fakeRequest(pages[1].address, 0, 3000);
		fakeRequest(pages[1].address, 1, 50);
		const before: Stats = sumStats(pages.map((page) => page.read()));
		assert.equal(before.ops.read.count, 2);
		assert.equal(before.ops.read.bytes, 8192);
		assert.equal(before.ops.read.latencyNs, 4000);
		assert.equal(before.ops.write.count, 1);
		assert.equal(sumOps(before.ops).count, 3);
		assert.equal(before.ops.flush.count, 0);

		fakeRequest(pages[0].address, 0, 64);
		const after = sumStats(pages.map((page) => page.read()));
		const since = opSince(after.ops.read, before.ops.read);
		assert.equal(since.count, 1);
		assert.equal(since.latencyNs, 64);
		assert.deepEqual(latencyRange(since.hist), { min: 64, max: 65 });
		assert.equal(after.ops.read.count, 3, "a difference changes nothing");
	} finally {
		for (const page of pages) page.free();
	}
});

test("a page given back comes again zeroed", () => {
	const first = allocStatsPage();
	fakeRequest(first.address, 2, 5);
	first.free();
	const again = allocStatsPage();
	assert.equal(again.read().ops.flush.count, 0);
	again.free();
});

/** How SPDK's histogram_data.h finds a value's place. */
function spdkPlace(value: number, granularity: number): [number, number] {
	const bits = value > 0 ? BigInt(value).toString(2).length : 0;
	const clz = 64 - bits;
	const lsb = 64 - granularity;
	const range = clz <= lsb ? lsb - clz : 0;
	const shift = BigInt(range === 0 ? 0 : range - 1);
	const mask = (1n << BigInt(granularity)) - 1n;
	return [range, Number((BigInt(value) >> shift) & mask)];
}

for (const granularity of [5, 3, 1]) {
	test(`SPDK's layout at granularity ${granularity}`, () => {
		const values = [
			0,
			1,
			31,
			32,
			33,
			100,
			999,
			1000,
			123456,
			2 ** 39,
			2 ** 40 - 1,
		];
		const shape = { granularity, minNs: 0, maxNs: 2 ** 40 };
		const made = toSpdkHistogram(histogram(values), shape);
		const counts = Buffer.from(made.histogram, "base64");
		const slots = 2 ** granularity;
		assert.equal(
			counts.length,
			(made.max_range - made.min_range + 1) * slots * 8,
		);
		const expected = new Map<number, number>();
		for (const value of values) {
			const [range, index] = spdkPlace(value, granularity);
			const at = range * slots + index;
			expected.set(at, (expected.get(at) ?? 0) + 1);
		}
		for (let at = 0; at * 8 < counts.length; at++) {
			assert.equal(
				Number(counts.readBigUInt64LE(at * 8)),
				expected.get(at) ?? 0,
				`place ${at}`,
			);
		}
	});
}

test("latencies outside the asked range count at its ends", () => {
	const shape = { granularity: 5, minNs: 1000, maxNs: 100_000 };
	const made = toSpdkHistogram(histogram([1, 2000, 10 ** 9]), shape);
	assert.equal(made.min_range, spdkPlace(1000, 5)[0]);
	assert.equal(made.max_range, spdkPlace(99_999, 5)[0]);
	const counts = Buffer.from(made.histogram, "base64");
	assert.equal(counts.readBigUInt64LE(0), 1n);
	assert.equal(counts.readBigUInt64LE(counts.length - 8), 1n);
	const [range, index] = spdkPlace(2000, 5);
	const at = (range - made.min_range) * 32 + index;
	assert.equal(counts.readBigUInt64LE(at * 8), 1n);
});

test("borders count what they are not exceeded by, and at last everything", () => {
	const hist = histogram([1, 9_000, 10_000, 11_000, 200_000, 10 ** 9]);
	assert.deepEqual(countsUpTo(hist, [10_000, 100_000, 10 ** 6]), [3, 4, 5, 6]);
	assert.deepEqual(countsUpTo(hist, []), [6]);
});
