// SPDX-License-Identifier: MIT
// What a guest's disks must do with data. Each check leaves the disks fit for the next.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
	countRequests,
	fioJobs,
	onEach,
	readCount,
	ringTotals,
	sumOfZeroes,
} from "./observe.ts";
import {
	CONTROLLER,
	type Disks,
	fileOf,
	MIB,
	QUEUES,
	type Scene,
	type SceneDisk,
} from "./scene.ts";

/** A check of the disks over one backing. */
export type Check = (scene: Scene, disks: Disks) => Promise<void>;

const readBack: Check = ({ guest }, { small, large }) =>
	onEach([small, large], async ({ device, bytes }) => {
		// At the start, somewhere in the middle, and up to the last byte.
		await guest.run(`keeps ${device} 0 ${MIB}`);
		await guest.run(`keeps ${device} ${21 * MIB + 4096} ${MIB + 4096}`);
		await guest.run(`keeps ${device} ${bytes - 65536} 65536`);
	});

const filesystem: Check = ({ guest }, { small, large }) =>
	onEach([small, large], async ({ device }) => {
		await guest.run(`filesystem ${device}`);
	});

function verify(depth: number, mib: number): Check {
	return async ({ guest }, { small, large }) => {
		const devices = `${small.device} ${large.device}`;
		const jobs = fioJobs(await guest.run(`verify ${depth} ${mib}M ${devices}`));
		assert.equal(jobs.length, 2);
		for (const { error, read, write } of jobs) {
			assert.equal(error, 0);
			assert.equal(write.total_ios, (mib * MIB) / 4096);
			assert.equal(read.total_ios, write.total_ios, "all is read again");
		}
	};
}

/** Random data, a hole made in the middle of it, and what is left on either side. */
async function punch(
	{ guest }: Scene,
	{ device }: SceneDisk,
	command: string,
): Promise<void> {
	const beside = `disk_sum ${device} 0 ${MIB}; disk_sum ${device} ${3 * MIB} ${MIB}`;
	const before = await guest.run(
		`write_random ${device} 0 ${4 * MIB} >/dev/null && ${beside}`,
	);
	assert.notEqual(before.split("\n")[0], sumOfZeroes(MIB));
	await guest.run(`${command} -o ${MIB} -l ${2 * MIB} /dev/${device}`);
	const [hole, ...after] = (
		await guest.run(`disk_sum ${device} ${MIB} ${2 * MIB}; ${beside}`)
	).split("\n");
	assert.equal(hole, sumOfZeroes(2 * MIB));
	assert.equal(after.join("\n"), before, "what is beside it stays");
}

const discard: Check = (scene, { small, large }) =>
	onEach([small, large], async (disk) => {
		const { guest, instance } = scene;
		const allocated = () => statSync(fileOf(instance, disk)).blocks * 512;
		const isFile = disk.backing === "file";
		// So that all that is punched out is there before.
		if (isFile) await guest.run(`write_random ${disk.device} 0 ${4 * MIB}`);
		const full = isFile ? allocated() : 0;
		const requests = await countRequests(scene, disk, "unmap", () =>
			punch(scene, disk, "blkdiscard"),
		);
		assert(requests > 0, "DISCARD reaches the bdev");
		if (isFile)
			assert(
				allocated() <= full - 2 * MIB,
				`the host has its space back: ${full} before, ${allocated()} after`,
			);
	});

const writeZeroes: Check = (scene, { small, large }) =>
	onEach([small, large], async (disk) => {
		const requests = await countRequests(scene, disk, "write_zeroes", () =>
			punch(scene, disk, "blkdiscard -z"),
		);
		assert(requests > 0, "WRITE_ZEROES reaches the bdev");
	});

export const syncedWrite = (device: string) =>
	`dd if=/dev/urandom of=/dev/${device} bs=4096 count=4 conv=fsync`;

const flush: Check = async (scene, { small }) => {
	const flushes = await countRequests(scene, small, "flush", () =>
		scene.guest.run(syncedWrite(small.device)),
	);
	assert(flushes > 0, "fsync reaches the bdev");
};

const readOnly: Check = async ({ guest }, { readonly: { device, bytes } }) => {
	for (const change of [
		syncedWrite(device),
		`mkfs.ext4 -q -F /dev/${device}`,
		`blkdiscard /dev/${device}`,
	])
		assert.notEqual((await guest.try(change)).status, 0, change);
	// Reads work; and there is nothing that somebody wrote.
	const sum = await guest.run(`disk_sum ${device} 0 ${bytes}`);
	assert.equal(sum.trim(), sumOfZeroes(bytes));
};

/** Every queue is there and carries I/O: Linux gives each processor one of its own. */
const queues: Check = async (scene, { small }) => {
	const { guest, kind } = scene;
	const { device } = small;
	const list = await guest.run(`ls /sys/block/${device}/mq`);
	assert.equal(list.trim().split("\n").length, QUEUES[kind]);
	for (let cpu = 0; cpu < QUEUES[kind]; cpu++) {
		const reads = await countRequests(scene, small, "read", () =>
			guest.run(
				`taskset -c ${cpu} dd if=/dev/${device} of=/dev/null bs=4096 count=100 iflag=direct`,
			),
		);
		assert(reads >= 100, `processor ${cpu} reads through its queue`);
	}
};

/** For fio to get going on a loaded machine. */
const PATIENCE_MS = 30_000;

/** From never delayed to as long as it gets; the guest's rate is above 100 a second. */
const SETTINGS: [delayBase: number, threshold: number][] = [
	[1_000_000, 100],
	[50, 1000],
	[0, 60_000],
	[2000, 100],
];

/** fio waits for its calls alone: one that does not come would hold it for ever. */
const coalesced: Check = async (scene, { small: disk }) => {
	const { guest, instance, transport } = scene;
	const { name, device } = disk;
	const ctrlr = transport === "scsi" ? CONTROLLER : name;
	const set = (delay_base_us: number, iops_threshold: number) =>
		instance.rpc("vhost_controller_set_coalescing", {
			ctrlr,
			delay_base_us,
			iops_threshold,
		});
	const delayed = async () => (await ringTotals(scene, ctrlr)).calls_delayed;
	const before = await delayed();
	const reads = await readCount(scene, disk);
	const worked = async () =>
		(await delayed()) > before && (await readCount(scene, disk)) > reads + 64;
	const end = Date.now() + PATIENCE_MS;
	await guest.run(`verify_on coalesced ${device} --size=8M`);
	do {
		for (const setting of [...SETTINGS, ...SETTINGS]) {
			await set(...setting);
			await sleep(100);
		}
	} while (!(await worked()) && Date.now() < end);
	const [job] = fioJobs(await guest.run("verify_end coalesced"));
	assert.equal(job?.error, 0);
	assert(job.write.total_ios > 0);
	assert(await worked(), "calls were put off, and blocks verified");
	await set(0, 60_000);
};

export const dataChecks: [string, Check][] = [
	["what is written is read again", readBack],
	["a file system", filesystem],
	["fio --verify at depth 1", verify(1, 1)],
	["fio --verify at depth 32", verify(32, 4)],
	["fio --verify while calls are coalesced, this way and that", coalesced],
	["discard", discard],
	["write zeroes", writeZeroes],
	["flush", flush],
	["a read-only disk refuses to be written", readOnly],
	["queues", queues],
];
