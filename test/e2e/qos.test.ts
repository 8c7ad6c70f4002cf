// SPDX-License-Identifier: MIT
// Limits under loads of our own. What must not be exceeded is exact; that as much is done as may
// be is left room for a busy machine (make bench measures it).
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { answer, attachedTo, failure } from "../support/cli.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import { startProcess, waitUntil, within } from "../support/processes.ts";

const PATIENCE_MS = 30_000;
const MIB = 1024 * 1024;

let instance: Instance;
let cli: ReturnType<typeof attachedTo>;
before(async () => {
	instance = await startInstance([
		...["--cpumask", "0x1", "--bdev", "null:name=null,size=1G"],
		...["--bdev", "malloc:name=ram,size=16M"],
		...["--blk", "null=null,readonly", "--blk", "twin=null,readonly"],
		...["--blk", "ram=ram", "--scsi", "scsi"],
	]);
	cli = attachedTo(instance);
});
after(() => instance.stop());

interface Direction {
	total_ios: number;
	io_bytes: number;
	runtime: number;
}

interface Report {
	jobs: [{ error: number; read: Direction; write: Direction }];
}

/** What a load did: requests, bytes, and in how many seconds. */
async function perf(controller: string, ...args: string[]) {
	const load = ["perf", "--socket", instance.socket(controller), ...args];
	const { jobs } = JSON.parse(await answer(...load, "--json")) as Report;
	const [{ error, read, write }] = jobs;
	assert.equal(error, 0);
	return {
		ios: read.total_ios + write.total_ios,
		bytes: read.io_bytes + write.io_bytes,
		seconds: Math.max(read.runtime, write.runtime) / 1000,
	};
}

/** Not more than a limit allows, nor next to nothing. The runtime is in whole milliseconds. */
function keeps(done: number, limit: number, seconds: number, one = 1): void {
	const most = limit * (seconds + 0.012) + one;
	assert(done <= most, `${done} of ${limit} in ${seconds} s`);
	assert(done >= limit * seconds * 0.15, `${done} of ${limit} in ${seconds} s`);
}

const RANDREAD = ["--rw", "randread", "--iodepth", "32", "--time", "1"];

test("requests are limited, to what is set while they run", async () => {
	await cli("bdev", "qos", "null", "--iops", "5000");
	const first = await perf("null", ...RANDREAD);
	keeps(first.ios, 5000, first.seconds);
	const running = perf("null", "--rw", "randread", "--time", "1");
	await cli("bdev", "qos", "null", "--iops", "2000");
	const second = await running;
	assert(second.ios <= 5000 * (second.seconds + 0.012) + 1);
	await cli("bdev", "qos", "null", "--iops", "none");
	const free = await perf("null", ...RANDREAD);
	assert(free.ios > 10_000, `${free.ios}`);
});

test("bytes are limited by direction", async () => {
	await cli("bdev", "qos", "ram", "--write-bandwidth", "20M");
	const write = ["--rw", "randwrite", "--bs", "16K", "--time", "1"];
	const { bytes, seconds } = await perf("ram", ...write);
	keeps(bytes, 20 * MIB, seconds, 16384);
	const read = await perf("ram", "--rw", "randread", "--time", "1");
	assert(read.ios > 10_000, `${read.ios}`);
	await cli("bdev", "qos", "ram", "--write-bandwidth", "0");
});

test("controllers that share a bdev share its limit, whatever they ask for", async () => {
	await cli("bdev", "qos", "null", "--iops", "2000");
	const read = ["--rw", "randread", "--time", "2", "--mode", "interrupt"];
	const [many, one] = await Promise.all([
		perf("null", ...read, "--iodepth", "64", "--queues", "1"),
		perf("twin", ...read, "--iodepth", "1"),
	]);
	const all = many.ios + one.ios;
	const seconds = 2 * Math.max(many.seconds, one.seconds);
	assert(all <= 2000 * seconds, `${all} in ${seconds} s`);
	// Half each, but for when only one of them had begun.
	assert(one.ios > many.ios * 0.25, `${one.ios} beside ${many.ios}`);
	await cli("bdev", "qos", "null", "--iops", "0");
});

test("nothing of a limit is in the way of stopping, resizing and deleting", async () => {
	await instance.rpc("bdev_null_create", {
		...{ name: "slow", block_size: 512, num_blocks: 65536 },
	});
	await cli("bdev", "qos", "slow", "--iops", "1");
	const create = ["--bdev", "slow", "--target", "3"];
	await cli("scsi", "add-target", "scsi", ...create);
	const [command, args] = vhostctl(
		...["perf", "--socket", instance.socket("scsi"), "--target", "3"],
		...["--rw", "randread", "--iodepth", "64", "--time", "60", "--json"],
	);
	const load = startProcess(command, args);
	try {
		const busy = async () => {
			const text = await cli("stats", "--json");
			return /"inflight":6\d/.test(text.replace(/\s/g, ""));
		};
		await waitUntil(busy, PATIENCE_MS, () => load.stderr());
		const start = Date.now();
		await instance.rpc("bdev_null_resize", { name: "slow", new_size: 16 });
		await waitUntil(busy, PATIENCE_MS, () => load.stderr());
		await cli("bdev", "delete", "slow");
		assert(Date.now() - start < 30_000, "it waited for its turn");
	} finally {
		await load.kill();
		await within(load.exited, PATIENCE_MS, () => "perf ends");
	}
});

test("bdev qos shows limits and refuses what is none", async () => {
	await cli("bdev", "qos", "ram", "--iops", "12", "--bandwidth", "1536M");
	const text = await cli("bdev", "qos", "ram");
	assert.match(text, /^iops +12$/m);
	assert.match(text, /^bandwidth +1\.5 GiB\/s$/m);
	assert.match(text, /^write-bandwidth +none$/m);
	assert.deepEqual(JSON.parse(await cli("bdev", "qos", "ram", "--json")), {
		rw_ios_per_sec: 12,
		rw_mbytes_per_sec: 1536,
		r_mbytes_per_sec: 0,
		w_mbytes_per_sec: 0,
	});
	await cli("bdev", "qos", "ram", "--iops", "none", "--bandwidth", "0");
	const refused = (message: RegExp, ...args: string[]) =>
		failure(2, message, "bdev", "qos", "ram", ...args);
	await refused(
		/--bandwidth is "1000": want a multiple of 1M/,
		"--bandwidth",
		"1000",
	);
	await refused(/--iops is "1K"/, "--iops", "1K");
});
