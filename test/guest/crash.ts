// SPDX-License-Identifier: MIT
// A disk whose instance is killed with SIGKILL again and again under a guest's fio, which
// verifies all that it wrote. Each time the next instance goes on where the last one died.
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { bootQemu, type QemuGuest } from "../support/qemu.ts";
import { fioJobs } from "./observe.ts";
import { MIB } from "./scene.ts";

const NAME = "disk";
const BYTES = 64 * MIB;
/** Two rings, so that one may be caught at another step than the other. */
const QUEUES = 2;
/** QEMU looks every second whether the instance is there again. */
const RECONNECT_S = 1;
const BACK_MS = 60_000;

export type Format = "split" | "packed";

async function writes(instance: Instance): Promise<number> {
	const { bdevs } = (await instance.rpc("bdev_get_iostat", {
		names: [NAME],
	})) as { bdevs: { num_write_ops: number }[] };
	return bdevs[0]?.num_write_ops ?? 0;
}

const serve = (dir: string) =>
	startInstance(
		[
			"--bdev",
			`file:name=${NAME},path=${join(dir, "disk.img")}`,
			"--blk",
			`${NAME}=${NAME}`,
		],
		{},
		dir,
	);

/** Whether the guest's device is being set up again: rings are known. */
async function isSettingUp(instance: Instance): Promise<boolean> {
	const { controllers } = (await instance.rpc("vhostctl_get_stats", {
		name: NAME,
	})) as { controllers: { sessions: { rings: unknown[] }[] }[] };
	return controllers.some(({ sessions }) =>
		sessions.some(({ rings }) => rings.length > 0),
	);
}

/**
 * Half of the kills come while requests are on their way, the others from the moment on at
 * which the guest's device is being set up again. Not before: QEMU 7.2 loses sight of a
 * back end that dies during its first questions ("lost reconnect"), connects, and is silent.
 */
async function untilKill(instance: Instance, i: number): Promise<void> {
	const atWork = i % 2 === 0;
	await waitUntil(
		async () => (atWork ? (await writes(instance)) > 0 : isSettingUp(instance)),
		BACK_MS,
		() => `the guest ${atWork ? "writes" : "comes"} again${instance.log()}`,
	);
	await sleep(Math.random() * (atWork ? 300 : 30));
}

async function assertVerified(guest: QemuGuest): Promise<void> {
	for (const name of ["fast", "slow"]) {
		const [job] = fioJobs(await guest.run(`verify_end ${name}`));
		assert.equal(job?.error, 0);
		assert((job?.read.total_ios ?? 0) > 0, "what was written is read again");
	}
}

/** Kills the instance so many times. Gives how many writes the guest made in all. */
export async function crashes(format: Format, kills: number): Promise<void> {
	const dir = makeTempDir();
	writeFileSync(join(dir, "disk.img"), "");
	truncateSync(join(dir, "disk.img"), BYTES);
	let instance = await serve(dir);
	let guest: QemuGuest | undefined;
	try {
		guest = await bootQemu([
			{
				kind: "blk",
				socket: instance.socket(NAME),
				queues: QUEUES,
				reconnect: RECONNECT_S,
				properties: { packed: format === "packed" ? "on" : "off" },
			},
		]);
		const [disk = ""] = (await guest.run("virtio_disks")).split(" ");
		assert.equal(
			(await guest.run("virtio_disks")).split(" ")[1]?.[34],
			format === "packed" ? "1" : "0",
		);
		await guest.run(`verify_on fast ${disk} --size=16M`);
		// A flush takes long: other requests end before it, out of order.
		await guest.run(
			`verify_on slow ${disk} "--offset=32M --size=1M --fsync=1 --iodepth=4"`,
		);
		for (let i = 0; i < kills; i++) {
			await untilKill(instance, i);
			await instance.crash();
			instance = await serve(dir);
		}
		await waitUntil(
			async () => (await writes(instance)) > 1000,
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
