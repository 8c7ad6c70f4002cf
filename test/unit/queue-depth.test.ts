// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
	createQueueDepthSampler,
	MIN_SAMPLING_MS,
} from "../../src/engine/bdev/queue-depth.ts";
import { waitUntil } from "../support/processes.ts";

/** A sampler of a depth that can be set, for whom 20 ms pass from each look at the clock to the next. */
function rig() {
	const state = { depth: 0, looks: 0, clock: 0 };
	const sampler = createQueueDepthSampler(
		() => {
			state.looks++;
			return state.depth;
		},
		() => {
			state.clock += 20;
			return state.clock;
		},
	);
	const looked = (times: number) =>
		waitUntil(
			() => state.looks >= times,
			10_000,
			() => `${times} looks`,
		);
	return { state, sampler, looked };
}

test("times are added up while there are requests, weighted by how many", async () => {
	const { state, sampler, looked } = rig();
	state.depth = 3;
	sampler.setPeriod(1);
	assert.equal(sampler.periodUs, 1);
	assert.equal(sampler.depth, 3, "it is looked at right away");
	assert.equal(sampler.ioTimeUs, 0);
	await looked(4);
	sampler.setPeriod(0); // which looks once more
	const busy = state.looks - 1;
	assert.equal(sampler.ioTimeUs, busy * 20_000);
	assert.equal(sampler.weightedIoTimeUs, 3 * busy * 20_000);
	const { looks } = state;
	await sleep(3 * MIN_SAMPLING_MS);
	assert.equal(state.looks, looks, "it is over");

	state.depth = 0;
	sampler.setPeriod(20_000);
	await looked(looks + 3);
	sampler.setPeriod(0);
	assert.equal(sampler.depth, 0);
	assert.equal(sampler.ioTimeUs, busy * 20_000, "idle time does not count");
	assert.equal(sampler.weightedIoTimeUs, 3 * busy * 20_000);
});

test("however short the period, it is looked at every 10 ms at most", async () => {
	const { state, sampler } = rig();
	const start = performance.now();
	sampler.setPeriod(1);
	await sleep(10 * MIN_SAMPLING_MS);
	sampler.setPeriod(0);
	const passed = performance.now() - start;
	// The first and the last look are not the timer's; timers may be a millisecond early.
	assert(state.looks - 2 <= passed / (MIN_SAMPLING_MS - 1), `${state.looks}`);
	sampler.setPeriod(Number.MAX_SAFE_INTEGER); // more than timers take
	const { looks } = state;
	await sleep(3 * MIN_SAMPLING_MS);
	assert.equal(state.looks, looks);
	sampler.setPeriod(0);
});
