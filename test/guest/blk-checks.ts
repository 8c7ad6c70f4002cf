// SPDX-License-Identifier: MIT
// What a guest sees of virtio-blk itself.
import assert from "node:assert/strict";
import { type Check, syncedWrite } from "./data-checks.ts";
import { countRequests } from "./observe.ts";

const identity: Check = async ({ guest }, disks) => {
	for (const disk of Object.values(disks)) {
		const sys = `/sys/block/${disk.device}`;
		const files = `${sys}/size ${sys}/queue/logical_block_size ${sys}/ro ${sys}/serial`;
		// A serial number has room for 20 bytes, and none for an end of line.
		assert.equal(
			await guest.run(`cat ${files}`),
			[
				disk.bytes / 512,
				disk.blockSize,
				disk.readonly ? 1 : 0,
				disk.name.slice(0, 20),
			].join("\n"),
		);
	}
};

const features: Check = async ({ guest }, { small }) => {
	const bits = await guest.run(
		`cat /sys/bus/virtio/devices/$(virtio_device ${small.device})/features`,
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

/** The guest switches the disk's write cache off, and on: it flushes only while it is on. */
const writeCache: Check = async (scene, { small }) => {
	const { guest } = scene;
	const sys = `/sys/block/${small.device}`;
	const modes = `cat ${sys}/cache_type ${sys}/queue/write_cache`;
	const flushes = () =>
		countRequests(scene, small, "flush", () =>
			guest.run(syncedWrite(small.device)),
		);
	const set = (mode: string) =>
		guest.run(`echo "${mode}" >${sys}/cache_type && ${modes}`);
	assert.equal(await guest.run(modes), "write back\nwrite back\n");
	assert.equal(await set("write through"), "write through\nwrite through\n");
	assert.equal(await flushes(), 0);
	assert.equal(await set("write back"), "write back\nwrite back\n");
	assert((await flushes()) > 0);
};

export const blkChecks: [string, Check][] = [
	["capacity, block size, read-only flag and serial number", identity],
	["features in use", features],
	["write cache off and on", writeCache],
];
