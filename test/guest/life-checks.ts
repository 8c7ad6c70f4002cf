// SPDX-License-Identifier: MIT
// What happens to a guest's disk while it is in use. Each check leaves the scene fit for the
// next; the last two do with one disk less.
import assert from "node:assert/strict";
import { waitUntil } from "../support/processes.ts";
import { fioJob } from "./data-checks.ts";
import {
	type Check,
	DISKS,
	MIB,
	readCount,
	type Scene,
	type SceneDisk,
	sumOfZeroes,
} from "./scene.ts";

const SEEN_MS = 10_000;
const LOAD_SECONDS = 60; // longer than any load is left running

/** Starts fio on a disk and waits until its requests arrive. Its end is up to the caller. */
async function underLoad(
	scene: Scene,
	disk: SceneDisk,
): Promise<{ ended: Promise<unknown> }> {
	const before = await readCount(scene, disk);
	const ended = scene.guest
		.try(`load ${disk.device} ${LOAD_SECONDS}`, (LOAD_SECONDS + 30) * 1000)
		.catch((error: unknown) => error);
	await waitUntil(
		async () => (await readCount(scene, disk)) > before + 100,
		20_000,
		() => `fio works on ${disk.device}`,
	);
	return { ended };
}

const resize: Check = async (scene) => {
	const { guest } = scene;
	const disk = DISKS.resized;
	const { device } = disk;
	const sum = await guest.run(`write_random ${device} 0 ${MIB}`);
	const larger = disk.bytes + 8 * MIB;
	const seen = guest.run(`wait_size ${device} ${larger}`, SEEN_MS);
	await scene.resize(disk, larger);
	await seen;
	assert.equal(await guest.run(`disk_sum ${device} 0 ${MIB}`), sum);
	// The new end can be written, and what was never written reads as zeroes.
	const end = await guest.run(`write_random ${device} ${larger - MIB} ${MIB}`);
	assert.equal(
		await guest.run(`disk_sum ${device} ${larger - MIB} ${MIB}`),
		end,
	);
	assert.equal(
		(await guest.run(`disk_sum ${device} ${disk.bytes} ${MIB}`)).trim(),
		sumOfZeroes(MIB),
	);
	// And once more, while the guest works on it.
	const load = await underLoad(scene, disk);
	await scene.resize(disk, larger + 8 * MIB);
	await guest.run(`wait_size ${device} ${larger + 8 * MIB}`, SEEN_MS);
	await guest.run("killall fio || true");
	await load.ended;
	// Smaller only at rest: a write that is under way makes a file longer again.
	await scene.resize(disk, disk.bytes);
	await guest.run(`wait_size ${device} ${disk.bytes}`, SEEN_MS);
};

/** The driver resets the device and starts it again. */
const rebind: Check = async ({ guest }) => {
	const { device } = DISKS.main;
	const sum = await guest.run(`write_random ${device} 0 ${MIB}`);
	for (let i = 0; i < 3; i++) {
		await guest.run(`bind $(unbind ${device})`);
		assert.equal(await guest.run(`disk_sum ${device} 0 ${MIB}`), sum);
	}
	const job = fioJob(await guest.run(`verify ${device} 16 1M`));
	assert.equal(job.error, 0);
};

const rebindUnderLoad: Check = async (scene) => {
	const { guest } = scene;
	const { device } = DISKS.large;
	const load = await underLoad(scene, DISKS.large);
	const unbound = await guest.run(`unbind ${device}`);
	await guest.run("killall fio || true");
	await load.ended;
	await guest.run(`bind ${unbound}`);
	assert.equal(fioJob(await guest.run(`verify ${device} 16 1M`)).error, 0);
};

/** The machine starts again in the middle of everything. */
const resetUnderLoad: Check = async (scene) => {
	const { guest } = scene;
	const { device } = DISKS.main;
	const sum = await guest.run(`write_random ${device} ${62 * MIB} ${MIB}`);
	const load = await underLoad(scene, DISKS.large);
	await guest.reset();
	await load.ended;
	assert.equal(await guest.run(`disk_sum ${device} ${62 * MIB} ${MIB}`), sum);
	for (const disk of [DISKS.main, DISKS.large])
		assert.equal(
			fioJob(await guest.run(`verify ${disk.device} 16 1M`)).error,
			0,
		);
};

const remove: Check = async (scene) => {
	const { guest, instance } = scene;
	const { device } = DISKS.doomed;
	const load = await underLoad(scene, DISKS.doomed);
	await scene.remove(DISKS.doomed);
	// The kernel may notice the end by errors or by a disk of size 0; nothing is read.
	const read = await guest.try(
		`dd if=/dev/${device} bs=4096 count=1 iflag=direct 2>/dev/null | wc -c`,
	);
	assert.equal(Number(read.output), 0, "nothing more to read");
	const write = await guest.try(
		`dd if=/dev/zero of=/dev/${device} bs=4096 count=1 oflag=direct`,
	);
	assert.notEqual(write.status, 0, "nor to write");
	await guest.run("killall fio || true");
	await load.ended;
	// The others feel nothing of it.
	await instance.assertHealthy();
	assert.equal(fioJob(await guest.run("verify vda 16 1M")).error, 0);
};

/** Also the start of a guest with a controller whose bdev is gone. */
const reboot: Check = async ({ guest, instance }) => {
	const { device } = DISKS.main;
	const sum = await guest.run(`write_random ${device} 0 ${MIB}`);
	await guest.reboot();
	assert.equal(await guest.run(`disk_sum ${device} 0 ${MIB}`), sum);
	assert.equal(
		Number(await guest.run(`cat /sys/block/${DISKS.doomed.device}/size`)),
		0,
	);
	await instance.assertHealthy();
};

export const lifeChecks: [string, Check][] = [
	["resize", resize],
	["reset of the device", rebind],
	["reset of the device under I/O", rebindUnderLoad],
	["reset of the guest under I/O", resetUnderLoad],
	["deletion of the bdev under I/O", remove],
	["reboot of the guest", reboot],
];
