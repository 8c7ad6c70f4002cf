// SPDX-License-Identifier: MIT
import process from "node:process";
import type { Bdev } from "../../engine.ts";
import { VhostctlError } from "../../engine.ts";
import {
	countsUpTo,
	GRANULARITY,
	MAX_NS,
	toSpdkHistogram,
} from "../../histogram.ts";
import {
	eachOp,
	latencyRange,
	type Op,
	type OpStats,
	opSince,
	type Stats,
	type StatsPage,
	sumOps,
	sumStats,
} from "../../stats.ts";
import type { iostatMethods, RESET_MODES } from "../schema/iostat.ts";
import type { Handlers } from "./context.ts";
import { TICK_RATE } from "./framework.ts";

type ResetMode = (typeof RESET_MODES)[number];

/** Counters only grow: to reset some is to remember what they were. */
interface Baseline {
	counters?: Stats;
	extremes?: Stats;
	errors?: Stats;
}

const baselines = new WeakMap<StatsPage, Baseline>();

function reset(page: StatsPage, mode: ResetMode): void {
	if (mode === "none") return;
	const now = page.read();
	const baseline = baselines.get(page) ?? {};
	if (mode === "all") baseline.counters = now;
	if (mode === "all" || mode === "maxmin") baseline.extremes = now;
	if (mode === "all" || mode === "error") baseline.errors = now;
	baselines.set(page, baseline);
}

/** One page's counters since each was last reset. */
function readSince(page: StatsPage): Stats {
	const now = page.read();
	const baseline = baselines.get(page) ?? {};
	const ops = eachOp((op) => ({
		...opSince(now.ops[op], baseline.counters?.ops[op]),
		errors: opSince(now.ops[op], baseline.errors?.ops[op]).errors,
		hist: opSince(now.ops[op], baseline.extremes?.ops[op]).hist,
	}));
	return { ...now, ops };
}

/** As SPDK's spdk_bdev_dump_io_stat_json writes them. */
function describe({ ops }: Stats) {
	const read = latencyRange(ops.read.hist);
	const write = latencyRange(ops.write.hist);
	const unmap = latencyRange(ops.unmap.hist);
	const failed = sumOps(ops).errors;
	return {
		bytes_read: ops.read.bytes,
		num_read_ops: ops.read.count,
		bytes_written: ops.write.bytes,
		num_write_ops: ops.write.count,
		bytes_unmapped: ops.unmap.bytes,
		num_unmap_ops: ops.unmap.count,
		bytes_copied: 0,
		num_copy_ops: 0,
		read_latency_ticks: ops.read.latencyNs,
		max_read_latency_ticks: read.max,
		min_read_latency_ticks: read.min,
		write_latency_ticks: ops.write.latencyNs,
		max_write_latency_ticks: write.max,
		min_write_latency_ticks: write.min,
		unmap_latency_ticks: ops.unmap.latencyNs,
		max_unmap_latency_ticks: unmap.max,
		min_unmap_latency_ticks: unmap.min,
		copy_latency_ticks: 0,
		max_copy_latency_ticks: 0,
		min_copy_latency_ticks: 0,
		io_error: (failed > 0 ? { failed } : {}) as Record<string, number>,
	};
}

function ticks() {
	return {
		tick_rate: TICK_RATE,
		ticks: Number(process.hrtime.bigint()),
	};
}

/** What samples have come to, in the words of SPDK. */
function sampled({ queueDepth }: Bdev) {
	if (queueDepth.periodUs === 0) return {};
	return {
		queue_depth_polling_period: queueDepth.periodUs,
		queue_depth: queueDepth.depth,
		io_time: queueDepth.ioTimeUs,
		weighted_io_time: queueDepth.weightedIoTimeUs,
	};
}

function total(bdev: Bdev, mode: ResetMode) {
	const pages = [...bdev.pages.values()];
	const stats = sumStats(pages.map(readSince));
	for (const page of pages) reset(page, mode);
	return { name: bdev.name, ...describe(stats), ...sampled(bdev) };
}

function perChannel(bdev: Bdev, mode: ResetMode) {
	const channels = [...bdev.pages].map(([reactor, page]) => {
		const channel = { thread_id: reactor + 1, ...describe(readSince(page)) };
		reset(page, mode);
		return channel;
	});
	return { ...ticks(), name: bdev.name, channels };
}

