// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
	closeSync,
	openSync,
	truncateSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { answer, failure, run, sendSignal } from "../support/cli.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";

const MIB = 1024 * 1024;
const DISK = 16 * MIB;

let instance: Instance;
let image: string;
before(async () => {
	const dir = makeTempDir();
	image = join(dir, "disk.img");
	writeFileSync(image, "");
	truncateSync(image, DISK);
	instance = await startInstance([
		...["--bdev", "malloc:name=ram,size=16M,block-size=4K", "--blk", "ram=ram"],
		...["--bdev", `file:name=file,path=${image}`, "--blk", "file=file"],
		...["--bdev", "null:name=null,size=1G", "--blk", "ro=null,readonly"],
	]);
});
after(async () => {
	await instance.stop();
	removeTempDir(join(image, ".."));
});

interface Direction {
	io_bytes: number;
	total_ios: number;
	iops: number;
	bw_bytes: number;
	bw: number;
	runtime: number;
	clat_ns: {
		min: number;
		max: number;
		mean: number;
		stddev: number;
		N: number;
		percentile: Record<string, number>;
	};
}

interface Report {
	"fio version": string;
	jobs: [
		{
			error: number;
			"job options": Record<string, string>;
			job_runtime: number;
			usr_cpu: number;
			sys_cpu: number;
			read: Direction;
			write: Direction;
			verified_blocks: number;
		},
	];
}

function perf(disk: string, ...args: string[]): string[] {
	return ["perf", "--socket", instance.socket(disk), ...args];
}

async function report(disk: string, ...args: string[]): Promise<Report> {
	return JSON.parse(await answer(...perf(disk, ...args, "--json")));
}

test("a disk is written whole, read back and checked, in each mode", async () => {
	for (const mode of ["poll", "interrupt"]) {
		const verify = ["--rw", "write", "--verify", "crc32c", "--mode", mode];
		const [job] = (await report("ram", ...verify)).jobs;
		assert.equal(job.error, 0);
		assert.equal(job.write.io_bytes, DISK);
		assert.equal(job.write.total_ios, DISK / 4096);
		assert.equal(job.verified_blocks, DISK / 4096);
		assert.equal(job.read.total_ios, 0);
	}
});

test("the report has fio's figures, and they agree with each other", async () => {
	const load = ["--rw", "randrw", "--bs", "8K", "--iodepth", "8"];
	const result = await report(
		"ram",
		...load,
		"--ios",
		"20000",
		"--queues",
		"2",
	);
	assert.match(result["fio version"], /^vhostctl-\d/);
	const [job] = result.jobs;
	const { read, write } = job;
	assert.equal(read.total_ios + write.total_ios, 20000);
	assert(Math.abs(read.total_ios - 10000) < 500, "about half are reads");
	for (const side of [read, write]) {
		const { percentile, ...clat } = side.clat_ns;
		assert.equal(side.io_bytes, side.total_ios * 8192);
		assert.equal(clat.N, side.total_ios);
		assert(clat.min > 0 && clat.min <= clat.mean && clat.mean <= clat.max);
		assert(clat.stddev >= 0);
		const values = ["1.000000", "50.000000", "99.000000", "99.990000"].map(
			(key) => percentile[key] ?? Number.NaN,
		);
		for (const [i, value] of values.entries())
			assert(value >= (values[i - 1] ?? clat.min), `${values}`);
		assert(Math.abs(side.bw * 1024 - side.bw_bytes) < 1024);
		assert(Math.abs(side.iops * 8192 - side.bw_bytes) < 8192);
	}
	assert(job.usr_cpu > 0 && job.sys_cpu >= 0);
});

test("--time ends it, and a person gets a table", async () => {
	const load = ["--rw", "randread", "--time", "300ms", "--cpu", "0"];
	const text = await answer(...perf("ram", ...load));
	const [, seconds] =
		/randread, 4 KiB, depth 32, 1 queue, poll, (\d+\.\d\d) s/.exec(text) ?? [];
	assert(Number(seconds) >= 0.3 && Number(seconds) < 5, text);
	assert.match(text, /requests +IOPS +throughput +mean +p50 +p99 +p99\.9 +max/);
	assert.match(text, /\nread +\d+ /);
});

