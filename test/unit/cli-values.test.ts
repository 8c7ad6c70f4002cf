// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseBdevSpec } from "../../src/cli/bdev-kinds.ts";
import {
	parseBlkSpec,
	parseScsiSpecs,
} from "../../src/cli/controller-specs.ts";
import { cpumask } from "../../src/cli/cpus.ts";
import { describe, exitCode, UsageError } from "../../src/cli/errors.ts";
import {
	formatNs,
	formatRate,
	formatSize,
	parseChoice,
	parseCount,
	parseSeconds,
	parseSize,
} from "../../src/cli/size.ts";
import { parseCpumask } from "../../src/engine/cpumask.ts";
import { ERRORS, VhostctlError } from "../../src/engine/errors.ts";

test("sizes are bytes or powers of 1024, and nothing else", () => {
	const good: [string, number][] = [
		["0", 0],
		["512", 512],
		["4K", 4096],
		["4KiB", 4096],
		["4k", 4096],
		["1gib", 2 ** 30],
		["1M", 2 ** 20],
		["10G", 10 * 2 ** 30],
		["2TiB", 2 ** 41],
	];
	for (const [text, bytes] of good) assert.equal(parseSize(text, "x"), bytes);
	const bad = ["", "K", "4KB", "1.5G", "-1", "1e3", "0x10", " 1", "9999999T"];
	for (const text of bad)
		assert.throws(
			() => parseSize(text, "--size"),
			/^VhostctlError: --size is /,
		);
});

test("times, counts and choices say what they want", () => {
	assert.equal(parseSeconds("10", "x"), 10);
	assert.equal(parseSeconds("500ms", "x"), 0.5);
	assert.equal(parseSeconds("2m", "x"), 120);
	for (const text of ["", "0", "1h", "-1", "1.5"])
		assert.throws(
			() => parseSeconds(text, "--time"),
			/--time is .*want a time/,
		);
	assert.equal(parseCount("32", "x", 1, 1024), 32);
	for (const text of ["0", "1025", "1e2", "x", ""])
		assert.throws(
			() => parseCount(text, "--iodepth", 1, 1024),
			/--iodepth is .*from 1 to 1024/,
		);
	assert.equal(parseChoice("poll", "x", ["poll", "interrupt"]), "poll");
	assert.throws(() => parseChoice("pol", "--mode", ["poll"]), UsageError);
});

test("figures are shown with the unit that suits", () => {
	assert.deepEqual([512, 4096, 1536, 2 ** 30].map(formatSize), [
		"512 B",
		"4 KiB",
		"1.5 KiB",
		"1 GiB",
	]);
	assert.deepEqual([850, 12_345, 4_560_000, 1.2e9].map(formatNs), [
		"850 ns",
		"12.3 µs",
		"4.56 ms",
		"1.20 s",
	]);
	assert.deepEqual([950, 48_210, 4_850_000].map(formatRate), [
		"950",
		"48.2k",
		"4.85M",
	]);
});

test("processors are given in SPDK's forms and as a plain list", () => {
	assert.deepEqual(parseCpumask(cpumask("0x3")), [0, 1]);
	assert.deepEqual(parseCpumask(cpumask("[0,2-3]")), [0, 2, 3]);
	assert.deepEqual(parseCpumask(cpumask("0,2-3")), [0, 2, 3]);
	assert.deepEqual(parseCpumask(cpumask("3")), [0, 1]);
	for (const text of ["", "x", "0-", "3-1", "0x", "[", "0x0"])
		assert.throws(() => cpumask(text), VhostctlError);
});

test("a bdev spec becomes the call that makes it", () => {
	assert.deepEqual(parseBdevSpec("malloc:name=d,size=1M,block-size=4K"), {
		method: "bdev_malloc_create",
		params: { name: "d", block_size: 4096, num_blocks: 256 },
	});
	assert.deepEqual(parseBdevSpec("malloc:size=1M,pages=2M,node=0"), {
		method: "bdev_malloc_create",
		params: { block_size: 512, num_blocks: 2048, page_size: "2M", numa_id: 0 },
	});
	assert.deepEqual(parseBdevSpec("null:name=0123,size=1G"), {
		method: "bdev_null_create",
		params: { name: "0123", block_size: 512, num_blocks: 2 ** 21 },
	});
	assert.deepEqual(parseBdevSpec("null:name=n,size=1M,vendor=A,serial=S 1"), {
		method: "bdev_null_create",
		params: {
			name: "n",
			block_size: 512,
			num_blocks: 2048,
			vendor: "A",
			serial: "S 1",
		},
	});
	assert.deepEqual(parseBdevSpec("file:name=d,path=/a=b:c,readonly"), {
		method: "bdev_aio_create",
		params: { name: "d", filename: "/a=b:c", readonly: true },
	});
});