interface Histogram {
	readonly op: Exclude<Op, "other"> | undefined;
	readonly shape: { granularity: number; minNs: number; maxNs: number };
	/** What the bdev had done when it was enabled. */
	readonly base: Stats;
}

const histograms = new WeakMap<Bdev, Histogram>();

/** How a bdev's histogram was asked for; undefined: it has none. */
export function histogramOf(bdev: Bdev) {
	const enabled = histograms.get(bdev);
	if (!enabled) return undefined;
	const { op: opc, shape } = enabled;
	const { granularity, minNs: min_nsec, maxNs: max_nsec } = shape;
	return { opc, granularity, min_nsec, max_nsec };
}

function pick(stats: Stats, op: Op | undefined): OpStats {
	return op === undefined ? sumOps(stats.ops) : stats.ops[op];
}

function checkShape(shape: Histogram["shape"]): void {
	if (shape.granularity > GRANULARITY) {
		throw new VhostctlError(
			"E_INVALID",
			`parameter 'granularity' must be at most ${GRANULARITY}: latencies are not counted more finely`,
		);
	}
	if (shape.minNs >= shape.maxNs) {
		throw new VhostctlError(
			"E_INVALID",
			`parameter 'min_nsec' ${shape.minNs} must be less than max_nsec ${shape.maxNs}`,
		);
	}
}

/** What a bdev's histogram has counted. Throws E_INVALID if it has none. */
function counted(bdev: Bdev) {
	const enabled = histograms.get(bdev);
	if (!enabled) {
		throw new VhostctlError(
			"E_INVALID",
			`bdev ${bdev.name} has no histogram: call bdev_enable_histogram first`,
		);
	}
	const { op, shape, base } = enabled;
	const { hist } = opSince(pick(bdev.stats(), op), pick(base, op));
	return { hist, shape };
}

export const iostatHandlers: Handlers<keyof typeof iostatMethods> = {
	bdev_get_iostat({ engine }, { names, per_channel, reset_mode }) {
		const bdevs = names?.map((name) => engine.bdevs.get(name));
		const mode = reset_mode ?? "none";
		if (!per_channel) {
			const all = bdevs ?? engine.bdevs.list();
			return { ...ticks(), bdevs: all.map((bdev) => total(bdev, mode)) };
		}
		const [only, ...more] = bdevs ?? [];
		if (only && more.length === 0) return perChannel(only, mode);
		throw new VhostctlError(
			"E_INVALID",
			"parameter 'per_channel' needs exactly one bdev in 'names'",
		);
	},
	bdev_reset_iostat({ engine }, { name, mode }) {
		const bdevs =
			name === undefined ? engine.bdevs.list() : [engine.bdevs.get(name)];
		for (const bdev of bdevs) {
			for (const page of bdev.pages.values()) reset(page, mode ?? "all");
		}
		return true;
	},
	bdev_set_qd_sampling_period({ engine }, { name, period }) {
		engine.bdevs.get(name).queueDepth.setPeriod(period);
		return true;
	},
	bdev_enable_histogram({ engine }, p) {
		const bdev = engine.bdevs.get(p.name);
		if (!p.enable) {
			histograms.delete(bdev);
			return true;
		}
		const shape = {
			granularity: p.granularity ?? GRANULARITY,
			minNs: p.min_nsec ?? 0,
			maxNs: p.max_nsec ?? MAX_NS,
		};
		checkShape(shape);
		histograms.set(bdev, { op: p.opc, shape, base: bdev.stats() });
		return true;
	},
	bdev_get_histogram({ engine }, { name }) {
		const { hist, shape } = counted(engine.bdevs.get(name));
		return toSpdkHistogram(hist, shape);
	},
	bdev_get_histogram_borders({ engine }, { name, borders }) {
		if (borders.some((border, i) => border <= (borders[i - 1] ?? -1)))
			throw new VhostctlError("E_INVALID", "parameter 'borders' must ascend");
		const { hist } = counted(engine.bdevs.get(name));
		const bordersNs = borders.map((us) => us * 1000);
		return { borders_count: countsUpTo(hist, bordersNs) };
	},
};
