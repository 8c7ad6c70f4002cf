// SPDX-License-Identifier: MIT
// What happens to a guest's SCSI disks while they are in use.
import assert from "node:assert/strict";
import {
	assertWorking,
	type Check,
	each,
	lifeChecks,
	reboot,
	underHeldLoad,
	underLoad,
} from "./life-checks.ts";
import { deleteDisk, fioJobs, onEach } from "./observe.ts";
import { CONTROLLER, createBdev, MIB, type Scene } from "./scene.ts";

const FIRST = 20;
const COUNT = 10;
const SEEN_MS = 20_000; // for the guest to notice a change

const added = (i: number) => ({
	name: `added-${i}`,
	target: FIRST + i,
});

async function addTarget(
	{ instance }: Scene,
	bdev_name: string,
	scsi_target_num: number,
): Promise<void> {
	const number = await instance.rpc("vhost_scsi_controller_add_target", {
		ctrlr: CONTROLLER,
		scsi_target_num,
		bdev_name,
	});
	assert.equal(number, scsi_target_num);
}

/** Ten disks come and go while the others work: twenty at once. */
const hotplug: Check = async (scene) => {
	const { guest, instance } = scene;
	const load = await underHeldLoad(scene, each(scene, "large"));
	const disks = Array.from({ length: COUNT }, (_, i) => added(i));
	for (const { name, target } of disks) {
		const shape = { name, num_blocks: (4 * MIB) / 512, block_size: 512 };
		await instance.rpc("bdev_malloc_create", shape);
		await addTarget(scene, name, target);
	}
	const devices: string[] = [];
	for (const { target } of disks)
		devices.push((await guest.run(`scsi_disk ${target} 0`, SEEN_MS)).trim());
	assert.equal(Number(await guest.run("lsscsi | grep -c VHOSTCTL")), 20);
	const jobs = fioJobs(await guest.run(`verify 8 512k ${devices.join(" ")}`));
	assert.deepEqual(
		jobs.map(({ error }) => error),
		devices.map(() => 0),
	);
	for (const { name, target } of disks) {
		await instance.rpc("vhost_scsi_controller_remove_target", {
			ctrlr: CONTROLLER,
			scsi_target_num: target,
		});
		await instance.rpc("bdev_malloc_delete", { name });
	}
	for (const device of devices) await guest.run(`wait_gone ${device}`, SEEN_MS);
	await load.end();
	await assertWorking(scene, each(scene, "large"));
};

/** A disk goes while it is in use; it comes back under its name. */
const removeUnderLoad: Check = async (scene) => {
	const { guest, instance } = scene;
	const disks = each(scene, "doomed");
	const load = await underLoad(scene, disks);
	await onEach(disks, async ({ target, device }) => {
		await instance.rpc("vhost_scsi_controller_remove_target", {
			ctrlr: CONTROLLER,
			scsi_target_num: target,
		});
		await guest.run(`wait_gone ${device}`, SEEN_MS);
	});
	await load.end();
	for (const { name, target } of disks) await addTarget(scene, name, target);
	await scene.locate();
	await assertWorking(scene, disks);
};

/** The bdev itself goes: its logical unit with it. */
const deleteUnderLoad: Check = async (scene) => {
	const { guest } = scene;
	const disks = each(scene, "doomed");
	const load = await underLoad(scene, disks);
	await onEach(disks, async (disk) => {
		await deleteDisk(scene, disk);
		await guest.run(`wait_gone ${disk.device}`, SEEN_MS);
	});
	await load.end();
	// The others feel nothing of it.
	await assertWorking(scene, each(scene, "small"));
	for (const disk of disks) {
		await createBdev(scene.instance, disk);
		await addTarget(scene, disk.name, disk.target);
	}
	await scene.locate();
	await assertWorking(scene, disks);
};

/** The driver lets go of the controller, at rest and under I/O, and takes it again. */
const rebind: Check = async (scene) => {
	const { guest } = scene;
	const disks = each(scene, "large");
	const again = async () => {
		const unbound = await guest.run(`unbind ${disks[0]?.device}`);
		return async () => {
			await guest.run(`bind ${unbound}`);
			await scene.locate();
		};
	};
	await (await again())();
	await assertWorking(scene, disks);
	const load = await underHeldLoad(scene, disks);
	const bind = await again();
	await load.end();
	await bind();
	await assertWorking(scene, disks);
};

/** Resets of the device with I/O in flight lose nothing that was written. */
const resetDisks: Check = async (scene) => {
	const disks = each(scene, "large");
	const load = await underHeldLoad(scene, disks);
	for (let i = 0; i < 5; i++)
		for (const { device } of disks)
			await scene.guest.run(`sg_reset -d /dev/${device}`);
	await load.end();
	await assertWorking(scene, disks);
};

export const scsiLifeChecks: [string, Check][] = [
	["hot add and hot remove beside I/O", hotplug],
	["removal under I/O, and return", removeUnderLoad],
	["deletion of the bdev under I/O, and return", deleteUnderLoad],
	["reset of the controller", rebind],
	["LOGICAL UNIT RESET under I/O", resetDisks],
	...lifeChecks,
	["reboot of the guest", reboot],
];
