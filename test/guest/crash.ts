// SPDX-License-Identifier: MIT
// Disks whose instance is killed with SIGKILL again and again under a guest's fio, which
// verifies all that it wrote. Each time the next instance, which is told nothing but where the
// state is, goes on where the last one died.
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { bootQemu, type QemuGuest } from "../support/qemu.ts";
import { fioJobs } from "./observe.ts";
import { MIB } from "./scene.ts";

/** A disk with rings of each format, named for it. */
const DISKS = ["split", "packed"] as const;
const BYTES = 64 * MIB;
/** Two rings, so that one may be caught at another step than the other. */
const QUEUES = 2;
/** QEMU looks every second whether the instance is there again. */
const RECONNECT_S = 1;
const BACK_MS = 60_000;
/** Less than the guest asks for: some requests wait for their turn. */
const LIMITS = {
	rw_ios_per_sec: 3000,
	rw_mbytes_per_sec: 0,
	r_mbytes_per_sec: 0,
	w_mbytes_per_sec: 0,
};
const COALESCING = { delay_base_us: 200, iops_threshold: 500 };
const ROLES = ["fast", "slow"] as const;

/** How many writes each disk has done. */
async function writes(instance: Instance): Promise<number[]> {
	const { bdevs } = (await instance.rpc("bdev_get_iostat", {
		names: DISKS,
	})) as { bdevs: { num_write_ops: number }[] };
	return bdevs.map(({ num_write_ops }) => num_write_ops);
}

const serve = (dir: string) =>
	startInstance(["--state", join(dir, "state.json")], {}, dir);

/** What the state file is to keep. */
async function create(instance: Instance): Promise<void> {
	for (const name of DISKS) {
		const filename = join(instance.dir, `${name}.img`);
		writeFileSync(filename, "");
		truncateSync(filename, BYTES);
		await instance.rpc("bdev_aio_create", {
			...{ name, filename, block_size: 512 },
		});
		await instance.rpc("bdev_set_qos_limit", { name, ...LIMITS });
		await instance.rpc("vhost_create_blk_controller", {
			...{ ctrlr: name, dev_name: name },
		});
		await instance.rpc("vhost_controller_set_coalescing", {
			...{ ctrlr: name, ...COALESCING },
		});
	}
}

async function assertAsCreated(instance: Instance): Promise<void> {
	const bdevs = (await instance.rpc("bdev_get_bdevs")) as {
		name: string;
		assigned_rate_limits: object;
	}[];
	assert.deepEqual(
		bdevs.map(({ name, assigned_rate_limits: limits }) => [name, limits]),
		DISKS.map((name) => [name, LIMITS]),
	);
	const controllers = (await instance.rpc("vhost_get_controllers")) as {
		ctrlr: string;
		delay_base_us: number;
		iops_threshold: number;
	}[];
	assert.deepEqual(
		controllers.map(({ ctrlr, delay_base_us, iops_threshold }) => [
			ctrlr,
			{ delay_base_us, iops_threshold },
		]),
		DISKS.map((name) => [name, COALESCING]),
	);
}

/** Whether the guest's devices are being set up again: rings are known. */
async function isSettingUp(instance: Instance): Promise<boolean> {
	const { controllers } = (await instance.rpc("vhostctl_get_stats")) as {
		controllers: { sessions: { rings: unknown[] }[] }[];
	};
	return controllers.every(({ sessions }) =>
		sessions.some(({ rings }) => rings.length > 0),
	);
}

/**
 * Half of the kills come while requests are on their way, the others from the moment on at
 * which the guest's devices are being set up again. Not before: QEMU 7.2 loses sight of a
 * back end that dies during its first questions ("lost reconnect"), connects, and is silent.
 */
async function untilKill(instance: Instance, i: number): Promise<void> {
	const atWork = i % 2 === 0;
	await waitUntil(
		async () =>
			atWork
				? (await writes(instance)).every((n) => n > 0)
				: isSettingUp(instance),
		BACK_MS,
		() => `the guest ${atWork ? "writes" : "comes"} again${instance.log()}`,
	);
	await sleep(Math.random() * (atWork ? 300 : 30));
}

async function startVerifying(guest: QemuGuest): Promise<void> {
	const lines = (await guest.run("virtio_disks")).trim().split("\n");
	assert.equal(lines.length, DISKS.length);
	for (const [i, name] of DISKS.entries()) {
		const [disk = "", features = ""] = lines[i]?.split(" ") ?? [];
		assert.equal(features[34], name === "packed" ? "1" : "0");
		await guest.run(`verify_on ${name}_fast ${disk} --size=16M`);
		// A flush takes long: other requests end before it, out of order.
		await guest.run(
			`verify_on ${name}_slow ${disk} "--offset=32M --size=1M --fsync=1 --iodepth=4"`,
		);
	}
}

async function assertVerified(guest: QemuGuest): Promise<void> {
	for (const name of DISKS)
		for (const role of ROLES) {
			const [job] = fioJobs(await guest.run(`verify_end ${name}_${role}`));
			assert.equal(job?.error, 0);
			assert((job?.read.total_ios ?? 0) > 0, "what was written is read again");
		}
}

const devices = (instance: Instance) =>
	DISKS.map((name) => ({
		kind: "blk" as const,
		socket: instance.socket(name),
		queues: QUEUES,
		reconnect: RECONNECT_S,
		properties: { packed: name === "packed" ? "on" : "off" },
	}));

/** Kills the instance of a guest that works so many times. */
export async function crashes(kills: number): Promise<void> {
	const dir = makeTempDir();
	let instance = await serve(dir);
	let guest: QemuGuest | undefined;
	try {
		await create(instance);
		guest = await bootQemu(devices(instance));
		await startVerifying(guest);
		for (let i = 0; i < kills; i++) {
			await untilKill(instance, i);
			await instance.crash();
			instance = await serve(dir);
			await assertAsCreated(instance);
		}
		await waitUntil(
			async () => (await writes(instance)).every((n) => n > 1000),
			BACK_MS,
			() => `the guest writes again${instance.log()}`,
		);
		await assertVerified(guest);
		await instance.assertHealthy();
	} catch (error) {
		throw new Error(`${guest?.console() ?? ""}${instance.log()}`, {
			cause: error,
		});
	} finally {
		await guest?.kill();
		await instance.crash();
		removeTempDir(dir);
	}
}
