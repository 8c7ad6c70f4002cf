// SPDX-License-Identifier: MIT
// State of a device that migrates with its guest; and messages that devices answer themselves.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, test } from "node:test";
import { VhostctlError } from "../../src/engine/errors.ts";
import {
	encodeTransfer,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	receiveState,
	sendState,
} from "../../src/engine/vhost-user/device-state.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { native } from "../../src/ffi/native.ts";
import {
	ack,
	makeRig,
	negotiate,
	type Rig,
	say,
	u64,
} from "../support/session-rig.ts";
import type { RawPeer } from "../support/vhost-user.ts";

const SAVE = 0;
const LOAD = 1;
const DONE = 0x100n; // without a descriptor
const FAILED = 0x101n;

let rig: Rig;
/** What the device was given. */
let loaded: Buffer[] = [];

beforeEach(() => {
	rig = makeRig();
	loaded = [];
	const { device } = rig.bench;
	device.exportState = () => Buffer.from("the state");
	device.importState = (_, state) => {
		if (state.toString() === "bad")
			throw new VhostctlError("E_INVALID", "not a state");
		loaded.push(state);
	};
});
afterEach(() => rig.close());

/** Begins a transfer; the end that is returned is the caller's. */
async function begin(
	peer: RawPeer,
	direction: number,
	phase = 0,
): Promise<{ status: bigint; end: number }> {
	const [ours, theirs] = native.socketPair();
	const payload = encodeTransfer({ direction, phase });
	const answer = await peer.ask("SET_DEVICE_STATE_FD", payload, [theirs]);
	native.fdClose(theirs);
	return { status: u64(answer), end: ours };
}
const check = async (peer: RawPeer) =>
	u64(await peer.ask("CHECK_DEVICE_STATE"));

test("a state is saved to the front end's descriptor", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	const { status, end } = await begin(peer, SAVE);
	assert.equal(status, DONE);
	assert.equal((await receiveState(end).done).toString(), "the state");
	assert.equal(await check(peer), 0n);
	await rig.assertNothingLeft(peer);
});

test("a state is loaded, and refused if it is none", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	for (const [text, expected] of [
		["a state", 0n],
		["", 0n],
		["bad", 1n],
	] as const) {
		const { status, end } = await begin(peer, LOAD);
		assert.equal(status, DONE);
		await sendState(end, Buffer.from(text)).done;
		assert.equal(await check(peer), expected, text);
	}
	assert.deepEqual(loaded.map(String), ["a state", ""]);
	await rig.assertNothingLeft(peer);
});

test("a device without state sends none, and takes none", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	const { device } = rig.bench;
	delete device.exportState;
	delete device.importState;
	const saving = await begin(peer, SAVE);
	assert.equal((await receiveState(saving.end).done).length, 0);
	assert.equal(await check(peer), 0n);
	for (const [text, expected] of [
		["", 0n],
		["something", 1n],
	] as const) {
		const { end } = await begin(peer, LOAD);
		await sendState(end, Buffer.from(text)).done;
		assert.equal(await check(peer), expected);
	}
	await rig.assertNothingLeft(peer);
});

test("transfers that cannot be are refused with nothing left behind", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	for (const [direction, phase] of [
		[2, 0],
		[0xffffffff, 0],
		[SAVE, 1],
		[LOAD, 0xffffffff],
	] as const) {
		const { status, end } = await begin(peer, direction, phase);
		assert.equal(status, FAILED);
		native.fdClose(end);
	}
	assert.equal(await check(peer), 1n);
	const save = encodeTransfer({ direction: SAVE, phase: 0 });
	for (const [what, payload, fds] of [
		["memory", save, [rig.pages.fd]],
		["no descriptor", save, []],
		["two", save, [rig.pages.fd, rig.pages.fd]],
		["another size", Buffer.alloc(4), [rig.pages.fd]],
	] as const) {
		const answer = await peer.ask("SET_DEVICE_STATE_FD", payload, fds);
		assert.equal(u64(answer), FAILED, what);
	}
	assert.equal(await check(peer), 1n);
	await rig.running(peer, 0);
	const { status, end } = await begin(peer, SAVE);
	assert.equal(status, FAILED, "a ring runs");
	native.fdClose(end);
	await rig.assertNothingLeft(peer);
});

