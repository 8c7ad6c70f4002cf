// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { sparkline } from "../../src/cli/sparkline.ts";
import { History, LENGTH } from "../../src/cli/stats-history.ts";
import {
	activity,
	type Operation,
	type Operations,
	type Snapshot,
	sinceLast,
} from "../../src/cli/stats-interval.ts";
import { report } from "../../src/cli/stats-report.ts";
import { curvesOf, rowsOf } from "../../src/cli/stats-rows.ts";
import { render, SORTS, type View } from "../../src/cli/stats-view.ts";

test("curves show the newest last, and the greatest of what shares a character", () => {
	assert.equal(sparkline([0, 7], 2, 2), "▁█");
	assert.equal(sparkline([1], 4, 4), "   █");
	assert.equal(sparkline([], 3, 60), "   ");
	assert.equal(sparkline([0, 0, 0], 3, 3), "▁▁▁");
	assert.equal(sparkline([0.5], 1, 1, 1), "▅");
	const minute = Array.from({ length: 60 }, (_, i) => (i === 30 ? 7 : 0));
	const short = sparkline(minute, 10, 60);
	assert.equal([...short].length, 10);
	assert.equal([...short].filter((c) => c === "█").length, 1);
	// A peak is never lost, whatever its age.
	for (let age = 0; age < 60; age++) {
		const peak = Array.from({ length: 60 }, (_, i) => (i === 59 - age ? 1 : 0));
		assert.match(sparkline(peak, 7, 60), /█/, `${age} s ago`);
	}
});

function operation(histogram: number[][]): Operation {
	const count = histogram.reduce((sum, [, n = 0]) => sum + n, 0);
	return {
		count,
		errors: 0,
		bytes: 4096 * count,
		latency_ns: histogram.reduce((sum, [ns = 0, n = 0]) => sum + ns * n, 0),
		p50_ns: 1,
		p99_ns: 1,
		p999_ns: 1,
		histogram,
	};
}

test("percentiles, rates and depth are of the interval", () => {
	const before = operation([
		[100, 1000],
		[500, 5],
	]);
	const now = operation([
		[100, 1000],
		[500, 95],
		[9000, 10],
	]);
	const what = activity([now], [before], 0.001);
	assert.equal(what.iops, 100_000);
	assert.equal(what.p50Ns, 500);
	assert.equal(what.p99Ns, 9000);
	assert.equal(what.meanNs, (90 * 500 + 10 * 9000) / 100);
	assert.equal(what.depth, (90 * 500 + 10 * 9000) / 1e6);
	assert.equal(what.throughput, 100 * 4096 * 1000);
	const idle = activity([now], [now], 1);
	assert.deepEqual(
		[idle.iops, idle.p50Ns, idle.meanNs, idle.depth],
		[0, 0, 0, 0],
	);
	// Begun anew in between.
	assert.equal(activity([before], [now], 1).iops, 0);
});

function operations(read: Operation): Operations {
	const none = operation([]);
	return {
		read,
		write: none,
		flush: none,
		unmap: none,
		write_zeroes: none,
		other: none,
	};
}

/** An instance with so many disks; each did `count` times its number of reads of 1 µs. */
function snapshot(
	disks: number,
	uptime: number,
	count: number,
	delayed = 0,
): Snapshot {
	const numbers = Array.from({ length: disks }, (_, i) => i);
	const ops = (i: number) => operations(operation([[1023, count * (i + 1)]]));
	return {
		uptime_ns: uptime,
		reactors: [
			{
				id: 0,
				cpu: 5,
				mode: "adaptive",
				tid: 1,
				busy_ns: uptime / 4,
				idle_ns: (uptime * 3) / 4,
				sleep_ns: uptime / 2,
				loops: 1,
				wakeups: 1,
				rings: disks,
				polled: 0,
			},
		],
		bdevs: numbers.map((i) => ({ name: `disk${i}`, ops: ops(i) })),
		controllers: numbers.map((i) => ({
			ctrlr: `a-machine-with-a-rather-long-name-${i}`,
			kind: "blk",
			started: true,
			bdev: `disk${i}`,
			luns: [],
			sessions: [
				{
					id: i,
					rings: [
						{
							index: 0,
							size: 128,
							running: true,
							broken: false,
							reactor: 0,
							kicks: count,
							kicks_suppressed: 0,
							calls: count,
							calls_suppressed: 0,
							calls_delayed: delayed,
							batches: count,
							busy_ns: 0,
							inflight: 0,
							malformed: 0,
							ops: ops(i),
						},
					],
				},
			],
		})),
	};
}

