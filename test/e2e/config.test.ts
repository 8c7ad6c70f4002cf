// SPDX-License-Identifier: MIT
// Configurations: saved, loaded, all or nothing; SPDK's as they are.
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { answer, attachedTo, run } from "../support/cli.ts";
import {
	type Instance,
	RpcError,
	rpcCall,
	startInstance,
} from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { SPDK_NVMF, spdkTarget } from "../support/spdk-config.ts";

type Config = {
	subsystem: string;
	config: { method: string; params: object }[];
}[];

/** What it has, as save_config composes it. */
async function configOf({ rpc }: Pick<Instance, "rpc">): Promise<Config> {
	const found = (await rpc("framework_get_subsystems")) as {
		subsystem: string;
	}[];
	const all: Config = [];
	for (const { subsystem } of found) {
		const config = await rpc("framework_get_config", { name: subsystem });
		all.push({ subsystem, config: config as Config[number]["config"] });
	}
	return all;
}

/** Runs `work` with a folder that has a file of 8 MiB. */
async function withFile(
	work: (dir: string, file: string) => Promise<void>,
): Promise<void> {
	const dir = makeTempDir();
	const file = join(dir, "disk.img");
	writeFileSync(file, "");
	truncateSync(file, 8 << 20);
	try {
		await work(dir, file);
	} finally {
		removeTempDir(dir);
	}
}

async function withInstance(
	args: string[],
	work: (instance: Instance) => Promise<void>,
): Promise<void> {
	const instance = await startInstance(args);
	try {
		await work(instance);
	} finally {
		await instance.stop();
	}
}

/** Loads what must be refused; gives the message and shows that nothing has changed. */
async function refused(instance: Instance, path: string): Promise<string> {
	const before = await configOf(instance);
	const { code, stderr } = await run(
		"config",
		"load",
		path,
		"-r",
		instance.rpcSocket,
	);
	assert.notEqual(code, 0);
	assert.deepEqual(await configOf(instance), before);
	return stderr;
}

test("serve -c reads a file of SPDK's target as it is, and saves what another instance loads", () =>
	withFile(async (dir, file) => {
		const path = join(dir, "spdk.json");
		const saved = join(dir, "saved.json");
		writeFileSync(path, spdkTarget(file));
		let first: Config = [];
		await withInstance(["-c", path], async (instance) => {
			first = await configOf(instance);
			const told = () =>
				instance.log().match(/spdk\.json: \S+ \S+ has no effect/g);
			await waitUntil(() => told()?.length === 15, 10_000, instance.log);
			const disks = (await instance.rpc("bdev_get_bdevs")) as {
				uuid: string;
			}[];
			assert.deepEqual(
				disks.map(({ uuid }) => uuid),
				[
					"9a2cd8ee-5f35-4c3e-90fb-6ecd0c2ae3a1",
					"1f0be1cf-3d16-4a44-a8bd-e3d4de4c3b2c",
				],
			);
			assert.deepEqual(
				first.map(({ subsystem, config }) => [
					subsystem,
					config.map(({ method }) => method),
				]),
				[
					["bdev", ["bdev_malloc_create", "bdev_aio_create"]],
					["scsi", []],
					["vhost_blk", ["vhost_create_blk_controller"]],
					[
						"vhost_scsi",
						[
							"vhost_create_scsi_controller",
							"vhost_scsi_controller_add_target",
							"vhost_start_scsi_controller",
						],
					],
					["vhostctl", []],
				],
			);
			await attachedTo(instance)("config", "save", saved);
		});
		await withInstance(["--mode", "interrupt"], async (instance) => {
			await attachedTo(instance)("config", "load", saved);
			assert.deepEqual(await configOf(instance), first);
			const out = await attachedTo(instance)("config", "save");
			assert.deepEqual(JSON.parse(out), { subsystems: first });
		});
	}));