test("a state that is too long, or of a ring that runs again, is not loaded", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	const long = await begin(peer, LOAD);
	const sending = sendState(long.end, Buffer.alloc(1 << 20));
	assert.equal(await check(peer), 1n);
	await sending.done.catch(() => {});
	const late = await begin(peer, LOAD);
	await sendState(late.end, Buffer.from("late")).done;
	await rig.running(peer, 0);
	assert.equal(await check(peer), 1n);
	assert.deepEqual(loaded, []);
	await rig.assertNothingLeft(peer);
});

test("a transfer is given up with its connection, and for the next one", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	const first = await begin(peer, LOAD);
	const second = await begin(peer, LOAD);
	await sendState(second.end, Buffer.from("second")).done;
	assert.equal(await check(peer), 0n);
	assert.deepEqual(loaded.map(String), ["second"]);
	const third = await begin(peer, LOAD);
	await peer.close();
	for (const fd of [first.end, third.end]) native.fdClose(fd);
	await rig.assertNothingLeft();
});

test("a front end that never sends is not waited for without end", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	const { end } = await begin(peer, LOAD);
	assert.equal(await check(peer), 1n);
	native.fdClose(end);
	await rig.assertNothingLeft(peer);
});

test("device state needs its feature", async () => {
	const { peer } = rig.bench.connect();
	const { DEVICE_STATE } = PROTOCOL_FEATURES;
	await negotiate(peer, 0n, DEFAULT_PROTOCOL_FEATURES & ~DEVICE_STATE);
	const { status, end } = await begin(peer, SAVE);
	assert.equal(status, FAILED);
	assert.equal(await check(peer), 1n);
	native.fdClose(end);
	await rig.assertNothingLeft(peer);
});

test("a device answers messages of its own, with payload and descriptors", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	const handled: unknown[] = [];
	const { device } = rig.bench;
	device.handleMessage = async (_, { request, payload, fds }) => {
		if (request !== 1000) return undefined;
		if (payload.length === 0) return {};
		if (payload.length === 1) throw new VhostctlError("E_INVALID", "one byte");
		return { reply: Buffer.from(payload).reverse(), fds: [fds.take(1)] };
	};
	device.messageHandled = (_, { request }, ok) => handled.push([request, ok]);
	peer.kept = [];
	const fds = [rig.pages.fd, rig.pages.fd, rig.pages.fd];
	const answer = await peer.ask(1000, Buffer.from("abc"), fds);
	assert.equal(answer?.payload.toString(), "cba");
	assert.equal(peer.kept.length, 1);
	peer.kept.forEach(native.fdClose);
	assert.equal(await ack(peer, 1000), 0n);
	assert.equal(await ack(peer, 1000, Buffer.alloc(1)), 1n);
	assert.equal(await ack(peer, 1001), 1n);
	assert.equal(await ack(peer, "SET_OWNER"), 0n);
	assert.deepEqual(handled, [
		[1000, true],
		[1000, true],
		[1000, false],
		[1001, false],
		[3, true],
	]);
	await rig.assertNothingLeft(peer);
});

test("a device may take the place of our own handling", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	rig.bench.device.handleMessage = async (_, { request }) => {
		if (request === 1) return { reply: encodeU64(42n) };
		return request === 2 ? {} : undefined;
	};
	assert.equal(u64(await peer.ask("GET_FEATURES")), 42n);
	const before = session.features;
	await say(peer, "SET_FEATURES", encodeU64(1n << 50n));
	assert.equal(session.features, before);
	// What has a reply of ours has an ack if the device says no more.
	rig.bench.device.handleMessage = async () => ({});
	const answer = await peer.ask(
		"GET_FEATURES",
		Buffer.alloc(0),
		[],
		FLAG_NEED_REPLY,
	);
	assert.equal(u64(answer), 0n);
	await rig.assertNothingLeft(peer);
});
