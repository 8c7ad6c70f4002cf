// SPDX-License-Identifier: MIT
/** What happened between two readings of an instance's statistics. */
import type { Result } from "../engine/control/schema.ts";

export type Snapshot = Result<"vhostctl_get_stats">;
export type Reactor = Snapshot["reactors"][number];
export type Bdev = Snapshot["bdevs"][number];
export type Controller = Snapshot["controllers"][number];
export type Ring = Controller["sessions"][number]["rings"][number];
export type Operations = Bdev["ops"];
export type Operation = Operations["read"];

/** Requests of an interval. */
export interface Activity {
	/** Requests a second, and bytes. */
	readonly iops: number;
	readonly throughput: number;
	readonly errors: number;
	/** ns; 0 without requests. */
	readonly meanNs: number;
	readonly p50Ns: number;
	readonly p99Ns: number;
	readonly p999Ns: number;
	/** Requests in flight, the mean over the interval (by Little's law). */
	readonly depth: number;
}

const PERCENTS = [50, 99, 99.9];

type Histogram = ReadonlyMap<number, number>;

function histogramOf(all: readonly Operation[]): Map<number, number> {
	const sum = new Map<number, number>();
	for (const { histogram = [] } of all)
		for (const [high = 0, count = 0] of histogram)
			sum.set(high, (sum.get(high) ?? 0) + count);
	return sum;
}

/** `now` without what `before` has; a counter that fell was begun anew. */
function without(now: Histogram, before: Histogram): [number, number][] {
	return [...now]
		.map(([high, count]): [number, number] => [
			high,
			Math.max(0, count - (before.get(high) ?? 0)),
		])
		.filter(([, count]) => count > 0)
		.sort(([a], [b]) => a - b);
}

/** What so many percent of the requests do not exceed, for each of PERCENTS; zeros without any. */
function percentilesOf(histogram: readonly [number, number][]): number[] {
	const total = histogram.reduce((sum, [, count]) => sum + count, 0);
	return PERCENTS.map((percent) => {
		const wanted = Math.max(1, Math.ceil((total * percent) / 100));
		let seen = 0;
		const found = histogram.find(([, count]) => {
			seen += count;
			return seen >= wanted;
		});
		return found?.[0] ?? 0;
	});
}

function increase(
	now: readonly Operation[],
	before: readonly Operation[],
	key: "count" | "bytes" | "errors" | "latency_ns",
): number {
	const sum = (all: readonly Operation[]) =>
		all.reduce((total, op) => total + op[key], 0);
	return Math.max(0, sum(now) - sum(before));
}

/** What operations did together in `seconds`. */
export function activity(
	now: readonly Operation[],
	before: readonly Operation[],
	seconds: number,
): Activity {
	const count = increase(now, before, "count");
	const latency = increase(now, before, "latency_ns");
	const [p50Ns = 0, p99Ns = 0, p999Ns = 0] = percentilesOf(
		without(histogramOf(now), histogramOf(before)),
	);
	return {
		iops: count / seconds,
		throughput: increase(now, before, "bytes") / seconds,
		errors: increase(now, before, "errors"),
		meanNs: count > 0 ? latency / count : 0,
		p50Ns,
		p99Ns,
		p999Ns,
		depth: latency / (seconds * 1e9),
	};
}

/** The one of that name in another reading. */
export function bdevIn(
	snapshot: Snapshot | undefined,
	name: string,
): Bdev | undefined {
	return snapshot?.bdevs.find((bdev) => bdev.name === name);
}

/** The ring of that number of the same connection in another reading. */
export function ringIn(
	snapshot: Snapshot | undefined,
	ctrlr: string,
	session: number,
	index: number,
): Ring | undefined {
	return snapshot?.controllers
		.find((controller) => controller.ctrlr === ctrlr)
		?.sessions.find(({ id }) => id === session)
		?.rings.find((ring) => ring.index === index);
}

type PlainOperation = Omit<Operation, "histogram">;

function plain(
	{ histogram, ...op }: Operation,
	before: Operation | undefined,
): PlainOperation {
	if (!before) return op;
	const [p50_ns = 0, p99_ns = 0, p999_ns = 0] = percentilesOf(
		without(histogramOf([{ histogram, ...op }]), histogramOf([before])),
	);
	return { ...op, p50_ns, p99_ns, p999_ns };
}

function plainOps(
	ops: Operations,
	before: Operations | undefined,
): Record<keyof Operations, PlainOperation> {
	const of = (kind: keyof Operations) => plain(ops[kind], before?.[kind]);
	return {
		read: of("read"),
		write: of("write"),
		flush: of("flush"),
		unmap: of("unmap"),
		write_zeroes: of("write_zeroes"),
		other: of("other"),
	};
}

/** A reading without its histograms, and with the percentiles of the time since `before`. */
export function sinceLast(
	now: Snapshot,
	before: Snapshot | undefined,
): Snapshot {
	return {
		...now,
		bdevs: now.bdevs.map((bdev) => ({
			...bdev,
			ops: plainOps(bdev.ops, bdevIn(before, bdev.name)?.ops),
		})),
		controllers: now.controllers.map((controller) => ({
			...controller,
			sessions: controller.sessions.map((session) => ({
				...session,
				rings: session.rings.map((ring) => ({
					...ring,
					ops: plainOps(
						ring.ops,
						ringIn(before, controller.ctrlr, session.id, ring.index)?.ops,
					),
				})),
			})),
		})),
	};
}
