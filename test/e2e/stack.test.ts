// SPDX-License-Identifier: MIT
// Bdevs that stack on others, in an instance of their own: by commands, and over its end.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { test } from "node:test";
import { createRuntime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import { attachedTo, failure } from "../support/cli.ts";
import { request, S_IOERR, S_OK, T_IN, T_OUT } from "../support/disk-io.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import { startLoad } from "../support/load.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
} from "../support/processes.ts";
import { makeRingIo, type Offered } from "../support/ring-io.ts";
import { withDynasty } from "../support/takeover.ts";

const PATIENCE_MS = 30_000;

type Rpc = Instance["rpc"];
type Connect = (controller: string) => Promise<Frontend>;

/** Has `work` connect to controllers; connections do not outlive it. */
async function withFrontends(
	instance: Instance,
	work: (connect: Connect) => Promise<void>,
): Promise<void> {
	const runtime = createRuntime();
	const frontends: Frontend[] = [];
	try {
		await work(async (controller) => {
			const frontend = await connectFrontend(
				runtime,
				instance.socket(controller),
				{ queues: 1, queueSize: 64, memoryBytes: 1 << 20, mode: "interrupt" },
			);
			frontends.push(frontend);
			return frontend;
		});
	} finally {
		for (const frontend of frontends) await frontend.close();
		await runtime.close();
	}
}

/** Offers a read of the first block. */
function offerRead(frontend: Frontend): Offered {
	// Type 0, sector 0; the last byte is the status.
	return makeRingIo(frontend).offer([Buffer.alloc(16)], [512, 1]);
}

async function hanging(rpc: Rpc, name: string): Promise<number> {
	const [bdev] = (await rpc("bdev_get_bdevs", { name })) as [
		{ driver_specific: { error_disk: { pending: number } } },
	];
	return bdev.driver_specific.error_disk.pending;
}

const hangs = (rpc: Rpc, name: string, count = 1) =>
	waitUntil(
		async () => (await hanging(rpc, name)) === count,
		PATIENCE_MS,
		() => `${count} requests of ${name} hang`,
	);

test("a stack is made, told to fail, and resumed by commands", async () => {
	const instance = await startInstance(["--bdev", "malloc:name=ram,size=1M"]);
	try {
		const cli = attachedTo(instance);
		const slow = ["--read-latency", "2ms", "--read-p99", "3ms"];
		await cli("bdev", "create", "delay", "slow", "--base", "ram", ...slow);
		const made = await cli("bdev", "create", "error", "--base", "slow");
		assert.equal(made, "EE_slow\n");
		await instance.rpc("vhost_create_blk_controller", {
			...{ ctrlr: "vm", dev_name: "EE_slow" },
		});
		await withFrontends(instance, async (connect) => {
			const disk = await connect("vm");
			const data = Buffer.alloc(512, "data");
			assert.equal((await request(disk, T_OUT, 0, data)).status, S_OK);
			const inject = (...what: string[]) =>
				cli("bdev", "inject", "EE_slow", ...what);
			await inject("read", "failure", "--count", "2", "--lba", "0");
			const read = () => request(disk, T_IN, 0, 512);
			assert.equal((await read()).status, S_IOERR);
			assert.equal((await read()).status, S_IOERR);
			const before = performance.now();
			assert.equal((await read()).status, S_OK);
			assert(performance.now() - before >= 2);

			await inject("read", "pending");
			const held = offerRead(disk);
			await hangs(instance.rpc, "EE_slow");
			assert.equal(held.ended(), false);
			await cli("bdev", "resume", "EE_slow");
			const answer = await held.used();
			assert.deepEqual(answer.data, Buffer.concat([data, Buffer.of(S_OK)]));
		});
		const args = ["bdev", "resume", "slow", "-r", instance.rpcSocket];
		await failure(3, /no error bdev slow: it is a delay bdev/, ...args);
	} finally {
		await instance.stop();
	}
});

