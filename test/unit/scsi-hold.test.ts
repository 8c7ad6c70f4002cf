// SPDX-License-Identifier: MIT
// Who may use a medium, with lanes that a test moves.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { createArena } from "../../src/engine/arena.ts";
import { createHold, runFor } from "../../src/engine/virtio-scsi/hold.ts";
import type { Lane, RequestRing } from "../../src/engine/virtio-scsi/ring.ts";

interface TestLane extends Lane {
	holds: number;
	/** What it executes has ended. */
	idle(): void;
	detached: boolean;
}

function makeLane(): TestLane {
	const waiting: (() => void)[] = [];
	const lane: TestLane = {
		ring: {} as RequestRing,
		address: 0,
		holds: 0,
		detached: false,
		get attached() {
			return !lane.detached;
		},
		hold() {
			lane.holds++;
			return new Promise((resolve) => waiting.push(resolve));
		},
		held: async () => {},
		release: () => void lane.holds--,
		detach() {
			lane.detached = true;
		},
		idle() {
			for (const resolve of waiting.splice(0)) resolve();
		},
	};
	return lane;
}

/** A promise that is settled from outside, and whether it was. */
function later() {
	let resolve: () => void = () => {};
	const promise = new Promise<void>((done) => {
		resolve = done;
	});
	return { promise, resolve: () => resolve() };
}

/** What a promise came to so far. */
async function stateOf(promise: Promise<unknown>): Promise<string> {
	let state = "pending";
	promise.then(
		() => {
			state = "done";
		},
		(error: Error) => {
			state = error.name;
		},
	);
	for (let i = 0; i < 3; i++) await turn();
	return state;
}

test("exclusive work waits for lanes and operations, and keeps both back", async () => {
	const hold = createHold();
	const lane = makeLane();
	hold.add(lane);
	const io = later();
	const operation = hold.operate(() => io.promise);
	const log: string[] = [];
	const end = later();
	const work = hold.exclusive(async () => {
		log.push("begun");
		assert.equal(hold.closed, false, "to itself it is open");
		await hold.operate(async () => void log.push("own"));
		await hold.exclusive(async () => void log.push("nested"));
		await end.promise;
	});
	await turn();
	assert.equal(hold.closed, true);
	assert.equal(lane.holds, 1);
	assert.equal(log.length, 0);
	lane.idle();
	await turn();
	assert.equal(log.length, 0, "an operation goes on");
	const next = hold.operate(async () => void log.push("next"));
	io.resolve();
	await operation;
	assert.equal(await stateOf(work), "pending");
	assert.deepEqual(log, ["begun", "own", "nested"]);
	assert.equal(lane.holds, 1);
	end.resolve();
	await work;
	await next;
	assert.deepEqual(log.at(-1), "next");
	assert.equal(lane.holds, 0);
	assert.equal(hold.closed, false);
});

test("one exclusive after the other, and a failure is its own", async () => {
	const hold = createHold();
	const log: number[] = [];
	const works = [1, 2, 3].map((n) =>
		hold.exclusive(async () => {
			log.push(n);
			await turn();
			log.push(n);
			if (n === 2) throw new RangeError("two");
		}),
	);
	const ends = await Promise.allSettled(works);
	assert.deepEqual(log, [1, 1, 2, 2, 3, 3]);
	assert.deepEqual(
		ends.map(({ status }) => status),
		["fulfilled", "rejected", "fulfilled"],
	);
});

test("pause leaves no lane attached", async () => {
	const hold = createHold();
	const lane = makeLane();
	hold.add(lane);
	const pause = hold.pause();
	await turn();
	lane.idle();
	await pause;
	assert(lane.detached);
	hold.resume();
});

test("pause lasts until resume, and waits its turn", async () => {
	const hold = createHold();
	const end = later();
	const work = hold.exclusive(() => end.promise);
	const pause = hold.pause();
	assert.equal(await stateOf(pause), "pending");
	end.resolve();
	await work;
	await pause;
	assert.equal(hold.closed, true);
	const operation = hold.operate(async () => {});
	const exclusive = hold.exclusive(async () => {});
	assert.equal(await stateOf(operation), "pending");
	assert.equal(await stateOf(exclusive), "pending");
	hold.resume();
	await operation;
	await exclusive;
	assert.equal(hold.closed, false);
});

test("an aborted command no longer waits; what has begun goes on", async () => {
	const hold = createHold();
	await hold.pause();
	const waiting = [
		() => hold.operate(async () => assert.fail()),
		() => hold.exclusive(async () => assert.fail()),
		() => hold.opened(),
	].map((work) => {
		const abortion = new AbortController();
		return { abortion, end: runFor(abortion.signal, async () => work()) };
	});
	for (const { abortion, end } of waiting) {
		assert.equal(await stateOf(end), "pending");
		abortion.abort();
		assert.equal(await stateOf(end), "AbortedError");
	}
	hold.resume();
	await hold.exclusive(async () => {});

	const abortion = new AbortController();
	const io = later();
	const begun = runFor(abortion.signal, () =>
		hold.exclusive(() => hold.operate(() => io.promise)),
	);
	await turn();
	abortion.abort();
	assert.equal(await stateOf(begun), "pending");
	io.resolve();
	await begun;
});

test("work that goes on behind an aborted command is not aborted", async () => {
	const hold = createHold();
	const abortion = new AbortController();
	const go = later();
	let behind: Promise<void> = Promise.resolve();
	await runFor(abortion.signal, async () => {
		behind = go.promise.then(() => hold.operate(async () => {}));
		abortion.abort();
	});
	await hold.pause();
	go.resolve();
	assert.equal(await stateOf(behind), "pending");
	hold.resume();
	await behind;
});

test("detach takes the lanes away; they are released no more by it", async () => {
	const hold = createHold();
	const lane = makeLane();
	hold.add(lane);
	const work = hold.exclusive(async () => hold.detach());
	await turn();
	lane.idle();
	await work;
	assert(lane.detached);
	const again = hold.exclusive(async () => {});
	await again;
});

test("the arena gives each chunk to one at a time, and no more than it may", async () => {
	let made = 0;
	const arena = createArena(() => {
		made++;
		return { address: BigInt(made), view: Buffer.alloc(1) };
	}, 2);
	const inUse = new Set<bigint>();
	const ends = Array.from({ length: 10 }, (_, i) =>
		arena.use(async ({ address }) => {
			assert(!inUse.has(address));
			inUse.add(address);
			await turn();
			inUse.delete(address);
			if (i === 4) throw new RangeError("four");
		}),
	);
	const settled = await Promise.allSettled(ends);
	assert.equal(settled.filter((end) => end.status === "rejected").length, 1);
	assert.equal(made, 2);
});
