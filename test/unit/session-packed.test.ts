// SPDX-License-Identifier: MIT
// Packed rings as the messages set them up: sizes, bases, and changes of the format.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
	decodeState,
	encodeAddress,
	encodeFdIndex,
	encodeState,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import { F_PROTOCOL_FEATURES } from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_BLK_F, VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, RING_BASE_PACKED } from "../../src/ffi/native.ts";
import { waitUntil } from "../support/processes.ts";
import {
	ack,
	makeDriver,
	makeRig,
	negotiate,
	type Rig,
	say,
	wire,
} from "../support/session-rig.ts";
import type { RawPeer } from "../support/vhost-user.ts";

let rig: Rig;
/** Bases that rings were made with. */
let made: number[] = [];

beforeEach(() => {
	rig = makeRig();
	rig.bench.device.features |= VIRTIO_F.RING_PACKED;
	made = [];
	const create = native.ringCreate;
	mock.method(native, "ringCreate", (config: Parameters<typeof create>[0]) => {
		made.push(config.base);
		return create(config);
	});
});
afterEach(async () => {
	mock.restoreAll();
	await rig.close();
});

const state = (num: number) => encodeState({ index: 0, num });
async function base(peer: RawPeer): Promise<number> {
	const answer = await peer.ask("GET_VRING_BASE", state(0));
	return decodeState(answer?.payload ?? Buffer.alloc(0)).num;
}

test("packed rings have any size, and bases of 32 bits", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.RING_PACKED);
	for (const num of [1, 2, 3, 7, 1000, 32767, 32768])
		assert.equal(await ack(peer, "SET_VRING_NUM", state(num)), 0n, String(num));
	for (const num of [0, 32769, 0xffffffff])
		assert.equal(await ack(peer, "SET_VRING_NUM", state(num)), 1n, String(num));
	assert.equal(await base(peer), RING_BASE_PACKED);
	for (const num of [0x80078003, 0xffffffff, 0]) {
		assert.equal(await ack(peer, "SET_VRING_BASE", state(num)), 0n);
		assert.equal(await base(peer), num);
	}
	await say(peer, "RESET_OWNER");
	assert.equal(await base(peer), 0, "a split ring's beginning");
	assert.equal(await ack(peer, "SET_VRING_NUM", state(3)), 1n);
	assert.equal(await ack(peer, "SET_VRING_BASE", state(0x10000)), 1n);
	await rig.assertNothingLeft(peer);
});

test("a ring goes on where it stopped, wrap counters included", async () => {
	const { peer } = rig.bench.connect();
	const features = VIRTIO_F.RING_PACKED;
	await negotiate(peer, features | VIRTIO_BLK_F.FLUSH);
	assert.equal(await rig.memTable(peer), 0n);
	const driver = await makeDriver(rig, peer, { features });
	let place = 0; // descriptors taken, of 8 with two a request
	for (let round = 0; round < 12; round++) {
		const kick = encodeFdIndex(0, true);
		await say(peer, "SET_VRING_KICK", kick, [driver.kick]);
		driver.offer();
		await waitUntil(
			() => driver.take() === 0,
			5000,
			() => "the request",
		);
		place += 2;
		const half = (place % 8) | (place & 8 ? 0 : 0x8000);
		const now = await base(peer);
		assert.equal(now & 0xffff, half);
		assert.equal(now >>> 16, half);
	}
	driver.close();
	await rig.assertNothingLeft(peer);
});

test("base 0 of a ring that was not used is its beginning; of another it is base 0", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.RING_PACKED);
	assert.equal(await rig.memTable(peer), 0n);
	const AVAIL = 1 << 7;
	const USED = 1 << 15;
	for (const [flags, expected] of [
		[0, RING_BASE_PACKED],
		[AVAIL, RING_BASE_PACKED], // offered already, for the first time
		[AVAIL | USED, 0], // used in the first round
		[USED, 0], // offered in the second
	] as const) {
		await rig.prepare(peer, 0);
		const bytes = Buffer.alloc(16);
		bytes.writeUInt16LE(flags, 14);
		native.copyIn(rig.address(0).desc, bytes);
		assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
		assert.equal(made.at(-1), expected, `flags ${flags}`);
		await base(peer);
		native.copyIn(rig.address(0).desc, Buffer.alloc(16));
	}
	// Any other base is what it says.
	await rig.prepare(peer, 0);
	await say(peer, "SET_VRING_BASE", state(0x80028002));
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(made.at(-1), 0x80028002);
	await rig.assertNothingLeft(peer);
});

for (const [what, features, begins] of [
	["split", 0n, 0],
	["packed", VIRTIO_F.RING_PACKED, RING_BASE_PACKED],
] as const)
	test(`QEMU stops a ${what} device by its status, and then asks where its rings were`, async () => {
		const { peer } = rig.bench.connect();
		await negotiate(peer, features | VIRTIO_BLK_F.FLUSH);
		assert.equal(await rig.memTable(peer), 0n);
		const driver = await makeDriver(rig, peer, { features });
		const kick = encodeFdIndex(0, true);
		await say(peer, "SET_VRING_KICK", kick, [driver.kick]);
		driver.offer();
		await waitUntil(
			() => driver.take() === 0,
			5000,
			() => "the request",
		);
		await say(peer, "SET_STATUS", encodeU64(0n));
		await say(peer, "SET_VRING_ENABLE", state(0));
		const stopped = await base(peer);
		assert.equal(stopped, features === 0n ? 1 : 0x80028002);
		assert.equal(await base(peer), stopped);
		// A driver that begins anew begins at the beginning.
		await negotiate(peer, features);
		native.copyIn(rig.pages.addr, Buffer.alloc(8192));
		await say(peer, "SET_VRING_NUM", state(8));
		await say(peer, "SET_VRING_ADDR", encodeAddress(rig.address(0)));
		await say(peer, "SET_VRING_ENABLE", state(1));
		assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
		assert.equal(made.at(-1), begins);
		assert.equal(await base(peer), begins);
		// The other resets leave nothing of it.
		await say(peer, "RESET_DEVICE");
		assert.equal(await base(peer), 0);
		driver.close();
		await rig.assertNothingLeft(peer);
	});

test("a running ring is of no use in another format: it waits for its next kick", async () => {
	const { peer, session } = rig.bench.connect();
	await rig.running(peer, 0);
	const both = F_PROTOCOL_FEATURES | VIRTIO_F.VERSION_1;
	const packed = encodeU64(both | VIRTIO_F.RING_PACKED);
	await say(peer, "SET_FEATURES", packed);
	assert.equal(session.rings[0]?.running, false);
	assert.equal(session.rings[0]?.packed, true);
	assert.equal(session.rings[0]?.base, RING_BASE_PACKED);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(session.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("a ring whose size or base does not fit its format does not start", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.RING_PACKED);
	assert.equal(await rig.memTable(peer), 0n);
	await rig.prepare(peer, 0);
	await say(peer, "SET_VRING_BASE", state(0x80088000)); // used: place 8 of 8
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 1n);
	await say(peer, "SET_VRING_BASE", state(RING_BASE_PACKED));
	await say(peer, "SET_VRING_NUM", state(7));
	const split = F_PROTOCOL_FEATURES | VIRTIO_F.VERSION_1;
	await say(peer, "SET_FEATURES", encodeU64(split));
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 1n);
	assert.equal(session.rings[0]?.running, false);
	assert.match(rig.bench.device.logged.at(-1) ?? "", /ring 0: .*EINVAL/);
	await rig.assertNothingLeft(peer);
});
