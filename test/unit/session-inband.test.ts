// SPDX-License-Identifier: MIT
// Kicks, calls and errors as messages.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, test } from "node:test";
import {
	decodeState,
	encodeState,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	FLAG_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_BLK_F } from "../../src/engine/virtio/features.ts";
import { native } from "../../src/ffi/native.ts";
import { waitUntil, within } from "../support/processes.ts";
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

const { INBAND_NOTIFICATIONS, BACKEND_REQ, REPLY_ACK } = PROTOCOL_FEATURES;
const INBAND = DEFAULT_PROTOCOL_FEATURES | INBAND_NOTIFICATIONS;
const CALL = 4;
const ERROR = 5;

let rig: Rig;

beforeEach(() => {
	rig = makeRig();
	rig.bench.device.protocolFeatures = INBAND;
});
afterEach(() => rig.close());

const openChannel = (peer: RawPeer) => rig.openChannel(peer);
const kick = (peer: RawPeer, index = 0, num = 0) =>
	ack(peer, "VRING_KICK", encodeState({ index, num }));

/** The next message of the channel must be that one, about ring 0, asking for an answer. */
async function expect(channel: RawPeer, request: number): Promise<void> {
	const message = await channel.receive();
	assert.equal(message?.request, request);
	assert.equal(message?.flags, FLAG_NEED_REPLY | 1);
	const state = decodeState(message?.payload ?? Buffer.alloc(0));
	assert.deepEqual(state, { index: 0, num: 0 });
}
const confirm = (channel: RawPeer, request: number) =>
	channel.send(request, encodeU64(0n), [], FLAG_REPLY);

test("a ring without descriptors is kicked and calls by messages", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer, VIRTIO_BLK_F.FLUSH, INBAND);
	const channel = await openChannel(peer);
	assert.equal(await rig.memTable(peer), 0n);
	const driver = await makeDriver(rig, peer);
	assert.equal(session.rings[0]?.running, false);
	assert.equal(await kick(peer), 0n);
	assert.equal(session.rings[0]?.running, true);
	for (let i = 0; i < 50; i++) {
		driver.offer();
		assert.equal(await kick(peer), 0n);
		await expect(channel, CALL);
		assert.equal(driver.take(), 0);
		confirm(channel, CALL);
	}
	// While one call is not answered the others wait, and become one.
	for (let i = 0; i < 4; i++) {
		driver.offer();
		assert.equal(await kick(peer), 0n);
		await waitUntil(
			() => driver.take() === 0,
			5000,
			() => "the request",
		);
	}
	await expect(channel, CALL);
	confirm(channel, CALL);
	await expect(channel, CALL);
	confirm(channel, CALL);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("descriptors take precedence over messages, and may be taken away again", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer, VIRTIO_BLK_F.FLUSH, INBAND);
	const channel = await openChannel(peer);
	assert.equal(await rig.memTable(peer), 0n);
	const driver = await makeDriver(rig, peer);
	assert.equal(await wire(peer, "SET_VRING_CALL", 0), 0n);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	driver.offer();
	// The message signals the descriptor, which is all that the ring listens to.
	assert.equal(await kick(peer), 0n);
	await waitUntil(
		() => driver.take() === 0,
		5000,
		() => "the request",
	);
	const polled = encodeU64(1n << 8n);
	await say(peer, "SET_VRING_CALL", polled);
	await expect(channel, CALL);
	await say(peer, "SET_VRING_KICK", polled);
	assert.equal(await kick(peer), 0n);
	assert.equal(session.rings[0]?.running, true);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("a ring that breaks says so by a message", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, 0n, INBAND);
	const channel = await openChannel(peer);
	assert.equal(await rig.memTable(peer), 0n);
	await rig.prepare(peer, 0);
	assert.equal(await wire(peer, "SET_VRING_CALL", 0), 0n);
	const index = Buffer.alloc(2);
	index.writeUInt16LE(1000);
	native.copyIn(rig.address(0).avail + 2n, index);
	assert.equal(await kick(peer), 0n);
	await expect(channel, ERROR);
	confirm(channel, ERROR);
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("a stopped ring is started again by a message; a bad one is refused", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer, 0n, INBAND);
	assert.equal(await rig.memTable(peer), 0n);
	assert.equal(await kick(peer), 0n);
	assert.equal(session.rings[0]?.running, false, "not set up yet");
	await rig.prepare(peer, 0);
	assert.equal(session.rings[0]?.running, true);
	await peer.ask("GET_VRING_BASE", encodeState({ index: 0, num: 0 }));
	assert.equal(session.rings[0]?.running, false);
	assert.equal(await kick(peer), 0n);
	assert.equal(session.rings[0]?.running, true);
	assert.equal(await kick(peer, 0, 1), 1n);
	assert.equal(await kick(peer, 4), 1n);
	assert.equal(await ack(peer, "VRING_KICK", Buffer.alloc(4)), 1n);
	await rig.assertNothingLeft(peer);
});

test("without a channel, or with one that is gone, calls are lost and nothing else", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer, VIRTIO_BLK_F.FLUSH, INBAND);
	assert.equal(await rig.memTable(peer), 0n);
	const driver = await makeDriver(rig, peer);
	for (const gone of [false, true]) {
		if (gone) await (await openChannel(peer)).close();
		driver.offer();
		assert.equal(await kick(peer), 0n);
		await waitUntil(
			() => driver.take() === 0,
			5000,
			() => "the request",
		);
	}
	assert.equal(session.rings[0]?.running, true);
	driver.close();
	await rig.assertNothingLeft(peer);
});

test("in-band notifications need their companions, or the connection ends", async () => {
	for (const features of [
		INBAND_NOTIFICATIONS,
		INBAND_NOTIFICATIONS | BACKEND_REQ,
		INBAND_NOTIFICATIONS | REPLY_ACK,
	]) {
		const { peer } = rig.bench.connect();
		const payload = encodeU64(features);
		peer.send("SET_PROTOCOL_FEATURES", payload, [], FLAG_NEED_REPLY);
		await within(peer.closed, 5000, () => "the close");
	}
	const { peer } = rig.bench.connect();
	await negotiate(peer, 0n, BACKEND_REQ | REPLY_ACK);
	assert.equal(await kick(peer), 1n);
	await rig.assertNothingLeft(peer);
});

test("in-band notifications are not offered unless the device is told to", async () => {
	rig.bench.device.protocolFeatures = DEFAULT_PROTOCOL_FEATURES;
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await ack(peer, "SET_PROTOCOL_FEATURES", encodeU64(INBAND)), 1n);
	assert.equal(await kick(peer), 1n);
	await rig.assertNothingLeft(peer);
});
