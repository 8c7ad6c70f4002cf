// SPDX-License-Identifier: MIT
// What a guest's disk must do with data. Each check leaves the scene fit for the next.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import {
	type Check,
	countRequests,
	DISKS,
	MIB,
	QUEUES,
	type Scene,
	sumOfZeroes,
} from "./scene.ts";

interface FioJob {
	error: number;
	read: { total_ios: number; iops: number };
	write: { total_ios: number };
}

/** The only job in what fio printed, which may have warnings before the JSON. */
export function fioJob(output: string): FioJob {
	const { jobs } = JSON.parse(output.slice(output.indexOf("{"))) as {
		jobs: FioJob[];
	};
	const job = jobs[0];
	assert(job, "fio tells of a job");
	return job;
}

const identity: Check = async ({ guest }) => {
	for (const disk of Object.values(DISKS)) {
		const sys = `/sys/block/${disk.device}`;
		const files = `${sys}/size ${sys}/queue/logical_block_size ${sys}/ro ${sys}/serial`;
		assert.deepEqual(
			(await guest.run(`cat ${files}; echo`)).trim().split("\n"),
			[
				`${disk.bytes / 512}`,
				`${disk.blockSize}`,
				disk.readonly ? "1" : "0",
				disk.name,
			],
		);
	}
};

const features: Check = async ({ guest }) => {
	const bits = await guest.run(
		"cat /sys/bus/virtio/devices/$(virtio_device vda)/features",
	);
	const wanted = {
		SEG_MAX: 2,
		BLK_SIZE: 6,
		FLUSH: 9,
		TOPOLOGY: 10,
		CONFIG_WCE: 11,
		DISCARD: 13,
		WRITE_ZEROES: 14,
		INDIRECT_DESC: 28,
		EVENT_IDX: 29,
		VERSION_1: 32,
	};
	for (const [name, bit] of Object.entries(wanted))
		assert.equal(bits[bit], "1", `${name} is negotiated`);
};

const readBack: Check = async ({ guest }) => {
	for (const { device, bytes } of [DISKS.main, DISKS.large]) {
		// At the start, somewhere in the middle, and up to the last byte.
		for (const [from, length] of [
			[0, MIB],
			[21 * MIB + 65536, MIB + 4096],
			[bytes - MIB / 2, MIB / 2],
		] as const) {
			const written = await guest.run(
				`write_random ${device} ${from} ${length}`,
			);
			assert.equal(
				await guest.run(`disk_sum ${device} ${from} ${length}`),
				written,
			);
		}
	}
};

const filesystem: Check = async ({ guest }) => {
	for (const { device } of [DISKS.main, DISKS.large])
		await guest.run(`filesystem ${device}`);
};

function verify(depth: number, mib: number): Check {
	return async ({ guest }) => {
		for (const { device } of [DISKS.main, DISKS.large]) {
			const job = fioJob(await guest.run(`verify ${device} ${depth} ${mib}M`));
			assert.equal(job.error, 0);
			assert.equal(job.write.total_ios, (mib * MIB) / 4096);
			assert.equal(
				job.read.total_ios,
				job.write.total_ios,
				"all is read again",
			);
		}
	};
}

/** Random data, a hole made in the middle of it, and what is left on either side. */
async function punch(
	{ guest }: Scene,
	device: string,
	command: string,
): Promise<void> {
	await guest.run(`write_random ${device} 0 ${4 * MIB}`);
	const beside = `disk_sum ${device} 0 ${MIB}; disk_sum ${device} ${3 * MIB} ${MIB}`;
	const before = await guest.run(beside);
	await guest.run(`${command} -o ${MIB} -l ${2 * MIB} /dev/${device}`);
	assert.equal(
		(await guest.run(`disk_sum ${device} ${MIB} ${2 * MIB}`)).trim(),
		sumOfZeroes(2 * MIB),
	);
	assert.equal(await guest.run(beside), before, "what is beside it stays");
}