function view(sort: View["sort"], reversed = false): View {
	return { sort, reversed, scroll: 0, help: false };
}

test("a screen has as many lines as the terminal and none that is too long, whatever its size", () => {
	const rows = rowsOf(snapshot(30, 2e9, 2), snapshot(30, 1e9, 1));
	const history = new History();
	for (let i = 0; i < LENGTH + 5; i++) history.add(curvesOf(rows));
	for (const columns of [80, 81, 132, 300, 40, 1])
		for (const height of [24, 1, 2, 3, 10, 200]) {
			const lines = render(rows, view("IOPS"), history, {
				columns,
				rows: height,
			});
			assert.equal(lines.length, height, `${columns} by ${height}`);
			for (const line of lines) {
				const text = stripVTControlCharacters(line);
				assert([...text].length <= columns, `${columns}: ${text}`);
			}
		}
});

test("calls that were put off have a column where there are any, in 80 columns too", async () => {
	const size = { columns: 80, rows: undefined };
	const lines = (before: Snapshot, now: Snapshot) =>
		render(rowsOf(now, before), view("name"), new History(), size).map(
			stripVTControlCharacters,
		);
	const none = lines(snapshot(2, 1e9, 1), snapshot(2, 2e9, 2));
	assert.doesNotMatch(none.join("\n"), /LATE/);
	const some = lines(snapshot(2, 1e9, 1, 10), snapshot(2, 2e9, 2, 52));
	const head = some.findIndex((line) => /CALL\/s LATE\/s$/.test(line));
	assert(head > 0, some.join("\n"));
	for (const ring of [1, 2]) assert.match(some[head + ring] ?? "", / 42( |$)/);
	assert(Math.max(...some.map((line) => [...line].length)) <= 80);

	const table = async (now: Snapshot) =>
		stripVTControlCharacters(await report(now)).split("\n");
	assert.doesNotMatch((await table(snapshot(2, 1e9, 1))).join("\n"), /late/);
	const rows = await table(snapshot(2, 1e9, 1, 52));
	const at = rows.findIndex((line) => /calls +late +in flight/.test(line));
	assert.match(rows[at + 1] ?? "", /1 +52 +0$/);
});

/** Names in the order of the screen. */
function names(sort: View["sort"], reversed = false): string[] {
	const rows = rowsOf(snapshot(11, 2e9, 2), snapshot(11, 1e9, 1));
	const size = { columns: 80, rows: undefined };
	const lines = render(rows, view(sort, reversed), new History(), size);
	return lines
		.map((line) => /^disk\d+/.exec(line)?.[0])
		.filter((name) => name !== undefined);
}

test("rows are sorted: the greatest first, names by their numbers", () => {
	const up = Array.from({ length: 11 }, (_, i) => `disk${i}`);
	const down = up.toReversed();
	assert.deepEqual(names("name"), up);
	assert.deepEqual(names("name", true), down);
	for (const sort of ["IOPS", "throughput", "depth"] as const) {
		assert.deepEqual(names(sort), down, sort);
		assert.deepEqual(names(sort, true), up, sort);
	}
	// All took the same: by name then.
	assert.deepEqual(names("latency"), up);
	assert.equal(SORTS.length, 5);
});

test("scrolling ends with the last line", () => {
	const rows = rowsOf(snapshot(30, 2e9, 2), snapshot(30, 1e9, 1));
	const far = { ...view("name"), scroll: 10_000 };
	const size = { columns: 80, rows: 24 };
	const lines = render(rows, far, new History(), size);
	assert(far.scroll < 200);
	assert.match(lines.at(-2) ?? "", /^ {2}0 /);
	const top = render(rows, view("name"), new History(), size);
	assert.match(top.at(-1) ?? "", /\d+ more below/);
});

test("a line of JSON has the percentiles of its interval, and counters from the start", () => {
	const before = snapshot(2, 1e9, 1);
	const now = snapshot(2, 2e9, 3);
	const [disk] = sinceLast(now, before).bdevs;
	assert.equal(disk?.ops.read.count, 3);
	assert.equal(disk?.ops.read.p99_ns, 1023);
	assert(disk && !("histogram" in disk.ops.read));
	const [first] = sinceLast(now, undefined).bdevs;
	assert.equal(first?.ops.read.p99_ns, 1, "from the start, as it was told");
	const [still] = sinceLast(now, now).bdevs;
	assert.equal(still?.ops.read.p99_ns, 0);
});
