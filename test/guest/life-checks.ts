// SPDX-License-Identifier: MIT
// What happens to a guest's disks while they are in use. Each check leaves the scene fit for
// the next; the last two do with one disk of each backing less.
import assert from "node:assert/strict";
import { waitUntil } from "../support/processes.ts";
import {
	deleteDisk,
	fioJobs,
	onEach,
	readCount,
	resizeDisk,
	sumOfZeroes,
} from "./observe.ts";
import {
	BACKINGS,
	type Disks,
	MIB,
	type Scene,
	type SceneDisk,
} from "./scene.ts";

/** A check of all disks. */
export type Check = (scene: Scene) => Promise<void>;

export const SEEN_MS = 10_000; // for the guest to notice a change
const LOAD_SECONDS = 60; // longer than any load is left running
/** Of a held load, a disk: as much as leaves the guest time for what is looked at. */
const HELD_IOPS = 300;

export const each = ({ disks }: Scene, role: keyof Disks): SceneDisk[] =>
	BACKINGS.map((backing) => disks[backing][role]);
const devices = (disks: SceneDisk[]) =>
	disks.map(({ device }) => device).join(" ");

/** Has the bdevs do no more than so many requests a second; 0: as many as they can. */
function limit(
	{ instance }: Scene,
	disks: SceneDisk[],
	rw_ios_per_sec: number,
) {
	return onEach(disks, async ({ name }) => {
		await instance.rpc("bdev_set_qos_limit", { name, rw_ios_per_sec });
	});
}

/**
 * As underLoad, with bdevs that are limited to what does not keep the guest busy: at any time
 * they hold as many requests as fio may have under way. Whoever deletes one need not end it.
 */
export async function underHeldLoad(
	scene: Scene,
	disks: SceneDisk[],
): Promise<{ end(): Promise<void> }> {
	await limit(scene, disks, HELD_IOPS);
	const load = await underLoad(scene, disks);
	return {
		async end() {
			await load.end();
			await limit(scene, disks, 0);
		},
	};
}

/** Starts fio on disks and waits until their requests arrive. Gives a way to end it. */
export async function underLoad(
	scene: Scene,
	disks: SceneDisk[],
): Promise<{ ended: Promise<unknown>; end(): Promise<void> }> {
	const before = await Promise.all(disks.map((disk) => readCount(scene, disk)));
	const ended = scene.guest
		.try(`load ${LOAD_SECONDS} ${devices(disks)}`, (LOAD_SECONDS + 30) * 1000)
		.catch((error: unknown) => error);
	for (const [i, disk] of disks.entries())
		await waitUntil(
			async () => (await readCount(scene, disk)) > (before[i] ?? 0) + 100,
			30_000,
			() => `fio works on ${disk.name}`,
		);
	const end = async () => {
		// Told to end in good order while it waits, fio may wait for ever, with nothing under way.
		await scene.guest.run("killall -KILL fio || true");
		await ended;
	};
	return { ended, end };
}

export async function assertWorking(
	{ guest, instance }: Scene,
	disks: SceneDisk[],
): Promise<void> {
	await instance.assertHealthy();
	const jobs = fioJobs(await guest.run(`verify 16 1M ${devices(disks)}`));
	assert.deepEqual(
		jobs.map(({ error, read }) => [error, read.total_ios]),
		disks.map(() => [0, MIB / 4096]),
	);
}

/** Resizes disks and waits until the guest has taken note. */
async function resizeAll(
	scene: Scene,
	disks: SceneDisk[],
	bytes: number,
): Promise<void> {
	await onEach(disks, async (disk) => {
		await resizeDisk(scene, disk, bytes);
		await scene.guest.run(`wait_size ${disk.device} ${bytes}`, SEEN_MS);
	});
}

const resize: Check = async (scene) => {
	const disks = each(scene, "resized");
	await onEach(disks, async (disk) => {
		const { guest } = scene;
		const { device } = disk;
		const sum = await guest.run(`write_random ${device} 0 ${MIB}`);
		const larger = disk.bytes + 8 * MIB;
		await resizeAll(scene, [disk], larger);
		assert.equal(await guest.run(`disk_sum ${device} 0 ${MIB}`), sum);
		// The new end can be written, and what was never written reads as zeroes.
		await guest.run(`keeps ${device} ${larger - MIB} ${MIB}`);
		const added = await guest.run(`disk_sum ${device} ${disk.bytes} ${MIB}`);
		assert.equal(added.trim(), sumOfZeroes(MIB));
	});
	// And once more, while the guest works on them.
	const load = await underHeldLoad(scene, disks);
	await resizeAll(scene, disks, 32 * MIB);
	await load.end();
	// Smaller only at rest: a write that is under way makes a file longer again.
	await resizeAll(scene, disks, 8 * MIB);
	await assertWorking(scene, disks);
};