test("a bad bdev spec is refused by what is wrong in it", () => {
	const bad: [string, RegExp][] = [
		["malloc", /want KIND:SETTINGS/],
		["mallok:size=1M", /unknown kind of bdev "mallok"/],
		["malloc:name=d", /a malloc bdev needs size/],
		["malloc:size=1M,path=x", /a malloc bdev has no path/],
		["malloc:size=1M,size=2M", /size is given twice/],
		["malloc:size", /"size" is no setting/],
		[
			"malloc:size=1000",
			/size is "1000": want a multiple of the block size, 512/,
		],
		["malloc:size=0", /want a multiple/],
		["file:name=d,path=x,readonly=no", /but readonly alone/],
		["null:size=1M", /a null bdev needs name/],
		["toString:size=1M", /unknown kind/],
	];
	for (const [spec, message] of bad)
		assert.throws(() => parseBdevSpec(spec), message, spec);
});

test("a controller spec becomes the call that makes it", () => {
	const method = "vhost_create_blk_controller";
	assert.deepEqual(parseBlkSpec("vm0=disk0"), {
		method,
		params: { ctrlr: "vm0", dev_name: "disk0" },
	});
	assert.deepEqual(parseBlkSpec("vm0=disk0,cpumask=[0,2-3],readonly"), {
		method,
		params: {
			ctrlr: "vm0",
			dev_name: "disk0",
			cpumask: "[0,2-3]",
			readonly: true,
		},
	});
	for (const spec of ["vm0", "=disk0", "vm0=", "vm0=d,x=1", "vm0=d,cpumask=x"])
		assert.throws(() => parseBlkSpec(spec), VhostctlError, spec);
});

test("scsi specs become the calls that make controllers and add to them", () => {
	const create = "vhost_create_scsi_controller";
	const add = "vhost_scsi_controller_add_target";
	const specs = [
		"vm0,cpumask=[0,2]",
		"vm0=disk0",
		"vm1=disk1,target=3,lun=1,cpumask=0x1",
		"vm0=disk2,target=255",
	];
	assert.deepEqual(parseScsiSpecs(specs), [
		{ method: create, params: { ctrlr: "vm0", cpumask: "[0,2]" } },
		{
			method: add,
			params: { ctrlr: "vm0", bdev_name: "disk0", scsi_target_num: -1 },
		},
		{ method: create, params: { ctrlr: "vm1", cpumask: "0x1" } },
		{
			method: add,
			params: { ctrlr: "vm1", bdev_name: "disk1", scsi_target_num: 3, lun: 1 },
		},
		{
			method: add,
			params: { ctrlr: "vm0", bdev_name: "disk2", scsi_target_num: 255 },
		},
	]);
	const bad: [string[], RegExp][] = [
		[["=disk0"], /--scsi is "=disk0": want NAME=BDEV/],
		[["vm0="], /want NAME=BDEV/],
		[["vm0=d,target=256"], /--scsi vm0=d,target=256: target is "256": want/],
		[["vm0=d,lun=-1"], /lun is "-1"/],
		[["vm0,target=1"], /target goes with a bdev/],
		[["vm0=d,readonly"], /unknown setting readonly/],
		[["vm0", "vm0=d,cpumask=1"], /cpumask goes with the first --scsi of vm0/],
	];
	for (const [texts, message] of bad)
		assert.throws(() => parseScsiSpecs(texts), message, texts.join(" "));
});

test("errors are one line, with the nearest word after a misspelling", async () => {
	const known = ["--size", "--socket"];
	assert.equal(
		await describe(
			new UsageError("unknown option --sise", { given: "--sise", known }),
		),
		"vhostctl: unknown option --sise; did you mean --size?",
	);
	assert.equal(
		await describe(
			new UsageError("unknown option --x", { given: "--x", known }),
		),
		"vhostctl: unknown option --x; there is --size, --socket",
	);
	assert.equal(
		await describe(new VhostctlError("E_NOT_FOUND", "no bdev d")),
		"vhostctl: no bdev d",
	);
	assert.match(
		await describe(new TypeError("x")),
		/^vhostctl: internal error: /,
	);
});

test("exit codes come from the table of errors", () => {
	assert.equal(exitCode(new UsageError("x")), 2);
	assert.equal(
		exitCode(new VhostctlError("E_VERIFY", "x")),
		ERRORS.E_VERIFY.exit,
	);
	assert.equal(exitCode(new TypeError("x")), 1);
});
