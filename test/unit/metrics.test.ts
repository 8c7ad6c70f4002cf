// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { VhostctlError } from "../../src/engine/errors.ts";
import { parseMetricsAddress } from "../../src/engine/metrics/address.ts";
import {
	BOUNDS_NS,
	expose,
	type Family,
} from "../../src/engine/metrics/exposition.ts";
import { distribution } from "../../src/engine/metrics/families.ts";
import { bucketHigh, bucketLow } from "../../src/engine/stats.ts";
import { HIST_BUCKETS } from "../../src/ffi/layout.ts";

test("addresses are hosts with ports, ports of this host, or paths", () => {
	for (const [text, expected] of [
		["127.0.0.1:9100", { host: "127.0.0.1", port: 9100 }],
		["metrics.example:80", { host: "metrics.example", port: 80 }],
		["0.0.0.0:0", { host: "0.0.0.0", port: 0 }],
		["[::1]:9100", { host: "::1", port: 9100 }],
		["[::ffff:10.0.0.1]:9100", { host: "::ffff:10.0.0.1", port: 9100 }],
		[":9100", { host: "127.0.0.1", port: 9100 }],
		["./metrics.sock", { path: "./metrics.sock" }],
		["/run/m:80", { path: "/run/m:80" }],
	] as const) {
		assert.deepEqual(parseMetricsAddress(text), expected);
	}
	for (const bad of [
		"",
		"9100",
		"host",
		"host:",
		"host:65536",
		"::1:9100",
		"[::1]",
		"[host]:1",
		"a b:1",
		"host:-1",
	]) {
		assert.throws(
			() => parseMetricsAddress(bad),
			(error) =>
				error instanceof VhostctlError &&
				error.code === "E_INVALID" &&
				error.message.includes(JSON.stringify(bad)),
			bad,
		);
	}
});

function histogramOf(values: readonly number[]): Float64Array {
	const hist = new Float64Array(HIST_BUCKETS);
	for (const value of values) {
		const i = hist.findIndex(
			(_, n) => bucketLow(n) <= value && value <= bucketHigh(n),
		);
		hist[i] = (hist[i] ?? 0) + 1;
	}
	return hist;
}

test("a distribution counts a latency below a bound from one bucket above it at the latest", () => {
	const values = [0, 1, 999, 1000, 1500, 50_000, 2e6, 9e9, 1e10, 5e11];
	const { cumulative, count } = distribution(
		{},
		{
			count: values.length,
			bytes: 0,
			errors: 0,
			latencyNs: 0,
			hist: histogramOf(values),
		},
	);
	assert.equal(count, values.length);
	assert.equal(cumulative.length, BOUNDS_NS.length);
	for (const [i, bound] of BOUNDS_NS.entries()) {
		const most = values.filter((value) => value <= bound).length;
		const least = values.filter((value) => value * (1 + 1 / 32) < bound).length;
		const counted = cumulative[i] ?? -1;
		assert(
			least <= counted && counted <= most,
			`${bound}: ${least} ${counted} ${most}`,
		);
	}
});

test("names that want escaping are text that promtool reads", () => {
	const families: Family[] = [
		{
			name: "a_total",
			type: "counter",
			help: 'Back\\slash, "quote" and\nnew line.',
			samples: [
				{ labels: { bdev: 'q"\\\n', op: "é" }, value: 1 },
				{ labels: { bdev: "", op: "x" }, value: 1e300 },
			],
		},
		{ name: "b", type: "gauge", help: "None.", samples: [] },
		{
			name: "c_seconds",
			type: "histogram",
			help: "Times.",
			samples: [
				distribution(
					{ op: "read" },
					{
						count: 1,
						bytes: 0,
						errors: 0,
						latencyNs: 1500,
						hist: histogramOf([1500]),
					},
				),
			],
		},
	];
	const text = expose(families);
	assert(text.includes('a_total{bdev="q\\"\\\\\\n",op="é"} 1\n'), text);
	assert(
		text.includes('# HELP a_total Back\\\\slash, "quote" and\\nnew line.\n'),
	);
	assert(!/^# .* b /m.test(text), "a family without samples is not spoken of");
	assert(text.includes('c_seconds_bucket{op="read",le="0.000001"} 0\n'), text);
	assert(text.includes('c_seconds_bucket{op="read",le="0.000002"} 1\n'), text);
	assert(text.includes('c_seconds_bucket{op="read",le="+Inf"} 1\n'), text);
	const { status, stderr } = spawnSync("promtool", ["check", "metrics"], {
		input: text,
		encoding: "utf8",
	});
	assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
});
