// SPDX-License-Identifier: MIT
// The buffer of requests in flight: made, given back, used by rings, dropped by a reset.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { fstatSync, writeSync } from "node:fs";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
	decodeInflight,
	encodeInflight,
	encodeU64,
	type InflightArea,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, PAGES_SHARED } from "../../src/ffi/native.ts";
import {
	ack,
	makeRig,
	negotiate,
	type Rig,
	say,
	wire,
} from "../support/session-rig.ts";
import type { RawPeer } from "../support/vhost-user.ts";

let rig: Rig;
/** In-flight handles that rings were made with. */
let made: bigint[] = [];

beforeEach(() => {
	rig = makeRig();
	rig.bench.device.features |= VIRTIO_F.RING_PACKED;
	made = [];
	const create = native.ringCreate;
	mock.method(native, "ringCreate", (config: Parameters<typeof create>[0]) => {
		made.push(config.inflight);
		return create(config);
	});
});
afterEach(async () => {
	mock.restoreAll();
	await rig.close();
});

const WANTED = { size: 0n, offset: 0n, numQueues: 4, queueSize: 8 };

/** Asks for a buffer; its descriptor is the caller's. */
async function getBuffer(
	peer: RawPeer,
	wanted: InflightArea = WANTED,
	bytes = 24,
): Promise<{ area: InflightArea; fd: number }> {
	peer.kept = [];
	const answer = await peer.ask(
		"GET_INFLIGHT_FD",
		encodeInflight(wanted, bytes),
	);
	assert.equal(answer?.payload.length, bytes);
	const [fd, ...more] = peer.kept;
	peer.kept = undefined;
	assert(answer && fd !== undefined && more.length === 0);
	return { area: decodeInflight(answer.payload), fd };
}

const setBuffer = (peer: RawPeer, area: InflightArea, fd: number) =>
	ack(peer, "SET_INFLIGHT_FD", encodeInflight(area), [fd]);

test("a buffer is made of zeros, large enough for the format", async () => {
	for (const [features, packed] of [
		[0n, false],
		[VIRTIO_F.RING_PACKED, true],
	] as const) {
		const { peer } = rig.bench.connect();
		await negotiate(peer, features);
		const { area, fd } = await getBuffer(peer);
		const least = native.inflightBytes(4, 8, packed);
		assert(area.size >= least && area.size < least + 4096n);
		assert.equal(area.offset, 0n);
		assert.deepEqual([area.numQueues, area.queueSize], [4, 8]);
		assert(fstatSync(fd).size >= Number(area.size));
		native.fdClose(fd);
		await rig.assertNothingLeft(peer);
	}
});

test("before features are negotiated a buffer will do for both formats", async () => {
	const { peer } = rig.bench.connect();
	peer.send("SET_PROTOCOL_FEATURES", encodeU64(DEFAULT_PROTOCOL_FEATURES));
	const wanted = { ...WANTED, numQueues: 4, queueSize: 1024 };
	const { area, fd } = await getBuffer(peer, wanted);
	assert(area.size >= native.inflightBytes(4, 1024, true));
	native.fdClose(fd);
	await rig.assertNothingLeft(peer);
});

test("the reply is as long as the request: padded by C, or not", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	for (const bytes of [20, 24]) {
		const { fd } = await getBuffer(peer, WANTED, bytes);
		native.fdClose(fd);
	}
	await rig.assertNothingLeft(peer);
});

test("rings use the buffer from when it is made, and another when that is set", async () => {
	const { peer, session } = rig.bench.connect();
	await rig.running(peer, 0);
	assert.deepEqual(made, [0n]);
	assert.equal(session.rings[0]?.tracked, false);
	const { area, fd } = await getBuffer(peer);
	assert.equal(made.length, 2);
	assert.notEqual(made[1], 0n);
	assert.equal(await setBuffer(peer, area, fd), 0n);
	assert.equal(made.length, 3);
	assert.notEqual(made[2], 0n);
	assert.equal(session.rings[0]?.running, true);
	assert.equal(session.rings[0]?.tracked, true);
	native.fdClose(fd);
	await rig.assertNothingLeft(peer);
});

/** Offsets in a split region of what cannot be 9 in a ring of 8, and what is told of it. */
const DAMAGES = [
	[8, /version, features: no such region is known/],
	[10, /desc_num: .* more than there is room for/],
	[12, /last_batch_head, next: .* beyond the entries/],
] as const;