test("--rate spaces the requests, in each mode", async () => {
	const rate = 1000;
	for (const mode of ["poll", "interrupt"]) {
		const shape = ["--mode", mode, "--queues", "2", "--rate", String(rate)];
		// None is made too early, however busy the machine is: 99 times 1 ms pass.
		const verify = ["--ios", "100", "--rw", "randrw", "--verify", "crc32c"];
		const [some] = (await report("ram", ...shape, ...verify)).jobs;
		assert.equal(some.read.total_ios + some.write.total_ios, 100);
		assert(some.job_runtime >= 99, `${some.job_runtime} ms`);
		assert.equal(some["job options"].rate_iops, "1000");

		const [job] = (await report("ram", ...shape, "--time", "200ms")).jobs;
		const count = job.read.total_ios;
		assert(count > 0 && count <= 200, `${count} requests`);
		assert(job.job_runtime >= 200, `${job.job_runtime} ms`);
	}
	const text = await answer(...perf("ram", "--rate", "500", "--ios", "5"));
	assert.match(text, /1 queue, rate 500, poll, /);
	const range = /--rate is "0": want a whole number from 1 to 1000000000/;
	await failure(2, range, ...perf("ram", "--rate", "0"));
	await failure(2, /--rate is "2K"/, ...perf("ram", "--rate", "2K"));
});

test("rings of both formats, tracked and logged, are driven and verified", async () => {
	const extras = [[], ["--inflight"], ["--log-dirty"]];
	for (const format of [[], ["--split"]])
		for (const extra of extras) {
			const verify = ["--rw", "randrw", "--verify", "crc32c"];
			const [job] = (await report("ram", ...verify, ...format, ...extra)).jobs;
			assert.equal(job.error, 0);
			assert.equal(job.read.total_ios + job.write.total_ios, DISK / 4096);
		}
	await failure(2, /--inflight/, ...perf("ram", "--reconnect", "1s"));
});

test("with --reconnect it goes on when the device is back", async () => {
	const disk = ["--bdev", `file:name=disk,path=${image}`, "--blk", "vm=disk"];
	let device = await startInstance(disk);
	const { dir } = device;
	const load = startProcess(
		...vhostctl(
			...["perf", "--socket", device.socket("vm"), "--json"],
			...["--rw", "randrw", "--verify", "crc32c", "--time", "3"],
			...["--inflight", "--reconnect", "30s"],
		),
	);
	try {
		// A device that goes before the driver has set it up is none to wait for.
		const running = async () => {
			const { bdevs } = (await device.rpc("bdev_get_iostat")) as {
				bdevs: { num_read_ops: number }[];
			};
			return (bdevs[0]?.num_read_ops ?? 0) > 0;
		};
		for (let i = 0; i < 2; i++) {
			await waitUntil(running, 20_000, () => `it runs\n${load.stderr()}`);
			await device.crash();
			device = await startInstance(disk, {}, dir);
		}
		const code = await within(load.exited, 30_000, () => "perf ends");
		assert.equal(code, 0, load.stderr());
		const [job] = (JSON.parse(load.stdout()) as Report).jobs;
		assert.equal(job.error, 0);
		assert(job.verified_blocks > 0);
		await device.stop();
	} finally {
		await load.kill();
		await device.crash();
		removeTempDir(dir);
	}
});

test("SIGINT ends it early, with what was done", async () => {
	const [command, args] = vhostctl(...perf("ram", "--time", "60", "--json"));
	const load = startProcess(command, args);
	try {
		const connected = async () => {
			const [vm] = (await instance.rpc("vhost_get_controllers", {
				name: "ram",
			})) as [{ sessions: { started: boolean }[] }];
			return vm.sessions.some(({ started }) => started);
		};
		await waitUntil(connected, 20_000, () => `it runs\n${load.stderr()}`);
		sendSignal(load, "SIGINT");
		const code = await within(load.exited, 20_000, () => "perf ends");
		assert.equal(code, 0, load.stderr());
		const { jobs } = JSON.parse(load.stdout()) as Report;
		assert(jobs[0].read.total_ios > 0);
		assert(jobs[0].job_runtime < 20_000);
	} finally {
		await load.kill();
	}
});

