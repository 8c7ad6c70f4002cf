// SPDX-License-Identifier: MIT
// Traces end to end: what a driver of ours asked is what they show, as records, table and file.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, test } from "node:test";
import * as v from "valibot";
import { chromeTrace } from "../../src/cli/trace-chrome.ts";
import { report, type Trace } from "../../src/cli/trace-report.ts";
import { describeEngine } from "../../src/engine/control/describe.ts";
import { callMethod } from "../../src/engine/control/methods.ts";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import { request, T_FLUSH, T_GET_ID, T_IN, T_OUT } from "../support/disk-io.ts";
import { fails, startTestEngine, type TestEngine } from "../support/engine.ts";
import { waitUntil } from "../support/processes.ts";
import {
	pattern,
	read,
	TEST_UNIT_READY,
	write,
} from "../support/scsi-bench.ts";
import { connectScsiGuest, type ScsiGuest } from "../support/scsi-guest.ts";

const MIB = 1024 * 1024;
const BLOCKS = 2048;

let t: TestEngine;
let runtime: Runtime;
let frontend: Frontend;

const connect = () =>
	connectFrontend(runtime, t.engine.socketPath("vm0"), {
		queues: 1,
		queueSize: 128,
		memoryBytes: 4 * MIB,
		mode: "interrupt",
	});

beforeEach(async () => {
	t = await startTestEngine({});
	runtime = createRuntime();
	const disk = { name: "disk", blockSize: 512, numBlocks: BLOCKS };
	await t.engine.bdevs.createMalloc(disk);
	await t.engine.createBlkController({ name: "vm0", bdev: "disk" });
	frontend = await connect();
});
afterEach(async () => {
	await frontend.close();
	await runtime.close();
	await t.close();
});

const context = () => ({ engine: t.engine, kill: () => {} });
const setTrace = (size: number, ctrlr = "vm0") =>
	callMethod(context(), "vhostctl_set_trace", { ctrlr, size });
const getTrace = (
	more: { ctrlr?: string; last?: number; ring?: number } = {},
): Promise<Trace> =>
	callMethod(context(), "vhostctl_get_trace", { ctrlr: "vm0", ...more });

async function ask(): Promise<void> {
	await request(frontend, T_OUT, 8, Buffer.alloc(4096, 7));
	await request(frontend, T_IN, 8, 4096);
	await request(frontend, T_FLUSH, 0);
	await request(frontend, T_IN, BLOCKS, 512);
	await request(frontend, T_GET_ID, 0, 20);
}

test("what a driver asked is what a trace shows, failures included, in the order of its steps", async () => {
	assert.deepEqual((await getTrace()).rings, []);
	await setTrace(10);
	await ask();
	const { size, kind, rings } = await getTrace();
	assert.deepEqual([size, kind, rings.length], [64, "blk", 1]);
	const { requests = [], now_ns = 0 } = rings[0] ?? {};
	assert.deepEqual(
		requests.map(({ op, offset, length, result }) => [
			op,
			offset,
			length,
			result,
		]),
		[
			["write", 4096, 4096, "ok"],
			["read", 4096, 4096, "ok"],
			["flush", 0, 0, "ok"],
			["read", BLOCKS * 512, 512, "EIO"],
			["other", 0, 0, "ok"],
		],
	);
	for (const [i, one] of requests.entries()) {
		assert.equal(one.number, i);
		const { kicked_ns, taken_ns, submitted_ns } = one;
		assert.equal(submitted_ns === null, i >= 3, "reached the bdev");
		const steps = [
			kicked_ns ?? taken_ns,
			taken_ns,
			submitted_ns ?? taken_ns,
			one.completed_ns ?? 0,
			one.published_ns ?? 0,
			one.called_ns ?? one.published_ns ?? 0,
			requests[i + 1]?.taken_ns ?? now_ns,
		];
		assert.deepEqual(
			steps.toSorted((a, b) => a - b),
			steps,
		);
	}
	const last = await getTrace({ last: 2 });
	assert.deepEqual(
		last.rings[0]?.requests.map(({ number }) => number),
		[3, 4],
	);
	assert.deepEqual((await getTrace({ ring: 7 })).rings, []);
});