test("what is wrong with a region is told in words, and its ring does not run", async () => {
	for (const [at, words] of DAMAGES) {
		const { peer, session } = rig.bench.connect();
		await rig.running(peer, 0);
		const { area, fd } = await getBuffer(peer);
		// One that was used up to the last but one that is in the used ring.
		for (const [value, where] of [
			[0xffff, 14],
			[9, at],
		] as const) {
			const bytes = Buffer.alloc(2);
			bytes.writeUInt16LE(value);
			writeSync(fd, bytes, 0, 2, where);
		}
		assert.notEqual(await setBuffer(peer, area, fd), 0n);
		assert.equal(session.rings[0]?.running, false);
		const told = rig.bench.device.logged.filter((line) => words.test(line));
		assert.equal(told.length, 1, rig.bench.device.logged.join("\n"));
		assert.match(told[0] ?? "", /ring 0: damaged in-flight region: /);
		native.fdClose(fd);
		await rig.assertNothingLeft(peer);
	}
});

test("a reset drops the buffer; a stop does not", async () => {
	const { peer, session } = rig.bench.connect();
	await rig.running(peer, 0);
	const { area, fd } = await getBuffer(peer);
	await peer.ask("GET_VRING_BASE", Buffer.alloc(8));
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(session.rings[0]?.tracked, true);
	await say(peer, "RESET_OWNER");
	await rig.running(peer, 0);
	assert.equal(made.at(-1), 0n);
	assert.equal(await setBuffer(peer, area, fd), 0n);
	assert.notEqual(made.at(-1), 0n);
	native.fdClose(fd);
	await rig.assertNothingLeft(peer);
});

test("shapes and buffers that cannot be are refused", async () => {
	const bad: InflightArea[] = [
		{ ...WANTED, numQueues: 0 },
		{ ...WANTED, numQueues: 5 },
		{ ...WANTED, queueSize: 0 },
		{ ...WANTED, queueSize: 32769 },
	];
	for (const wanted of bad) {
		const { peer } = rig.bench.connect();
		await negotiate(peer);
		const payload = encodeInflight(wanted);
		assert.equal(await ack(peer, "GET_INFLIGHT_FD", payload), undefined);
	}
	const { peer, session } = rig.bench.connect();
	await rig.running(peer, 0);
	const { area, fd } = await getBuffer(peer);
	const short = native.pagesAlloc({
		size: 4096n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	const eventfd = native.eventfd();
	for (const wanted of bad)
		assert.equal(await setBuffer(peer, { ...area, ...wanted }, fd), 1n);
	for (const [what, changes] of [
		["too small", { size: 64n }],
		["nothing", { size: 0n }],
		["beyond the file", { offset: 1n << 30n }],
		["wraps around", { offset: 2n ** 64n - 1n }],
	] as const)
		assert.equal(await setBuffer(peer, { ...area, ...changes }, fd), 1n, what);
	const long = { ...area, queueSize: 1024, size: 1n << 20n };
	assert.equal(await setBuffer(peer, long, short.fd), 1n);
	assert.equal(await setBuffer(peer, area, eventfd), 1n);
	const payload = encodeInflight(area);
	assert.equal(await ack(peer, "SET_INFLIGHT_FD", payload, []), 1n);
	assert.equal(await ack(peer, "SET_INFLIGHT_FD", payload, [fd, fd]), 1n);
	const cut = payload.subarray(0, 16);
	assert.equal(await ack(peer, "SET_INFLIGHT_FD", cut, [fd]), 1n);
	assert.equal(session.rings[0]?.running, true);
	for (const each of [fd, eventfd]) native.fdClose(each);
	native.pagesFree(short);
	await rig.assertNothingLeft(peer);
});

test("the buffer's messages need their feature", async () => {
	const { peer } = rig.bench.connect();
	const { INFLIGHT_SHMFD } = PROTOCOL_FEATURES;
	await negotiate(peer, 0n, DEFAULT_PROTOCOL_FEATURES & ~INFLIGHT_SHMFD);
	assert.equal(await setBuffer(peer, WANTED, rig.pages.fd), 1n);
	const payload = encodeInflight(WANTED);
	assert.equal(await ack(peer, "GET_INFLIGHT_FD", payload), undefined);
	await rig.assertNothingLeft(peer);
});