test("what cannot be made is told item by item, and nothing is", () =>
	withFile(async (dir, file) => {
		const path = join(dir, "config.json");
		await withInstance(
			["--bdev", "null:name=there,size=1M"],
			async (instance) => {
				writeFileSync(path, SPDK_NVMF);
				assert.equal(
					await refused(instance, path),
					[
						"vhostctl: the configuration: nothing was changed, as this cannot be carried out:",
						"  bdev[1] bdev_nvme_attach_controller: vhostctl has no such method",
						"  bdev[2] bdev_raid_create: vhostctl has no such method",
						"  nvmf[0] nvmf_create_transport: vhostctl has no such method",
						"  nvmf[1] nvmf_create_subsystem: vhostctl has no such method\n",
					].join("\n"),
				);
				const shape = { block_size: 512, num_blocks: 2048 };
				const blk = (ctrlr: string, dev_name: string) => ({
					method: "vhost_create_blk_controller",
					params: { ctrlr, dev_name },
				});
				const load = (bdev: object[], vhost: object[] = []) => {
					const subsystems = [
						{ subsystem: "bdev", config: bdev },
						{ subsystem: "vhost_blk", config: vhost },
					];
					writeFileSync(path, JSON.stringify({ subsystems }));
					return refused(instance, path);
				};
				const fresh = {
					method: "bdev_null_create",
					params: { name: "n", ...shape },
				};
				const aio = {
					method: "bdev_aio_create",
					params: { name: "f", filename: file },
				};
				const gone = {
					method: "bdev_aio_create",
					params: { name: "g", filename: `${file}.gone` },
				};
				const taken = {
					method: "bdev_null_create",
					params: { name: "there", ...shape },
				};
				const first = await load([fresh, gone, aio, taken], [blk("vm0", "n")]);
				assert.match(first, /bdev\[1\] bdev_aio_create: .*disk\.img\.gone/);
				assert.match(
					first,
					/bdev\[3\] bdev_null_create: there is a bdev there already/,
				);
				assert.match(first, /1 later one/);
				await instance.rpc("bdev_delay_create", {
					...{ name: "slow", base_bdev_name: "there" },
					...{ avg_read_latency: 1, p99_read_latency: 2 },
					...{ avg_write_latency: 3, p99_write_latency: 4 },
				});
				const slower = {
					method: "bdev_delay_update_latency",
					params: {
						...{ delay_bdev_name: "slow", latency_type: "p99_read" },
						latency_us: 999,
					},
				};
				const sample = (period: number) => ({
					method: "bdev_set_qd_sampling_period",
					params: { name: "slow", period },
				});
				const { method, params } = sample(5000);
				await instance.rpc(method, params);
				// The controllers come last: here one of them fails, after the bdevs were made.
				const second = await load(
					[fresh, aio, slower, sample(7)],
					[blk("vm0", "n"), blk("vm0", "f"), blk("vm1", "x")],
				);
				assert.match(
					second,
					/vhost_blk\[1\] .*: there is a controller vm0 already/,
				);
				assert.match(second, /vhost_blk\[2\] .*: no bdev x/);
				const stats = await instance.rpc("bdev_get_iostat", {
					names: ["slow"],
				});
				assert.match(
					JSON.stringify(stats),
					/"queue_depth_polling_period":5000/,
				);
				assert.match(
					await load([
						{ method: "bdev_null_delete", params: { name: "there" } },
					]),
					/bdev\[0\] bdev_null_delete: has no place in a configuration/,
				);
				assert.match(await load([{ params: {} }]), /subsystems.0.config.0/);
			},
		);
		const start = await run(
			"serve",
			"-c",
			path,
			"-r",
			join(dir, "r"),
			"-S",
			dir,
		);
		assert.equal(start.code, 2, start.stderr);
	}));

test("text that is no configuration is refused", () =>
	withFile(async (dir) => {
		const path = join(dir, "x.json");
		for (const [text, why] of [
			["", /x\.json is not JSON/],
			["{", /x\.json is not JSON/],
			["[]", /x\.json is no configuration/],
			["{}", /no configuration: subsystems must be/],
			['{"subsystems": [{"config": []}]}', /subsystems\.0\.subsystem/],
		] as const) {
			writeFileSync(path, text);
			const { code, stderr } = await run("config", "load", path);
			assert.equal(code, 2);
			assert.match(stderr, why);
		}
		const none = await run("config", "load", join(dir, "none"));
		assert.equal(none.code, 3, none.stderr);
	}));

test("before framework_start_init only some methods can be called, then all is made", async () => {
	const args = [
		"--wait-for-rpc",
		"--bdev",
		"null:name=n,size=1M",
		"--blk",
		"vm0=n",
	];
	await withInstance(args, async ({ rpc, rpcSocket, socketDir }) => {
		const methods = async (current: boolean) =>
			(await rpc("rpc_get_methods", { current })) as string[];
		const early = await methods(true);
		assert(early.includes("framework_start_init"));
		assert(early.includes("iobuf_set_options"));
		assert(!early.includes("bdev_get_bdevs"));
		assert((await methods(false)).includes("bdev_get_bdevs"));
		const notNow = (message: RegExp) => (error: unknown) =>
			error instanceof RpcError &&
			error.code === -1 &&
			message.test(error.message);
		await assert.rejects(rpc("bdev_get_bdevs"), notNow(/only be called after/));
		await rpc("iobuf_set_options", { small_pool_count: 1 });
		let over = false;
		const waiting = rpcCall(rpcSocket, "framework_wait_init").then((result) => {
			over = true;
			return result;
		});
		await rpc("spdk_get_version");
		assert.equal(over, false);
		assert.equal(await rpc("framework_start_init"), true);
		assert.equal(await waiting, true);
		await assert.rejects(
			rpc("framework_start_init"),
			notNow(/only be called before/),
		);
		assert.deepEqual(
			(await methods(true)).includes("framework_start_init"),
			false,
		);
		const [controller] = (await rpc("vhost_get_controllers")) as {
			socket: string;
		}[];
		assert.equal(controller?.socket, join(socketDir, "vm0"));
	});
});

test("framework_start_init that fails makes nothing and can be called again", () =>
	withFile(async (dir) => {
		const path = join(dir, "c.json");
		const late = join(dir, "late.img");
		writeFileSync(path, spdkTarget(late));
		await withInstance(["--wait-for-rpc", "-c", path], async ({ rpc }) => {
			await assert.rejects(rpc("framework_start_init"), /late\.img/);
			await assert.rejects(rpc("bdev_get_bdevs"), /only be called after/);
			writeFileSync(late, "");
			truncateSync(late, 1 << 20);
			await rpc("framework_start_init");
			assert.equal(((await rpc("bdev_get_bdevs")) as unknown[]).length, 2);
		});
	}));

test("a takeover and waiting for framework_start_init exclude each other", async () => {
	const { code, stderr } = await run("serve", "--takeover", "--wait-for-rpc");
	assert.equal(code, 2);
	assert.match(stderr, /exclude each other/);
	assert.match(await answer("config", "--help"), /load <file>/);
});