test("it is switched on and off while rings run, and described", async () => {
	const described = () =>
		describeEngine(t.engine).filter(
			({ method }) => method === "vhostctl_set_trace",
		);
	await ask();
	assert.deepEqual(described(), []);
	await setTrace(100);
	assert.deepEqual(described()[0]?.params, { ctrlr: "vm0", size: 128 });
	for (let i = 0; i < 130; i++) await request(frontend, T_IN, i, 512);
	const [ring] = (await getTrace()).rings;
	assert.equal(ring?.requests.length, 128);
	assert.equal(ring?.requests[0]?.offset, 2 * 512);
	await setTrace(0);
	await ask();
	assert.deepEqual(await getTrace(), {
		ctrlr: "vm0",
		kind: "blk",
		size: 0,
		rings: [],
	});
	await fails(
		callMethod(context(), "vhostctl_set_trace", { ctrlr: "no", size: 1 }),
		"E_NOT_FOUND",
		/no controller no/,
	);
});

/** Who asked, whether that one is gone, and where. */
async function told(): Promise<[number, boolean, number[]][]> {
	const { rings } = await getTrace();
	return rings.map(({ session, ended, requests }) => [
		session,
		ended !== null,
		requests.map(({ offset }) => offset / 512),
	]);
}

async function reconnect(): Promise<void> {
	await frontend.close();
	const gone = () => t.engine.controllers()[0]?.sessions.length === 0;
	await waitUntil(gone, 10_000, () => "the front end has gone");
	frontend = await connect();
}

test("what a front end asked can be read when it has gone, and the next one is recorded too", async () => {
	const before = Date.now();
	await setTrace(64);
	await request(frontend, T_IN, 1, 512);
	await request(frontend, T_IN, 2, 512);
	const [first] = await told();
	assert(first);
	const [id] = first;
	assert.deepEqual(first, [id, false, [1, 2]]);
	await reconnect();
	const [ring] = (await getTrace()).rings;
	assert(ring?.ended && ring.ended >= before && ring.ended <= Date.now());
	assert.match(await report(await getTrace()), /front end \d+, which is gone/);
	await request(frontend, T_IN, 3, 512);
	const second = (await told()).at(-1)?.[0] ?? 0;
	assert.deepEqual(await told(), [
		[id, true, [1, 2]],
		[second, false, [3]],
	]);
	assert.deepEqual((await getTrace({ last: 1 })).rings[0]?.requests.length, 1);

	await reconnect(); // the second drives the first out
	await reconnect(); // the third asked for nothing
	assert.deepEqual(
		(await told()).filter(([, ended]) => ended),
		[[second, true, [3]]],
	);
	await setTrace(64);
	assert.deepEqual(
		(await told()).filter(([, ended]) => ended),
		[],
	);
});

const AT = { target: 1, lun: 2 };
const ORDERED = 1;

/** One for each way that a command goes. */
async function askScsi(guest: ScsiGuest): Promise<void> {
	await guest.send({ ...AT, cdb: [0x12, 0, 0, 0, 36, 0], room: 36, tag: 17n });
	await guest.send(write(8, pattern(4096, 1), AT));
	await guest.send(read(8, 8, { ...AT, attribute: ORDERED }));
	await guest.send(read(BLOCKS, 1, AT));
	await guest.send({ target: 9, cdb: TEST_UNIT_READY });
}

