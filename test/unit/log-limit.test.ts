// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "../../src/engine/log-control.ts";
import {
	type Clock,
	FIRST_HOLD_MS,
	LAST_HOLD_MS,
} from "../../src/engine/log-limit.ts";

/** Time that passes when it is told to. */
function fakeClock() {
	let now = 0;
	const due = new Map<object, { at: number; then: () => void }>();
	const clock: Clock = {
		now: () => now,
		later(ms, then) {
			const key = {};
			due.set(key, { at: now + ms, then });
			return () => void due.delete(key);
		},
	};
	const pass = (ms: number): void => {
		const end = now + ms;
		for (;;) {
			const next = [...due].sort(([, a], [, b]) => a.at - b.at)[0];
			if (!next || next[1].at > end) break;
			due.delete(next[0]);
			now = next[1].at;
			next[1].then();
		}
		now = end;
	};
	return { clock, pass, waiting: () => due.size };
}

interface Line {
	time: string;
	msg: string;
	controller?: string;
	repeated?: number;
}

function rig() {
	const time = fakeClock();
	const lines: Line[] = [];
	const write = (line: string) => void lines.push(JSON.parse(line));
	const { clock } = time;
	const log = createLogger({ format: "json", level: "debug", write, clock });
	return { ...time, lines, log };
}

/** How often it happened, as the lines tell. */
function total(lines: readonly Line[]): number {
	return lines.reduce((sum, { repeated = 0 }) => sum + 1 + repeated, 0);
}

test("the first is said at once, the others are counted and the last of them is said later", () => {
	const { log, lines, pass, waiting } = rig();
	for (let i = 0; i < 1000; i++) log.warning(`no ${i}`, { kind: "mistake" });
	assert.deepEqual(
		lines.map(({ msg }) => msg),
		["no 0"],
	);
	pass(FIRST_HOLD_MS);
	assert.deepEqual(
		lines.map(({ msg, repeated }) => [msg, repeated]),
		[
			["no 0", undefined],
			["no 999", 998],
		],
	);
	assert.equal(total(lines), 1000);
	// Nothing more comes: it is forgotten, and the next one is a first one again.
	pass(3 * FIRST_HOLD_MS);
	assert.equal(waiting(), 0);
	log.warning("again", { kind: "mistake" });
	assert.equal(lines.at(-1)?.msg, "again");
});

test("what goes on and on is said less and less often, and never forgotten", () => {
	const { log, lines, pass } = rig();
	const seconds = 3600;
	for (let i = 0; i < seconds; i++) {
		for (let n = 0; n < 10; n++) log.warning("no", { kind: "mistake" });
		pass(1000);
	}
	assert(lines.length < (seconds * 1000) / LAST_HOLD_MS + 10);
	log.flush();
	assert.equal(total(lines), 10 * seconds);
	const times = lines.map(({ time }) => Date.parse(time));
	for (const [i, at] of times.entries())
		assert(i === 0 || at >= (times[i - 1] ?? 0));
});

test("a single one that was held back is not called repeated", () => {
	const { log, lines, pass } = rig();
	log.warning("one", { kind: "mistake" });
	log.warning("two", { kind: "mistake" });
	pass(FIRST_HOLD_MS);
	assert.deepEqual(
		lines.map(({ msg, repeated }) => [msg, repeated]),
		[
			["one", undefined],
			["two", undefined],
		],
	);
});

test("kinds, controllers and levels are counted apart; lines without a kind never", () => {
	const { log, lines } = rig();
	for (let i = 0; i < 5; i++) {
		log.warning("a", { kind: "one", controller: "vm0" });
		log.warning("b", { kind: "one", controller: "vm1" });
		log.warning("c", { kind: "two", controller: "vm0", session: i, ring: i });
		log.error("d", { kind: "one", controller: "vm0" });
		log.warning("e", { controller: "vm0" });
	}
	assert.equal(lines.map(({ msg }) => msg).join(""), "abcdeeeee");
});

test("what merely happens may happen a few times before it is held back", () => {
	const { log, lines } = rig();
	for (let i = 0; i < 100; i++) log.info("connected", { kind: "connected" });
	assert.equal(lines.length, 10);
	log.flush();
	assert.equal(total(lines), 100);
});

test("the table of kinds does not grow without end, and loses no count", () => {
	const { log, lines, pass, waiting } = rig();
	const names = 5000;
	for (let i = 0; i < names; i++)
		log.warning("no", { kind: "mistake", controller: `vm${i}` });
	assert(waiting() <= 1025);
	assert(lines.length <= 1025);
	log.flush();
	assert.equal(total(lines), names);
	assert.equal(waiting(), 0);
	pass(LAST_HOLD_MS);
	assert.equal(total(lines), names);
});
