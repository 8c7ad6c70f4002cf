// SPDX-License-Identifier: MIT
// kill -9 while objects come and go: the state that comes back is one that existed.
import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";
import { SOAK } from "../support/soak.ts";
import { EMPTY, type Model, observe, stepsOf } from "../support/state-model.ts";

const ROUNDS = SOAK ? 500 : 6;
/** Time, at most, between the first change and the kill. */
const MAX_LIFE_MS = 200;

/** A generator of numbers below 2^32, of a seed (mulberry32). */
function createRandom(seed: number): (below: number) => number {
	let state = seed;
	return (below) => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) % below;
	};
}

interface Life {
	/** What was answered last, and what was asked for then. */
	readonly answered: Model;
	readonly asked: Model;
	readonly changes: number;
}

/** Changes the instance, one call after another, until it is killed in the middle. */
async function liveAndDie(
	instance: Instance,
	start: Model,
	random: (below: number) => number,
): Promise<Life> {
	let answered = start;
	let asked = start;
	let changes = 0;
	const killed = new Promise((resolve) => {
		setTimeout(() => resolve(instance.crash()), random(MAX_LIFE_MS));
	});
	for (;;) {
		const steps = stepsOf(answered, `n${random(8)}`, 2048 * (1 + random(4)));
		const step = steps[random(steps.length)];
		assert(step);
		asked = step.after;
		try {
			await instance.rpc(step.method, step.params);
		} catch (error) {
			await killed;
			const lost = /ECONN|EPIPE|ENOENT|connection closed/;
			assert.match(String(error), lost, `${step.method} ${instance.log()}`);
			return { answered, asked, changes };
		}
		answered = step.after;
		changes++;
	}
}

test(`an instance that is killed ${ROUNDS} times comes back as it was, or was about to be`, async () => {
	const dir = makeTempDir();
	const seed = Number(process.env.VHC_SEED ?? Date.now() % 2 ** 31);
	const random = createRandom(seed);
	const state = ["--state", join(dir, "state.json"), "--mode", "interrupt"];
	let life: Life = { answered: EMPTY, asked: EMPTY, changes: 0 };
	let changes = 0;
	let pending = 0;
	let instance: Instance | undefined;
	try {
		for (let round = 0; round <= ROUNDS; round++) {
			instance = await startInstance(state, {}, dir);
			const { answered, asked } = life;
			const model = await observe(instance.rpc);
			const where = `round ${round} of seed ${seed}: ${JSON.stringify({ model, answered, asked })}${instance.log()}`;
			assert.doesNotMatch(instance.log(), /kept for the next start/, where);
			const asAnswered = isDeepStrictEqual(model, answered);
			assert(asAnswered || isDeepStrictEqual(model, asked), where);
			if (!asAnswered) pending++;
			if (round === ROUNDS) break;
			life = await liveAndDie(instance, model, random);
			changes += life.changes;
		}
		console.log(
			`${ROUNDS} kills, ${changes} changes answered; ${pending} times the one in flight was there`,
		);
		assert(changes > ROUNDS / 2, `${changes} changes`);
	} finally {
		await instance?.crash();
		removeTempDir(dir);
	}
});
