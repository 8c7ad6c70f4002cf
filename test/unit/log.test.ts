// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { VhostctlError } from "../../src/engine/errors.ts";
import { bind, LOG_LEVELS, silent } from "../../src/engine/log.ts";
import {
	createLogger,
	type LoggerOptions,
	settingsOf,
} from "../../src/engine/log-control.ts";
import { MAX_LINE } from "../../src/engine/log-format.ts";

function collect(options: LoggerOptions = {}) {
	const lines: string[] = [];
	const write = (line: string) => void lines.push(line);
	return { lines, log: createLogger({ write, ...options }) };
}

test("lines have a time, a level and a text, from the asked level up", () => {
	const { lines, log } = collect({ level: "warning" });
	for (const level of LOG_LEVELS) log[level](`it is ${level}`);
	assert.equal(lines.length, 2);
	assert.match(
		lines[0] ?? "",
		/^\d{4}-\d\d-\d\dT[\d:.]+Z error {3}it is error\n$/,
	);
	assert.match(lines[1] ?? "", /Z warning it is warning\n$/);
});

test("levels, components and timestamps change while it runs", () => {
	const { lines, log } = collect();
	const { settings } = log;
	log.debug("no");
	settings.level = "debug";
	log.debug("yes", { component: "rpc" });
	settings.components.delete("rpc");
	log.debug("no", { component: "rpc" });
	log.debug("of none");
	log.info("not for debugging", { component: "rpc" });
	settings.timestamps = false;
	log.error("without a time");
	const texts = lines.map((line) => line.replace(/^\S+Z /, ""));
	assert.deepEqual(texts, [
		"debug   yes\n",
		"debug   of none\n",
		"info    not for debugging\n",
		"error   without a time\n",
	]);
	assert.match(lines[3] ?? "", /^error/);
	assert.equal(settingsOf(log), settings);
	assert.throws(
		() => settingsOf(silent),
		(error) => error instanceof VhostctlError && error.code === "E_UNSUPPORTED",
	);
});

test("what a line is about comes before its text, always the same way", () => {
	const { lines, log } = collect();
	const about = bind(bind(log, { controller: "vm0", ring: 9 }), { session: 3 });
	about.warning("is broken", { ring: 1 });
	log.info("deleted", { bdev: "disk0" });
	assert.match(
		lines[0] ?? "",
		/ warning controller vm0: connection 3: ring 1: is broken\n$/,
	);
	assert.match(lines[1] ?? "", / info {4}bdev disk0: deleted\n$/);
});

test("for machines a line is an object with members that keep their names", () => {
	const clock = { now: () => 0, later: () => () => {} };
	const { lines, log } = collect({ format: "json", clock });
	log.settings.timestamps = false; // of people's lines
	log.warning("no", {
		controller: "vm0",
		session: 3,
		ring: 0,
		bdev: "disk0",
		component: "vhost",
		kind: "ring-broken",
		code: "E_PROTOCOL",
	});
	assert.deepEqual(JSON.parse(lines[0] ?? ""), {
		time: "1970-01-01T00:00:00.000Z",
		level: "warning",
		msg: "no",
		controller: "vm0",
		session: 3,
		ring: 0,
		bdev: "disk0",
		component: "vhost",
		kind: "ring-broken",
		code: "E_PROTOCOL",
	});
	log.info("nothing else");
	assert.deepEqual(Object.keys(JSON.parse(lines[1] ?? "")), [
		"time",
		"level",
		"msg",
	]);
});

test("control characters do not get through, and who is read is not hidden", () => {
	for (const format of ["text", "json"] as const) {
		const { lines, log } = collect({ format });
		log.info("a\nb\u001b[2Jc\u009bd\u2028e\u202ef\u007fg\ud800h", {
			controller: "v\tm",
		});
		const [line = ""] = lines;
		const seen = format === "json" ? JSON.parse(line) : undefined;
		const text = "a\\nb\\u001b[2Jc\\u009bd\\u2028e\\u202ef\\u007fg\\ud800h";
		if (seen) assert.deepEqual([seen.msg, seen.controller], [text, "v\\tm"]);
		else assert(line.endsWith(`controller v\\tm: ${text}\n`), line);
	}
});

/** Characters that are awkward somewhere. */
const AWKWARD = [
	...'abc "\\{}\n\r\t\0\u001b\u007f\u0085\u009b\u00e4\u2026\u2028\u2029',
	..."\u202a\u202e\u2066\ufeff\uffff",
	"\ud83d",
	"\ude00",
	"\ud83d\ude00",
	"\u{10ffff}",
];

/** Numbers from 0 on, below n, always the same ones. */
function makeRandom(seed: number): (n: number) => number {
	let state = seed;
	return (n) => {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		return Math.floor((state / 2 ** 32) * n);
	};
}

test("whatever a text is made of, it stays one line, bounded, printable and whole", () => {
	const random = makeRandom(5);
	const text = (max: number) =>
		Array.from(
			{ length: random(max) },
			() => AWKWARD[random(AWKWARD.length)],
		).join("");
	const both = [collect({ format: "text" }), collect({ format: "json" })];
	const [forPeople, forMachines] = both.map(({ lines }) => lines);
	for (let i = 0; i < 400; i++) {
		const [msg, controller, bdev] = [text(6000), text(400), text(400)];
		for (const { log } of both) log.error(msg, { controller, bdev });
	}
	for (const line of [...(forPeople ?? []), ...(forMachines ?? [])]) {
		assert(Buffer.byteLength(line) <= MAX_LINE, `${Buffer.byteLength(line)}`);
		assert.match(line, /^[^\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Bidi_Control}]+\n$/u);
		assert.equal(Buffer.from(line).toString(), line);
	}
	for (const line of forMachines ?? []) {
		const { time, level, msg, controller } = JSON.parse(line);
		assert.equal(level, "error");
		assert(!Number.isNaN(Date.parse(time)));
		assert.equal(typeof msg, "string");
		assert(controller.length <= 6 * 256 + 1);
	}
	assert.equal(forMachines?.length, 400);
});

test("a long text is cut, and says so", () => {
	const { lines, log } = collect();
	log.error("x".repeat(100_000));
	log.error("é".repeat(100_000));
	for (const line of lines) {
		assert(Buffer.byteLength(line) > MAX_LINE - 16);
		assert.match(line, /…\n$/);
	}
});