test("over SCSI: what the command set answers, what it hands back, and what fails", async () => {
	const disk = { name: "unit", blockSize: 512, numBlocks: BLOCKS };
	await t.engine.bdevs.createMalloc(disk);
	await t.engine.createScsiController({ name: "vm1" });
	await t.engine.addScsiLun({ name: "vm1", bdev: "unit", ...AT });
	const path = t.engine.socketPath("vm1");
	const guest = await connectScsiGuest(runtime, path);
	try {
		await guest.insist({ ...AT, cdb: TEST_UNIT_READY });
		await setTrace(64, "vm1");
		await askScsi(guest);
		const trace = await getTrace({ ctrlr: "vm1", ring: 2 });
		const requests = trace.rings[0]?.requests ?? [];
		assert.deepEqual(
			requests.map(({ op, offset, length, up, submitted_ns, scsi }) => [
				...[op, offset, length, up, submitted_ns !== null],
				...[scsi?.opcode, scsi?.status, scsi?.sense_key, scsi?.asc],
			]),
			[
				["other", 0, 36, true, false, 0x12, 0, 0, 0],
				["write", 4096, 4096, false, true, null, 0, 0, 0],
				["read", 4096, 4096, true, true, 0x28, 0, 0, 0],
				["other", 0, 512, true, false, 0x28, 2, 5, 0x21],
				["other", 0, 0, true, false, 0, 0, 0, 0],
			],
		);
		assert.equal(requests[0]?.scsi?.tag, "0x11");
		assert.equal(requests[4]?.scsi?.response, 3, "BAD_TARGET");
		const [, , ...lines] = (await report(trace)).split("\n");
		assert.match(lines[0] ?? "", / 1:2 +0x12 +- +36 +ok /);
		assert.match(lines[3] ?? "", / 1:2 +0x28 +- +512 +05\/21\/00 /);
		assert.match(lines[4] ?? "", / 9:0 +0x00 +- +- +response 3 /);
		for (const line of lines) assert(line.length <= 80, line);
		const { traceEvents } = await chromeTrace(trace);
		const names = traceEvents.map(({ name }) => name);
		assert(names.includes("INQUIRY") && names.includes("read 4096"));
	} finally {
		await guest.close();
	}
});

/** The Trace Event Format: complete and metadata events in the object form. */
const time = v.pipe(v.number(), v.minValue(0));
const id = v.pipe(v.number(), v.integer());
const FORMAT = v.looseObject({
	displayTimeUnit: v.picklist(["ms", "ns"]),
	traceEvents: v.array(
		v.variant("ph", [
			v.strictObject({
				ph: v.literal("X"),
				name: v.string(),
				cat: v.string(),
				pid: id,
				tid: id,
				ts: time,
				dur: time,
				args: v.optional(v.record(v.string(), v.unknown())),
			}),
			v.strictObject({
				ph: v.literal("M"),
				name: v.string(),
				pid: id,
				tid: id,
				args: v.record(v.string(), v.union([v.string(), v.number()])),
			}),
		]),
	),
});

test("the table fits 80 columns; the file has slices that nest, for requests that overlap too", async () => {
	await setTrace(64);
	await ask();
	const trace = await getTrace();
	const lines = (await report(trace)).split("\n");
	assert.equal(lines.length, 2 + 5);
	assert.match(lines[5] ?? "", /read +1048576 +512 +EIO/);
	for (const line of lines.slice(1)) assert(line.length <= 80, line);
	// The same again, as if it had been asked meanwhile.
	const [ring] = trace.rings;
	assert(ring);
	const twice = [...ring.requests, ...ring.requests];
	const rings = [{ ...ring, requests: twice }];
	const file = JSON.parse(
		JSON.stringify(await chromeTrace({ ...trace, rings })),
	);
	const { traceEvents } = v.parse(FORMAT, file);
	const slices = traceEvents.filter((one) => one.ph === "X");
	assert.equal(slices.filter(({ cat }) => cat === "request").length, 10);
	const ns = (us: number) => Math.round(us * 1000);
	for (const a of slices)
		for (const b of slices) {
			if (a === b || a.tid !== b.tid) continue;
			const [from, to] = [ns(a.ts), ns(a.ts + a.dur)];
			const [first, last] = [ns(b.ts), ns(b.ts + b.dur)];
			const apart = to <= first || last <= from;
			const inside =
				(from >= first && to <= last) || (first >= from && last <= to);
			assert(apart || inside, JSON.stringify([a, b]));
		}
});
