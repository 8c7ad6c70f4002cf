// SPDX-License-Identifier: MIT
// A guest moves between two instances, there and back, while fio verifies one of its disks
// and dma_check looks for memory that a disk wrote and the migration did not carry over.
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Device } from "../support/guest.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";
import { bootQemu, type QemuGuest } from "../support/qemu.ts";
import { SOAK } from "../support/soak.ts";
import { fioJobs } from "./observe.ts";
import { MIB, type Transport } from "./scene.ts";

const MIGRATIONS = SOAK ? 20 : 2;
const DISKS = ["verified", "read"] as const;
const BYTES = 32 * MIB;
/** With a multiple of 256 KiB QEMU 7.2 loses what its processors write. */
const MEMORY = "524280K";
/** 32 MiB of the guest's memory. */
const SLOTS = 8192;
const BLOCKS = 2048;

const properties = (packed: boolean) => ({ packed: packed ? "on" : "off" });

async function serve(dir: string, transport: Transport): Promise<Instance> {
	const args = DISKS.flatMap((name) => [
		"--bdev",
		`file:name=${name},path=${join(dir, name)}`,
		`--${transport}`,
		`${name}=${name}`,
	]);
	return startInstance(args);
}

function devices(
	instance: Instance,
	kind: Transport,
	packed: boolean,
): Device[] {
	return DISKS.map((name) => ({
		kind,
		socket: instance.socket(name),
		queues: 2,
		properties: properties(packed),
	}));
}

async function assertCarried(guest: QemuGuest): Promise<void> {
	const found = await guest.run("dma_checked");
	const [, reads, differ] = /^(\d+) reads, (\d+) differ/.exec(found) ?? [];
	assert(Number(reads) > 0, `pages were read meanwhile: ${found}`);
	assert.equal(Number(differ), 0, "pages that the disk wrote are as it did");
}

async function play(transport: Transport, packed: boolean): Promise<void> {
	const dir = makeTempDir();
	for (const name of DISKS) {
		writeFileSync(join(dir, name), "");
		truncateSync(join(dir, name), BYTES);
	}
	const instances = [
		await serve(dir, transport),
		await serve(dir, transport),
	] as const;
	let guest: QemuGuest | undefined;
	try {
		guest = await bootQemu(devices(instances[0], transport, packed), {
			memory: MEMORY,
		});
		const disks = (await guest.run("virtio_disks"))
			.trim()
			.split("\n")
			.map((line) => line.split(" "));
		for (const [, features] of disks)
			assert.equal(features?.[34], packed ? "1" : "0");
		await guest.run(`verify_on v ${disks[0]?.[0]} --size=16M`);
		await guest.run(`dma_check_on ${disks[1]?.[0]} ${BLOCKS} ${SLOTS}`);
		for (let i = 1; i <= MIGRATIONS; i++) {
			await guest.run("sleep 1");
			const to = instances[i % 2 === 0 ? 0 : 1];
			await guest.migrate(devices(to, transport, packed));
			await guest.run("sleep 1");
			await assertCarried(guest);
		}
		const [job] = fioJobs(await guest.run("verify_end v"));
		assert.equal(job?.error, 0);
		assert((job?.read.total_ios ?? 0) > 0);
		for (const instance of instances) await instance.assertHealthy();
	} catch (error) {
		throw new Error(instances.map((each) => each.log()).join("\n"), {
			cause: error,
		});
	} finally {
		await guest?.kill();
		for (const instance of instances) await instance.stop();
		removeTempDir(dir);
	}
}

// In short: packed rings, whose bases say more, of one transport.
for (const transport of SOAK ? (["blk", "scsi"] as const) : (["blk"] as const))
	for (const packed of SOAK ? [false, true] : [true])
		test(`${MIGRATIONS} migrations, ${transport}, ${packed ? "packed" : "split"} rings`, () =>
			play(transport, packed));
