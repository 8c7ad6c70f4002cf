// SPDX-License-Identifier: MIT
// Building families of figures from objects of one kind.
import { bucketHigh, type OpStats } from "../stats.ts";
import {
	BOUNDS_NS,
	type Distribution,
	type Family,
	type Labels,
} from "./exposition.ts";

/** One figure that objects of a kind have. */
export interface Figure<T> {
	/** Without the kind's prefix. */
	readonly name: string;
	readonly type: "counter" | "gauge";
	readonly help: string;
	value(of: T): number;
}

export const NS = 1e-9;

export function counter<T>(
	name: string,
	help: string,
	value: (of: T) => number,
): Figure<T> {
	return { name, type: "counter", help, value };
}

export function gauge<T>(
	name: string,
	help: string,
	value: (of: T) => number,
): Figure<T> {
	return { name, type: "gauge", help, value };
}

/** A family for each figure, with a sample for each object. */
export function families<T>(
	prefix: string,
	figures: readonly Figure<T>[],
	objects: readonly T[],
	labels: (of: T) => Labels,
): Family[] {
	return figures.map(({ name, type, help, value }) => ({
		name: `${prefix}_${name}`,
		type,
		help,
		samples: objects.map((one) => ({ labels: labels(one), value: value(one) })),
	}));
}

/** Reduces our buckets to the bounds of the exposition: a bucket counts once all of it is below. */
export function distribution(labels: Labels, op: OpStats): Distribution {
	const cumulative: number[] = [];
	let count = 0;
	for (const [bucket, n] of op.hist.entries()) {
		const high = bucketHigh(bucket);
		while (high > (BOUNDS_NS[cumulative.length] ?? Number.POSITIVE_INFINITY))
			cumulative.push(count);
		count += n;
	}
	while (cumulative.length < BOUNDS_NS.length) cumulative.push(count);
	// Not op.count: the page may be written while it is read, and buckets are to agree with the sum.
	return { labels, cumulative, count, sum: op.latencyNs * NS };
}