test("what hangs keeps no front end, bdev, controller or instance", async () => {
	const instance = await startInstance([
		...["--bdev", "malloc:name=a,size=1M", "--bdev", "malloc:name=b,size=1M"],
	]);
	const { rpc } = instance;
	const inject = (name: string) =>
		rpc("bdev_error_inject_error", {
			...{ name, io_type: "read", error_type: "pending", num: 1000 },
		});
	const perfs: Process[] = [];
	/** Four reads at a time, by a process that can be ended. */
	const readOn = (controller: string, ...more: string[]): Process => {
		const [command, args] = vhostctl(
			...["perf", "--socket", instance.socket(controller), ...more],
			...["--rw", "randread", "--iodepth", "4", "--time", "60"],
		);
		const perf = startProcess(command, args);
		perfs.push(perf);
		return perf;
	};
	try {
		for (const base_name of ["a", "b"])
			await rpc("bdev_error_create", { base_name });
		const blk = { ctrlr: "vm", dev_name: "EE_a" };
		await rpc("vhost_create_blk_controller", blk);
		await inject("EE_a");
		await inject("EE_b");
		const gone = readOn("vm");
		await hangs(rpc, "EE_a", 4);
		await gone.kill();
		await rpc("vhost_delete_controller", { ctrlr: "vm" });
		assert.equal(await hanging(rpc, "EE_a"), 0);
		await rpc("vhost_create_blk_controller", blk);
		await withFrontends(instance, async (connect) => {
			const stays = await connect("vm");
			const held = offerRead(stays);
			await hangs(rpc, "EE_a");
			await rpc("bdev_malloc_delete", { name: "a" });
			assert.equal((await held.used()).data[512], S_IOERR);
			await stays.close();
		});
		await rpc("vhost_create_scsi_controller", { ctrlr: "scsi" });
		await rpc("vhost_scsi_controller_add_target", {
			...{ ctrlr: "scsi", scsi_target_num: 0, bdev_name: "EE_b" },
		});
		readOn("scsi", "--target", "0");
		await hangs(rpc, "EE_b", 4);
	} finally {
		await instance.stop();
		for (const perf of perfs) await perf.kill();
	}
});

/** Reads and writes of EE_pass a second. */
const LIMIT = 2000;

/** Makes one of each, with something to remember. */
async function makeAll(rpc: Rpc): Promise<void> {
	for (const [i, name] of ["ram", "halves"].entries())
		await rpc("bdev_malloc_create", {
			...{ name, block_size: 512, num_blocks: 16384 * (i + 1) },
		});
	await rpc("bdev_delay_create", {
		...{ name: "slow", base_bdev_name: "ram", serial: "0815" },
		...{ avg_read_latency: 100, p99_read_latency: 1000 },
		...{ avg_write_latency: 200, p99_write_latency: 2000 },
	});
	await rpc("bdev_delay_update_latency", {
		...{ delay_bdev_name: "slow", latency_type: "p99_write", latency_us: 999 },
	});
	await rpc("bdev_passthru_create", { name: "pass", base_bdev_name: "slow" });
	await rpc("bdev_error_create", { base_name: "pass" });
	await rpc("bdev_error_inject_error", {
		...{ name: "EE_pass", io_type: "unmap", error_type: "failure", num: 7 },
		...{ lba: 8, num_blocks: 16, probability: 0.5, seed: 42 },
	});
	await rpc("bdev_set_qos_limit", { name: "EE_pass", rw_ios_per_sec: LIMIT });
	await rpc("bdev_split_create", {
		...{ base_bdev: "halves", split_count: 3, split_size_mb: 4 },
	});
	for (const dev_name of ["EE_pass", "halvesp2"])
		await rpc("vhost_create_blk_controller", {
			...{ ctrlr: `vm-${dev_name}`, dev_name },
		});
}

/** What bdev_get_iostat tells of a bdev's queue depth: nothing, or all of these. */
interface Sampled {
	readonly queue_depth_polling_period?: number;
	readonly queue_depth?: number;
	readonly io_time?: number;
	readonly weighted_io_time?: number;
}

async function sampled(rpc: Rpc, name: string): Promise<Sampled> {
	const { bdevs } = (await rpc("bdev_get_iostat", { names: [name] })) as {
		bdevs: [object];
	};
	const members = Object.entries(bdevs[0]);
	return Object.fromEntries(
		members.filter(([key]) => /^queue_depth|io_time$/.test(key)),
	);
}

