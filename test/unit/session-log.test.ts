// SPDX-License-Identifier: MIT
// The dirty log of a migration: set, swapped, and begun and ended under running rings.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
	encodeAddress,
	encodeLog,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	F_PROTOCOL_FEATURES,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, PAGES_SHARED, type Pages } from "../../src/ffi/native.ts";
import {
	ack,
	makeRig,
	negotiate,
	type Rig,
	say,
	u64,
} from "../support/session-rig.ts";
import type { RawPeer } from "../support/vhost-user.ts";

/** Bits for 128 MiB. */
const LOG_BYTES = 4096n;
const NOT_LOGGED = 2n ** 64n - 1n;

let rig: Rig;
let shared: Pages;
/** What rings were made with: log, and address of the used ring in it. */
let made: { log: bigint; used: bigint }[] = [];

beforeEach(() => {
	shared = native.pagesAlloc({
		size: 2n * LOG_BYTES,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	rig = makeRig();
	rig.bench.device.features |= VIRTIO_F.LOG_ALL;
	made = [];
	const create = native.ringCreate;
	mock.method(native, "ringCreate", (config: Parameters<typeof create>[0]) => {
		made.push({ log: config.log, used: config.log_used });
		return create(config);
	});
});
afterEach(async () => {
	mock.restoreAll();
	await rig.close();
	native.pagesFree(shared);
});

const setLog = (peer: RawPeer, size = LOG_BYTES, offset = 0n) =>
	peer.ask("SET_LOG_BASE", encodeLog({ size, offset }), [shared.fd]);
const setFeatures = (peer: RawPeer, features: bigint) =>
	say(
		peer,
		"SET_FEATURES",
		encodeU64(features | F_PROTOCOL_FEATURES | VIRTIO_F.VERSION_1),
	);
const setFlag = (peer: RawPeer, flags: number, log = 0x1000n) =>
	say(peer, "SET_VRING_ADDR", encodeAddress({ ...rig.address(0), flags, log }));
const bitmap = () => native.copyOut(shared.addr, Number(LOG_BYTES));

test("logging begins and ends as QEMU does it, and the ring needs no new kick", async () => {
	const { peer, session } = rig.bench.connect();
	await rig.running(peer, 0);
	assert.deepEqual(made.at(-1), { log: 0n, used: NOT_LOGGED });
	assert.equal(u64(await setLog(peer)), 0n);
	assert.equal(made.length, 1, "nothing asks for the log yet");
	await setFeatures(peer, VIRTIO_F.LOG_ALL);
	assert.notEqual(made.at(-1)?.log, 0n);
	assert.equal(made.at(-1)?.used, NOT_LOGGED);
	assert.equal(session.rings[0]?.logged, true);
	await setFlag(peer, 1);
	assert.equal(made.at(-1)?.used, 0x1000n);
	await setFlag(peer, 1, 0x2000n);
	assert.equal(made.at(-1)?.used, 0x2000n);
	await setFlag(peer, 0);
	assert.equal(made.at(-1)?.used, NOT_LOGGED);
	await setFeatures(peer, 0n);
	assert.equal(made.at(-1)?.log, 0n);
	assert.equal(session.rings[0]?.running, true);
	assert.equal(made.length, 6);
	// The ring wrote to its used ring as it started, where that was logged.
	const expected = Buffer.alloc(Number(LOG_BYTES));
	expected[0] = (1 << 1) | (1 << 2);
	assert.deepEqual(bitmap(), expected);
	await rig.assertNothingLeft(peer);
});

test("what changes nothing stops no ring", async () => {
	const { peer } = rig.bench.connect();
	await rig.running(peer, 0);
	await setFlag(peer, 0, 0x3000n);
	await setFlag(peer, 0, 0x4000n);
	await setFeatures(peer, 0n);
	assert.equal(made.length, 1);
	await rig.assertNothingLeft(peer);
});

test("a log outlives a reset, and a larger one takes its place under rings", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(u64(await setLog(peer)), 0n);
	await say(peer, "RESET_OWNER");
	await rig.running(peer, 0);
	await setFeatures(peer, VIRTIO_F.LOG_ALL);
	assert.equal(session.rings[0]?.logged, true);
	const before = made.at(-1)?.log;
	assert.equal(u64(await setLog(peer, 2n * LOG_BYTES)), 0n);
	assert.notEqual(made.at(-1)?.log, 0n);
	assert.notEqual(made.at(-1)?.log, before);
	assert.equal(session.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("what rings wrote before the log came counts as all written", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.LOG_ALL);
	assert.equal(await rig.memTable(peer), 0n);
	await rig.running(peer, 0);
	await setFeatures(peer, VIRTIO_F.LOG_ALL);
	assert.equal(u64(await setLog(peer)), 0n);
	const pages = Number(rig.pages.size / 4096n);
	const expected = Buffer.alloc(Number(LOG_BYTES));
	expected.fill(0xff, 0, pages / 8);
	assert(bitmap().equals(expected));
	// Only then.
	native.copyIn(shared.addr, Buffer.alloc(Number(LOG_BYTES)));
	assert.equal(u64(await setLog(peer)), 0n);
	assert(bitmap().equals(Buffer.alloc(Number(LOG_BYTES))));
	await rig.assertNothingLeft(peer);
});

test("SET_LOG_FD may come before the log and after it, and again", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.LOG_ALL);
	const eventfd = native.eventfd();
	const none = Buffer.alloc(0);
	await say(peer, "SET_LOG_FD", none, [eventfd]);
	assert.equal(u64(await setLog(peer)), 0n);
	await say(peer, "SET_LOG_FD", none, [eventfd]);
	await say(peer, "SET_LOG_FD", none, [eventfd]);
	assert.equal(await ack(peer, "SET_LOG_FD", none, []), 1n);
	assert.equal(await ack(peer, "SET_LOG_FD", encodeU64(0n), [eventfd]), 1n);
	assert.equal(await ack(peer, "SET_LOG_FD", none, [shared.fd]), 1n);
	native.fdClose(eventfd);
	await rig.assertNothingLeft(peer);
});