/** The driver resets the device and starts it again. */
const rebind: Check = async (scene) => {
	const { guest } = scene;
	// One disk after the other: a free name goes to whichever is bound first.
	for (const { device } of each(scene, "small")) {
		const sum = await guest.run(`write_random ${device} 0 ${MIB}`);
		for (let i = 0; i < 3; i++)
			assert.equal(
				await guest.run(
					`bind $(unbind ${device}) && disk_sum ${device} 0 ${MIB}`,
				),
				sum,
			);
	}
};

const rebindUnderLoad: Check = async (scene) => {
	const disks = each(scene, "large");
	const load = await underHeldLoad(scene, disks);
	const unbound: string[] = [];
	for (const { device } of disks)
		unbound.push(await scene.guest.run(`unbind ${device}`));
	await load.end();
	for (const device of unbound) await scene.guest.run(`bind ${device}`);
	await assertWorking(scene, disks);
};

/** The machine starts again in the middle of everything. */
const resetUnderLoad: Check = async (scene) => {
	const { guest } = scene;
	const kept = () =>
		each(scene, "small")
			.map(({ device }) => `disk_sum ${device} ${8 * MIB} ${MIB}`)
			.join(";");
	for (const { device } of each(scene, "small"))
		await guest.run(`write_random ${device} ${8 * MIB} ${MIB}`);
	const sums = await guest.run(kept());
	const load = await underLoad(scene, each(scene, "large"));
	await guest.reset();
	await load.ended;
	await scene.locate();
	assert.equal(await guest.run(kept()), sums);
	await assertWorking(scene, each(scene, "large"));
};

const remove: Check = async (scene) => {
	const { guest } = scene;
	const disks = each(scene, "doomed");
	const load = await underLoad(scene, disks);
	await onEach(disks, (disk) => deleteDisk(scene, disk));
	await onEach(disks, async ({ device }) => {
		// The kernel may notice by errors or by a disk of size 0: nothing is read.
		const read = await guest.run(
			`dd if=/dev/${device} bs=4096 count=1 iflag=direct 2>/dev/null | wc -c`,
		);
		assert.equal(Number(read), 0);
		const write = await guest.try(
			`dd if=/dev/zero of=/dev/${device} bs=4096 count=1 oflag=direct`,
		);
		assert.notEqual(write.status, 0, "nothing is written");
	});
	await load.end();
	// The others feel nothing of it.
	await assertWorking(scene, each(scene, "small"));
};

const sums = (scene: Scene) =>
	scene.guest.run(
		`for disk in ${devices(each(scene, "small"))}; do disk_sum $disk 0 ${MIB}; done`,
	);

export const reboot: Check = async (scene) => {
	const before = await sums(scene);
	await scene.guest.reboot();
	await scene.locate();
	assert.equal(await sums(scene), before);
	await assertWorking(scene, each(scene, "small"));
};

/** Also the start of a guest with controllers whose bdevs are gone. */
const rebootWithoutBdevs: Check = async (scene) => {
	await reboot(scene);
	for (const { device } of each(scene, "doomed"))
		assert.equal(
			Number(await scene.guest.run(`cat /sys/block/${device}/size`)),
			0,
		);
};

/** What befalls disks of either sort. */
export const lifeChecks: [string, Check][] = [
	["resize, at rest and under I/O", resize],
	["reset of the guest under I/O", resetUnderLoad],
];

/** What befalls the machine, or its PCI device: another than user-mode-linux's. */
export const machineChecks: [string, Check][] = [
	["reset of the device under I/O", rebindUnderLoad],
	...lifeChecks,
	["deletion of the bdev under I/O", remove],
];

export const blkLifeChecks: [string, Check][] = [
	["reset of the device", rebind],
	["reset of the device under I/O", rebindUnderLoad],
	...lifeChecks,
	["deletion of the bdev under I/O", remove],
	["reboot of the guest", rebootWithoutBdevs],
];