test("queue depths are those of each bdev of a stack, while they are sampled", async () => {
	const instance = await startInstance(["--bdev", "malloc:name=ram,size=1M"]);
	const { rpc } = instance;
	const depthIs = (name: string, depth: number) =>
		waitUntil(
			async () => (await sampled(rpc, name)).queue_depth === depth,
			PATIENCE_MS,
			() => `${name} has ${depth} requests`,
		);
	try {
		await rpc("bdev_error_create", { base_name: "ram" });
		await rpc("bdev_passthru_create", {
			...{ name: "top", base_bdev_name: "EE_ram" },
		});
		await rpc("vhost_create_blk_controller", { ctrlr: "vm", dev_name: "top" });
		assert.deepEqual(await sampled(rpc, "top"), {});
		for (const name of ["ram", "EE_ram", "top"]) {
			await rpc("bdev_set_qd_sampling_period", { name, period: 1000 });
			assert.deepEqual(await sampled(rpc, name), {
				queue_depth_polling_period: 1000,
				...{ queue_depth: 0, io_time: 0, weighted_io_time: 0 },
			});
		}
		await rpc("bdev_error_inject_error", {
			...{ name: "EE_ram", io_type: "read", error_type: "pending", num: 2 },
		});
		await withFrontends(instance, async (connect) => {
			const io = makeRingIo(await connect("vm"));
			const read = () => io.offer([Buffer.alloc(16)], [512, 1]);
			const reads = [read(), read()];
			await depthIs("top", 2);
			await depthIs("EE_ram", 2);
			assert.equal((await sampled(rpc, "ram")).queue_depth, 0);
			await waitUntil(
				async () => ((await sampled(rpc, "top")).io_time ?? 0) > 50_000,
				PATIENCE_MS,
				() => "time goes by",
			);
			await rpc("bdev_error_resume_pending", { name: "EE_ram" });
			await Promise.all(reads.map((one) => one.used()));
			await depthIs("top", 0);
			await depthIs("EE_ram", 0);
		});
		const { io_time = 0, weighted_io_time = 0 } = await sampled(rpc, "top");
		// Both are rounded.
		assert(weighted_io_time > io_time && weighted_io_time <= 2 * io_time + 1);
		assert.equal((await sampled(rpc, "ram")).io_time, 0);
		const saved = await rpc("framework_get_config", { name: "bdev" });
		assert.doesNotMatch(JSON.stringify(saved), /sampling/);
		await rpc("bdev_set_qd_sampling_period", { name: "top", period: 0 });
		assert.deepEqual(await sampled(rpc, "top"), {});
	} finally {
		await instance.stop();
	}
});

/** What is told of bdevs and controllers, but for what is another after a restart. */
async function told(rpc: Rpc): Promise<unknown> {
	const bdevs = (await rpc("bdev_get_bdevs")) as {
		driver_specific: { malloc?: object };
	}[];
	const controllers = (await rpc("vhost_get_controllers")) as object[];
	return {
		bdevs: bdevs.map(({ driver_specific: { malloc, ...rest }, ...bdev }) => ({
			...{ ...bdev, ...rest },
		})),
		controllers: controllers.map((one) => ({ ...one, sessions: undefined })),
	};
}

test("stacks and limits are handed over, with requests that wait for their turn", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start();
		await makeAll(dynasty.rpc);
		const before = await told(dynasty.rpc);
		const start = Date.now();
		const load = startLoad(dynasty.path("vm-EE_pass"), 2, "--iodepth", "16");
		const written = async () => {
			const { bdevs } = (await dynasty.rpc("vhostctl_get_stats")) as {
				bdevs: { name: string; ops: { write: { count: number } } }[];
			};
			return bdevs.some(
				({ name, ops }) => name === "ram" && ops.write.count > 100,
			);
		};
		await waitUntil(written, PATIENCE_MS, () => "the load runs");
		await dynasty.succeed();
		assert.deepEqual(await told(dynasty.rpc), before);
		const { ios } = await load.finish();
		// What waited when one instance stopped went at once, and the other begins anew.
		const most = LIMIT * ((Date.now() - start) / 1000 + 0.1);
		assert(ios <= most, `${ios} requests, not ${most} at the most`);
		await dynasty.end();
	}));

test("stacks come back from the state, with what errors are left", async () => {
	const dir = makeTempDir();
	try {
		const state = ["--state", join(dir, "state.json")];
		const first = await startInstance(state, {}, dir);
		await makeAll(first.rpc);
		const before = await told(first.rpc);
		await first.crash();
		const second = await startInstance(state, {}, dir);
		assert.deepEqual(await told(second.rpc), before);
		for (const ctrlr of ["vm-EE_pass", "vm-halvesp2"])
			await second.rpc("vhost_delete_controller", { ctrlr });
		await second.rpc("bdev_malloc_delete", { name: "ram" });
		await second.rpc("bdev_split_delete", { base_bdev: "halves" });
		await second.crash();
		const third = await startInstance(state, {}, dir);
		const bdevs = (await third.rpc("bdev_get_bdevs")) as { name: string }[];
		assert.deepEqual(
			bdevs.map(({ name }) => name),
			["halves"],
		);
		await third.stop();
	} finally {
		removeTempDir(dir);
	}
});