test("a log that cannot be closes the connection: an answer would say that it is kept", async () => {
	const eventfd = native.eventfd();
	const area = (size: bigint, offset: bigint) => encodeLog({ size, offset });
	for (const [what, payload, fds] of [
		["empty", area(0n, 0n), [shared.fd]],
		["longer than its file", area(4n * LOG_BYTES, 0n), [shared.fd]],
		["beyond its file", area(LOG_BYTES, 2n * LOG_BYTES), [shared.fd]],
		["wraps around", area(LOG_BYTES, NOT_LOGGED), [shared.fd]],
		["no file", area(LOG_BYTES, 0n), [eventfd]],
		["no descriptor", area(LOG_BYTES, 0n), []],
		["two", area(LOG_BYTES, 0n), [shared.fd, shared.fd]],
		["an address, as without LOG_SHMFD", encodeU64(0n), [shared.fd]],
	] as const) {
		const { peer } = rig.bench.connect();
		await negotiate(peer);
		assert.equal(
			await ack(peer, "SET_LOG_BASE", payload, fds),
			undefined,
			what,
		);
		assert.match(rig.bench.device.logged.at(-1) ?? "", /SET_LOG_BASE: /);
	}
	const { peer } = rig.bench.connect();
	const { LOG_SHMFD } = PROTOCOL_FEATURES;
	await negotiate(peer, 0n, DEFAULT_PROTOCOL_FEATURES & ~LOG_SHMFD);
	assert.equal(await setLog(peer), undefined);
	assert.match(rig.bench.device.logged.at(-1) ?? "", /LOG_SHMFD was not/);
	native.fdClose(eventfd);
	await rig.assertNothingLeft();
});