test("a block that differs ends it with exit code 12 and its place", async () => {
	const whole = ["--bs", "4K", "--iodepth", "8", "--verify", "crc32c"];
	await answer(...perf("file", "--rw", "write", ...whole));
	await answer(...perf("file", "--rw", "read", ...whole));
	const fd = openSync(image, "r+");
	writeSync(fd, Buffer.from("damage"), 0, 6, 5 * MIB + 100);
	closeSync(fd);
	const read = await run(...perf("file", "--rw", "read", ...whole, "--json"));
	assert.equal(read.code, 12, read.stderr);
	assert.match(
		read.stderr,
		/1 of 4096 blocks differ, the first at byte 5242880\n$/,
	);
	assert.equal((JSON.parse(read.stdout) as Report).jobs[0].error, 84);
});

test("what the device cannot do is refused", async () => {
	const cases: [number, RegExp, string, ...string[]][] = [
		[2, /the device has 16777216 bytes/, "ram", "--size", "17M"],
		[2, /block size, 4096/, "ram", "--bs", "512"],
		[2, /not a multiple of the request size/, "ram", "--size", "6K"],
		[2, /from 1 to 256/, "ram", "--queues", "300"],
		[8, /read-only/, "ro", "--rw", "randwrite"],
		[
			2,
			/32 requests in flight/,
			"ram",
			"--rw=write",
			"--verify=crc32c",
			"--size=64K",
		],
	];
	for (const [code, message, disk, ...args] of cases)
		await failure(code, message, ...perf(disk, ...args));
	await instance.assertHealthy();
});

test("a disk that is not there, and one that goes away, are told", async () => {
	const nobody = join(instance.dir, "nobody");
	const { code, stderr } = await run("perf", "--socket", nobody);
	assert.equal(code, 3);
	assert.match(stderr, /nobody/);

	const other = await startInstance([
		...["--bdev", "null:name=n,size=1G", "--blk", "vm=n"],
	]);
	const path = other.socket("vm");
	const load = startProcess(
		...vhostctl("perf", "--socket", path, "--time", "60"),
	);
	try {
		const running = async () => {
			const [vm] = (await other.rpc("vhost_get_controllers")) as [
				{ sessions: { started: boolean }[] },
			];
			return vm.sessions.some(({ started }) => started);
		};
		await waitUntil(running, 20_000, () => `it runs\n${load.stderr()}`);
		await other.process.kill();
		const ended = await within(load.exited, 20_000, () => "perf ends");
		assert.equal(ended, 10, load.stderr());
		assert.match(load.stderr(), /^vhostctl: .*hung up\n$/);
	} finally {
		await load.kill();
		await other.process.kill();
		removeTempDir(other.dir);
	}
});

test("another program's disk is driven as well", async () => {
	const dir = makeTempDir();
	const path = join(dir, "peer");
	writeFileSync(join(dir, "img"), "");
	truncateSync(join(dir, "img"), DISK);
	const daemon = startProcess("qemu-storage-daemon", [
		...["--blockdev", `file,filename=${join(dir, "img")},node-name=n`],
		...[
			"--export",
			`vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path=${path}`,
		],
	]);
	try {
		const verify = ["--rw", "write", "--verify", "crc32c", "--json"];
		const load = ["perf", "--socket", path, ...verify];
		await waitUntil(
			async () => (await run(...load)).code === 0,
			20_000,
			() => `a verified load\n${daemon.stderr()}`,
		);
		const { jobs } = JSON.parse(await answer(...load)) as Report;
		assert.equal(jobs[0].verified_blocks, DISK / 4096);
	} finally {
		await daemon.kill();
		removeTempDir(dir);
	}
});
