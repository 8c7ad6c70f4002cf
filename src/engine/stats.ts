// SPDX-License-Identifier: MIT
import { HIST_BUCKETS, LAYOUTS } from "../ffi/layout.ts";
import { native } from "../ffi/native.ts";

/** Kinds of request, in the order of enum vhc_op. */
export const OPS = [
	"read",
	"write",
	"flush",
	"unmap",
	"write_zeroes",
	"other",
] as const;
export type Op = (typeof OPS)[number];

/** What requests of one kind did. `hist` counts latencies by bucket, see bucketLow. */
export interface OpStats {
	/** Requests completed, failed ones included. */
	count: number;
	/** Bytes of data in those that succeeded. */
	bytes: number;
	/** Those that failed. */
	errors: number;
	/** Sum of their latencies, from taking a request to publishing its end. */
	latencyNs: number;
	hist: Float64Array;
}

const NOTIFICATIONS = [
	"kicks",
	"kicks_suppressed",
	"calls",
	"calls_suppressed",
	"calls_delayed",
	"batches",
	"busy_ns",
	"inflight",
	"malformed",
] as const;
type Counter = (typeof NOTIFICATIONS)[number];

/** A reading of one statistics page, or the sum or difference of several. */
export type Stats = Record<Counter, number> & { ops: Record<Op, OpStats> };

/** A page that one native ring or backend counts in. */
export interface StatsPage {
	/** To hand to the library. */
	readonly address: bigint;
	read(): Stats;
	/** Of read(), how many requests there are now. */
	inflight(): number;
	/** Gives the page back: nobody may count in it any more. */
	free(): void;
}

const PAGE = LAYOUTS.vhc_stats;
const OP = LAYOUTS.vhc_op_stats;

const word = (offset: number) => offset / 8;

function readOp(words: BigUint64Array, start: number): OpStats {
	const at = (offset: number) => Number(words[start + word(offset)] ?? 0n);
	const op = {
		count: at(OP.offsets.count),
		bytes: at(OP.offsets.bytes),
		errors: at(OP.offsets.errors),
		latencyNs: at(OP.offsets.latency_ns),
		hist: new Float64Array(HIST_BUCKETS),
	};
	if (op.count > 0) {
		const first = start + word(OP.offsets.hist);
		for (let i = 0; i < HIST_BUCKETS; i++)
			op.hist[i] = Number(words[first + i]);
	}
	return op;
}

function readPage(words: BigUint64Array): Stats {
	const stats = emptyStats();
	for (const name of NOTIFICATIONS) {
		stats[name] = Number(words[word(PAGE.offsets[name])] ?? 0n);
	}
	for (const [i, name] of OPS.entries()) {
		stats.ops[name] = readOp(words, word(PAGE.offsets.op + i * OP.size));
	}
	return stats;
}

/** Takes a zeroed page. Throws E_NO_MEMORY's NativeError when thousands are in use. */
export function allocStatsPage(): StatsPage {
	const address = native.statsAlloc();
	const view = native.pointer(address, PAGE.size);
	const words = new BigUint64Array(
		view.buffer,
		view.byteOffset,
		word(PAGE.size),
	);
	return {
		address,
		read: () => readPage(words),
		inflight: () => Number(words[word(PAGE.offsets.inflight)] ?? 0n),
		free: () => native.statsFree(address),
	};
}

function emptyOp(): OpStats {
	return {
		count: 0,
		bytes: 0,
		errors: 0,
		latencyNs: 0,
		hist: new Float64Array(HIST_BUCKETS),
	};
}

/** Something for each kind of request. */
export function eachOp<T>(of: (op: Op) => T): Record<Op, T> {
	return {
		read: of("read"),
		write: of("write"),
		flush: of("flush"),
		unmap: of("unmap"),
		write_zeroes: of("write_zeroes"),
		other: of("other"),
	};
}

export function emptyStats(): Stats {
	const counters = Object.fromEntries(NOTIFICATIONS.map((name) => [name, 0]));
	return { ...counters, ops: eachOp(emptyOp) } as Stats;
}

/** Adds `sign` times `from` to `to`. A counter that fell, for its page was reset, counts as 0. */
function combineOp(to: OpStats, from: OpStats, sign: 1 | -1): void {
	for (const key of ["count", "bytes", "errors", "latencyNs"] as const) {
		to[key] = Math.max(0, to[key] + sign * from[key]);
	}
	for (const [i, n] of from.hist.entries()) {
		if (n !== 0) to.hist[i] = Math.max(0, (to.hist[i] ?? 0) + sign * n);
	}
}

/** The sum over several pages, such as one bdev's on all reactors. */
export function sumStats(all: readonly Stats[]): Stats {
	const sum = emptyStats();
	for (const stats of all) {
		for (const name of NOTIFICATIONS) sum[name] += stats[name];
		for (const op of OPS) combineOp(sum.ops[op], stats.ops[op], 1);
	}
	return sum;
}

/** What happened between two readings; changes neither. */
export function opSince(now: OpStats, base: OpStats | undefined): OpStats {
	const difference = { ...now, hist: now.hist.slice() };
	if (base) combineOp(difference, base, -1);
	return difference;
}

/** All operations together. */
export function sumOps(ops: Record<Op, OpStats>): OpStats {
	const sum = emptyOp();
	for (const op of OPS) combineOp(sum, ops[op], 1);
	return sum;
}

/** The least latency in ns that a bucket counts. */
export function bucketLow(index: number): number {
	if (index < 32) return index;
	const exponent = Math.floor(index / 32) - 1;
	return (32 + (index % 32)) * 2 ** exponent;
}

/** The greatest latency in ns that a bucket counts. */
export function bucketHigh(index: number): number {
	return bucketLow(index + 1) - 1;
}

/**
 * For each of `percents`, the latency in ns that so many percent of the
 * requests do not exceed, exact to one bucket (3.2%); 0 without requests.
 */
export function percentiles(
	hist: Float64Array,
	percents: readonly number[],
): number[] {
	const total = hist.reduce((sum, n) => sum + n, 0);
	return percents.map((percent) => {
		if (total === 0) return 0;
		const wanted = Math.max(1, Math.ceil((total * percent) / 100));
		let seen = 0;
		const index = hist.findIndex((n) => {
			seen += n;
			return seen >= wanted;
		});
		return bucketHigh(index < 0 ? hist.length - 1 : index);
	});
}

/** The least and greatest latency in ns, exact to one bucket; zeros without requests. */
export function latencyRange(hist: Float64Array): { min: number; max: number } {
	const first = hist.findIndex((n) => n > 0);
	if (first < 0) return { min: 0, max: 0 };
	return {
		min: bucketLow(first),
		max: bucketHigh(hist.findLastIndex((n) => n > 0)),
	};
}