const discard: Check = async (scene) => {
	for (const disk of [DISKS.main, DISKS.large]) {
		const allocated = () => statSync(scene.file(disk)).blocks * 512;
		// So that all of what is punched out is there before.
		await scene.guest.run(`write_random ${disk.device} 0 ${4 * MIB}`);
		const full = scene.backing === "file" ? allocated() : 0;
		const requests = await countRequests(scene, disk, "unmap", () =>
			punch(scene, disk.device, "blkdiscard"),
		);
		assert(requests > 0, "DISCARD reaches the bdev");
		if (scene.backing === "file")
			assert(
				allocated() <= full - 2 * MIB,
				`the host has its space back: ${full} before, ${allocated()} after`,
			);
	}
};

const writeZeroes: Check = async (scene) => {
	for (const disk of [DISKS.main, DISKS.large]) {
		const requests = await countRequests(scene, disk, "write_zeroes", () =>
			punch(scene, disk.device, "blkdiscard -z"),
		);
		assert(requests > 0, "WRITE_ZEROES reaches the bdev");
	}
};

const flush: Check = async (scene) => {
	const { device } = DISKS.main;
	const write = () =>
		scene.guest.run(
			`dd if=/dev/urandom of=/dev/${device} bs=4096 count=4 conv=fsync`,
		);
	assert((await countRequests(scene, DISKS.main, "flush", write)) > 0);
};

/** The guest switches the disk's write cache off, and on: it flushes only while it is on. */
const writeCache: Check = async (scene) => {
	const { guest } = scene;
	const { device } = DISKS.main;
	const sys = `/sys/block/${device}`;
	const modes = `cat ${sys}/cache_type ${sys}/queue/write_cache`;
	const write = () =>
		guest.run(
			`dd if=/dev/urandom of=/dev/${device} bs=4096 count=4 conv=fsync`,
		);
	assert.equal(await guest.run(modes), "write back\nwrite back\n");
	await guest.run(`echo "write through" >${sys}/cache_type`);
	assert.equal(await guest.run(modes), "write through\nwrite through\n");
	assert.equal(await countRequests(scene, DISKS.main, "flush", write), 0);
	await guest.run(`echo "write back" >${sys}/cache_type`);
	assert.equal(await guest.run(modes), "write back\nwrite back\n");
	assert((await countRequests(scene, DISKS.main, "flush", write)) > 0);
};

const readOnly: Check = async ({ guest }) => {
	const { device, bytes } = DISKS.readonly;
	const write = await guest.try(
		`dd if=/dev/urandom of=/dev/${device} bs=4096 count=1 conv=fsync`,
	);
	assert.notEqual(write.status, 0, "a write fails");
	assert.notEqual(
		(await guest.try(`mkfs.ext4 -q -F /dev/${device}`)).status,
		0,
	);
	assert.notEqual((await guest.try(`blkdiscard /dev/${device}`)).status, 0);
	// Reads work; and there is nothing that somebody wrote.
	assert.equal(
		(await guest.run(`disk_sum ${device} 0 ${bytes}`)).trim(),
		sumOfZeroes(bytes),
	);
};

/** Every queue is there and carries I/O: Linux gives each processor one of its own. */
const queues: Check = async (scene) => {
	const { guest, kind } = scene;
	const { device } = DISKS.main;
	const list = await guest.run(`ls /sys/block/${device}/mq`);
	assert.equal(list.trim().split("\n").length, QUEUES[kind]);
	for (let cpu = 0; cpu < QUEUES[kind]; cpu++) {
		const reads = await countRequests(scene, DISKS.main, "read", () =>
			guest.run(
				`taskset -c ${cpu} dd if=/dev/${device} of=/dev/null bs=4096 count=100 iflag=direct`,
			),
		);
		assert(reads >= 100, `processor ${cpu} reads through its queue`);
	}
};

export const dataChecks: [string, Check][] = [
	["capacity, block size, read-only flag and serial number", identity],
	["features in use", features],
	["what is written is read again", readBack],
	["a file system", filesystem],
	["fio --verify at depth 1", verify(1, 1)],
	["fio --verify at depth 32", verify(32, 4)],
	["discard", discard],
	["write zeroes", writeZeroes],
	["flush", flush],
	["write cache off and on", writeCache],
	["a read-only disk refuses to be written", readOnly],
	["queues", queues],
];
