// SPDX-License-Identifier: MIT
// How many requests a bdev has, looked at now and then, as bdev_set_qd_sampling_period asks for.

import { clearInterval, setInterval } from "node:timers";

/** Shorter periods are sampled at this one: a timer that is due all the time keeps a processor busy. */
export const MIN_SAMPLING_MS = 10;
/** Longer ones than a timer takes. */
const MAX_SAMPLING_MS = 0x7fffffff;

/** What samples of a bdev's queue depth have come to. Times are in microseconds. */
export interface QueueDepth {
	/** As it was asked for; 0: it is not sampled. */
	readonly periodUs: number;
	/** When it was looked at last. */
	readonly depth: number;
	/** How long there were requests, as far as samples tell. */
	readonly ioTimeUs: number;
	/** The same, each microsecond counted as often as there were requests. */
	readonly weightedIoTimeUs: number;
}

/** Samples a queue depth. Keeps no process alive. */
export interface QueueDepthSampler extends QueueDepth {
	/** 0: no more. What was measured is added to when it is sampled again. */
	setPeriod(us: number): void;
}

/** read: how many requests there are now; now: milliseconds. */
export function createQueueDepthSampler(
	read: () => number,
	now: () => number = () => performance.now(),
): QueueDepthSampler {
	let periodUs = 0;
	let timer: NodeJS.Timeout | undefined;
	let last = 0;
	let depth = 0;
	let ioTime = 0;
	let weighted = 0;

	const sample = (): void => {
		const at = now();
		const us = (at - last) * 1000;
		last = at;
		depth = read();
		if (depth > 0) ioTime += us;
		weighted += us * depth;
	};
	return {
		get periodUs() {
			return periodUs;
		},
		get depth() {
			return depth;
		},
		get ioTimeUs() {
			return Math.round(ioTime);
		},
		get weightedIoTimeUs() {
			return Math.round(weighted);
		},
		setPeriod(us) {
			if (us === periodUs) return;
			clearInterval(timer);
			timer = undefined;
			if (periodUs > 0) sample();
			periodUs = us;
			if (us === 0) return;
			last = now();
			depth = read();
			const ms = Math.max(us / 1000, MIN_SAMPLING_MS);
			timer = setInterval(sample, Math.min(ms, MAX_SAMPLING_MS));
			timer.unref();
		},
	};
}
