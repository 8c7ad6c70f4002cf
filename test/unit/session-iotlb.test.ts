// SPDX-License-Identifier: MIT
// A device behind an IOMMU: misses, updates, invalidations, and front ends that do not play along.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, mock, test } from "node:test";
import type { Delivery } from "../../src/engine/runtime.ts";
import {
	decodeIotlb,
	decodeMessage,
	encodeFdIndex,
	encodeIotlb,
	encodeMemory,
	encodeU64,
	type IotlbMessage,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	FLAG_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_BLK_F, VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { NativeError, native } from "../../src/ffi/native.ts";
import { waitUntil } from "../support/processes.ts";
import {
	DRIVER_DATA,
	DRIVER_RING,
	type Driver,
	makeDriver,
	makeRig,
	negotiate,
	type Rig,
	say,
	u64,
} from "../support/session-rig.ts";
import type { RawPeer } from "../support/vhost-user.ts";

/** What the guest's IOMMU calls the start of the pages. */
const IOVA = 0x4000_0000n;
const PAGE = 4096n;
const [READ, WRITE, BOTH] = [1, 2, 3];
const [UPDATE, INVALIDATE] = [2, 3];
const MISS = 1;

let rig: Rig;

beforeEach(() => {
	rig = makeRig();
	rig.bench.device.features |= VIRTIO_F.ACCESS_PLATFORM | VIRTIO_F.RING_PACKED;
});
afterEach(() => rig.close());

/** Sends an IOTLB message about a page of ours; the status that came back. */
async function tell(
	peer: RawPeer,
	changes: Partial<IotlbMessage>,
): Promise<bigint> {
	const { iova = IOVA } = changes;
	const message = {
		iova,
		size: PAGE,
		userAddr: BigInt.asUintN(64, rig.pages.addr + (iova - IOVA)),
		access: BOTH,
		type: UPDATE,
		...changes,
	};
	return u64(await peer.ask("IOTLB_MSG", encodeIotlb(message)));
}

interface Iommu {
	/** Misses that were asked, as offsets in the pages, with access. */
	readonly asked: [bigint, number][];
	/** How misses are answered; undefined: not at all. */
	answer: ((iova: bigint, access: number) => Promise<bigint>) | undefined;
	stop(): Promise<void>;
}

/** Serves the channel of a front end: with pages, each when asked for, unless told otherwise. */
async function makeIommu(peer: RawPeer): Promise<Iommu> {
	const channel = await rig.openChannel(peer);
	const asked: [bigint, number][] = [];
	const page = (iova: bigint) => iova - (iova % PAGE);
	let serving = Promise.resolve();
	let stopped = false;
	const iommu: Iommu = {
		asked,
		answer: (iova) => tell(peer, { iova: page(iova) }),
		async stop() {
			stopped = true;
			await channel.close();
			await serving;
		},
	};
	const serve = async ({ data, fds }: Delivery): Promise<void> => {
		assert.equal(fds.length, 0);
		const message = decodeMessage(data);
		assert.equal(message.request, 1);
		assert.equal(message.flags, FLAG_NEED_REPLY | 1);
		const { iova, access, type } = decodeIotlb(message.payload);
		assert.equal(type, MISS);
		asked.push([iova - IOVA, access]);
		channel.connection.next();
		const status = await iommu.answer?.(iova, access);
		if (status !== undefined && !stopped)
			channel.send(1, encodeU64(status), [], FLAG_REPLY);
	};
	channel.connection.onMessage((delivery) => {
		serving = serving.then(() => serve(delivery));
	});
	return iommu;
}

const kick = (peer: RawPeer, { kick }: Driver) =>
	say(peer, "SET_VRING_KICK", encodeFdIndex(0, true), [kick]);
const isRunning = () =>
	[...rig.bench.device.sessions].every((s) => s.rings[0]?.running === true);
const until = (condition: () => boolean, what: string) =>
	waitUntil(condition, 5000, () => what);

async function flush(driver: Driver): Promise<number> {
	let status: number | undefined;
	driver.offer();
	await until(() => {
		status = driver.take();
		return status !== undefined;
	}, "a request");
	return status ?? -1;
}

/** A session with an IOMMU, and a driver whose ring is kicked. */
async function begin(features = 0n) {
	const { peer, session } = rig.bench.connect();
	const all = VIRTIO_F.ACCESS_PLATFORM | VIRTIO_BLK_F.FLUSH | features;
	await negotiate(peer, all);
	assert.equal(await rig.memTable(peer), 0n);
	const iommu = await makeIommu(peer);
	const options = { base: IOVA, iova: true, features };
	const driver = await makeDriver(rig, peer, options);
	await kick(peer, driver);
	return { peer, session, iommu, driver };
}

async function end({ peer, iommu, driver }: Awaited<ReturnType<typeof begin>>) {
	driver.close();
	await iommu.stop();
	await rig.assertNothingLeft(peer);
}

for (const [what, features] of [
	["split", 0n],
	["packed", VIRTIO_F.RING_PACKED],
] as const)
	test(`a ${what} ring asks for its parts, then for what requests need, once each`, async () => {
		const all = await begin(features);
		const { iommu, driver } = all;
		await until(isRunning, "the ring");
		assert.deepEqual(iommu.asked[0], [
			DRIVER_RING,
			features === 0n ? READ : BOTH,
		]);
		const parts = iommu.asked.length;
		for (let i = 0; i < 20; i++) assert.equal(await flush(driver), 0);
		const [first, ...more] = iommu.asked.slice(parts);
		assert.deepEqual(first, [DRIVER_DATA, READ]);
		assert.equal(more.length, 7, "a page for each of the ring's entries");
		await end(all);
	});

test("updates may be larger than what was asked for, and come unasked", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.ACCESS_PLATFORM | VIRTIO_BLK_F.FLUSH);
	assert.equal(await rig.memTable(peer), 0n);
	assert.equal(await tell(peer, { size: rig.pages.size }), 0n);
	const driver = await makeDriver(rig, peer, { base: IOVA, iova: true });
	await kick(peer, driver);
	assert(isRunning());
	assert.equal(await flush(driver), 0);
	driver.close();
	await rig.assertNothingLeft(peer);
});

test("an invalidated page is asked for again, and nothing of it is used meanwhile", async () => {
	const all = await begin();
	const { peer, iommu, driver, session } = all;
	assert.equal(await flush(driver), 0);
	const page = IOVA + DRIVER_DATA;
	for (let i = 0; i < 10; i++) {
		const count = iommu.asked.length;
		assert.equal(
			await tell(peer, { iova: page, size: 8n * PAGE, type: INVALIDATE }),
			0n,
		);
		assert.equal(session.rings[0]?.running, true);
		assert.equal(await flush(driver), 0);
		assert.equal(iommu.asked.length, count + 1);
	}
	// What is not known need not be forgotten: the ring is not even stopped.
	const count = rig.bench.device.logged.length;
	assert.equal(
		await tell(peer, { iova: IOVA + (1n << 40n), type: INVALIDATE }),
		0n,
	);
	assert.equal(rig.bench.device.logged.length, count);
	await end(all);
});

test("a page is not asked for again when the ring restarts meanwhile", async () => {
	const all = await begin();
	const { peer, iommu, driver } = all;
	assert.equal(await flush(driver), 0);
	const page = IOVA + DRIVER_DATA;
	const other = IOVA + DRIVER_DATA + 16n * PAGE;
	assert.equal(
		await tell(peer, { iova: page, size: 8n * PAGE, type: INVALIDATE }),
		0n,
	);
	iommu.answer = undefined; // it takes its time
	const count = iommu.asked.length;
	driver.offer();
	await until(() => iommu.asked.length > count, "the miss");
	for (let i = 0; i < 5; i++) {
		assert.equal(await tell(peer, { iova: other }), 0n);
		assert.equal(await tell(peer, { iova: other, type: INVALIDATE }), 0n);
	}
	assert.equal(await tell(peer, { iova: page, size: 8n * PAGE }), 0n);
	await until(() => driver.take() === 0, "the request");
	assert.equal(iommu.asked.length, count + 1);
	await end(all);
});

test("an invalidation is answered although the front end cannot answer us before", async () => {
	const all = await begin();
	const { peer, iommu, driver } = all;
	assert.equal(await flush(driver), 0);
	const answer = iommu.answer;
	iommu.answer = undefined; // its thread waits for our answer
	for (const changes of [
		{ iova: IOVA + DRIVER_RING, type: INVALIDATE },
		{ iova: 0n, size: 0n, type: INVALIDATE },
		{ iova: 0n, size: 2n ** 64n - 1n, type: INVALIDATE },
		{ iova: IOVA, size: 2n ** 64n - 1n, type: INVALIDATE },
	])
		assert.equal(await tell(peer, changes), 0n);
	assert.equal(isRunning(), false);
	// Now it has time for us: the ring asked for its first page.
	const [last] = iommu.asked.slice(-1);
	assert.deepEqual(last, [DRIVER_RING, READ]);
	iommu.answer = answer;
	await tell(peer, { iova: IOVA + DRIVER_RING });
	await until(isRunning, "the ring");
	assert.equal(await flush(driver), 0);
	driver.close();
	await iommu.stop();
	await rig.assertNothingLeft(peer);
});

test("a request for what the front end refuses fails, and others go on", async () => {
	const all = await begin();
	const { peer, iommu, driver } = all;
	assert.equal(await flush(driver), 0);
	const { answer } = iommu;
	// The second request's buffer.
	iommu.answer = async () => 1n;
	driver.offer();
	await until(() => driver.take() === 0xff, "the refused request");
	// An update without the access that is needed is no answer either.
	iommu.answer = async (iova) => {
		await tell(peer, { iova, access: READ });
		return 0n;
	};
	driver.offer();
	await until(() => driver.take() === 0xff, "the read-only request");
	iommu.answer = answer;
	assert.equal(await flush(driver), 0);
	await end(all);
});

test("a ring whose parts are refused does not start, and says why", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.ACCESS_PLATFORM);
	assert.equal(await rig.memTable(peer), 0n);
	const iommu = await makeIommu(peer);
	const options = { base: IOVA, iova: true };
	const driver = await makeDriver(rig, peer, options);
	for (const status of [1n, 0n]) {
		const logged = rig.bench.device.logged.length;
		iommu.answer = async () => status;
		await kick(peer, driver);
		await until(
			() => rig.bench.device.logged.length > logged,
			"the refusal in the log",
		);
		assert.match(
			rig.bench.device.logged.at(-1) ?? "",
			/ring 0: no translation of 0x40010000: /,
		);
		assert.equal(isRunning(), false);
	}
	iommu.answer = (iova) => tell(peer, { iova: iova - (iova % PAGE) });
	await kick(peer, driver);
	await until(isRunning, "the ring");
	driver.close();
	await iommu.stop();
	await rig.assertNothingLeft(peer);
});

test("without a channel a ring does not start, and requests fail", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.ACCESS_PLATFORM | VIRTIO_BLK_F.FLUSH);
	assert.equal(await rig.memTable(peer), 0n);
	const driver = await makeDriver(rig, peer, { base: IOVA, iova: true });
	await kick(peer, driver);
	await until(
		() => /no back-end channel/.test(rig.bench.device.logged.at(-1) ?? ""),
		"the reason",
	);
	const size = DRIVER_DATA - DRIVER_RING;
	assert.equal(await tell(peer, { iova: IOVA + DRIVER_RING, size }), 0n);
	await kick(peer, driver);
	assert(isRunning());
	driver.offer();
	await until(() => driver.take() === 0xff, "the failed request");
	driver.close();
	await rig.assertNothingLeft(peer);
});

test("a channel that goes while a ring waits fails what waits", async () => {
	const all = await begin();
	const { iommu, driver, peer } = all;
	assert.equal(await flush(driver), 0);
	iommu.answer = undefined;
	const count = iommu.asked.length;
	driver.offer();
	await until(() => iommu.asked.length > count, "the miss");
	await iommu.stop();
	await until(() => driver.take() === 0xff, "the failed request");
	driver.close();
	await rig.assertNothingLeft(peer);
});

test("a connection that goes while a ring waits leaves nothing behind", async () => {
	const all = await begin();
	const { iommu, driver, peer, session } = all;
	assert.equal(await flush(driver), 0);
	iommu.answer = undefined;
	const count = iommu.asked.length;
	driver.offer();
	await until(() => iommu.asked.length > count, "the miss");
	await peer.close();
	await session.ended;
	driver.close();
	await iommu.stop();
	await rig.assertNothingLeft();
});

test("a ring that waits can be stopped, paused, and given other memory", async () => {
	const all = await begin();
	const { iommu, driver, peer, session } = all;
	assert.equal(await flush(driver), 0);
	const { answer } = iommu;
	iommu.answer = undefined;
	const count = iommu.asked.length;
	driver.offer();
	await until(() => iommu.asked.length > count, "the miss");
	await session.pause();
	await session.resume();
	assert.equal(await rig.memTable(peer), 0n);
	iommu.answer = answer;
	// The front end never answered the first misses: they are as good as lost.
	await tell(peer, { size: rig.pages.size });
	await until(() => driver.take() === 0, "the request");
	driver.close();
	await iommu.stop();
	await rig.assertNothingLeft(peer);
});

test("messages that make no sense are refused, and change nothing", async () => {
	const all = await begin();
	const { peer, driver } = all;
	assert.equal(await flush(driver), 0);
	for (const [what, changes] of [
		["beyond guest memory", { userAddr: 0n }],
		["longer than guest memory", { size: rig.pages.size + PAGE }],
		["wraps around", { iova: 2n ** 64n - PAGE, size: 2n * PAGE }],
		["user address wraps", { userAddr: 2n ** 64n - PAGE, size: 2n * PAGE }],
		["empty", { size: 0n }],
		["no access", { access: 0 }],
		["strange access", { access: 4 }],
		["a miss", { type: MISS }],
		["a failure", { type: 4 }],
		["strange type", { type: 0 }],
		["empty invalidation", { size: 0n, type: INVALIDATE }],
	] as const)
		assert.equal(await tell(peer, changes), 1n, what);
	const short = await peer.ask("IOTLB_MSG", Buffer.alloc(25));
	assert.equal(u64(short), 1n);
	const unpadded = encodeIotlb({
		iova: 0n,
		size: PAGE,
		userAddr: rig.pages.addr,
		access: WRITE,
		type: UPDATE,
	}).subarray(0, 26);
	assert.equal(u64(await peer.ask("IOTLB_MSG", unpadded)), 0n);
	assert.equal(await flush(driver), 0);
	await end(all);
});

test("translations need an IOMMU, and memory", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await rig.memTable(peer), 0n);
	assert.equal(await tell(peer, {}), 1n);
	const { peer: other } = rig.bench.connect();
	await negotiate(other, VIRTIO_F.ACCESS_PLATFORM);
	assert.equal(await tell(other, {}), 1n);
	await rig.assertNothingLeft(peer, other);
});

test("when no more pages can be kept all are forgotten, and asked for again", async () => {
	const all = await begin();
	const { peer, iommu, driver, session } = all;
	assert.equal(await flush(driver), 0);
	const show = native.memShow;
	mock.method(native, "memShow", (...args: Parameters<typeof show>) => {
		mock.restoreAll();
		assert.equal(args.length, 2);
		throw new NativeError("vhc_mem_show", 28); // ENOSPC
	});
	const count = iommu.asked.length;
	assert.equal(
		await tell(peer, { iova: IOVA + (1n << 30n), userAddr: rig.pages.addr }),
		0n,
	);
	await until(isRunning, "the ring");
	assert(iommu.asked.length > count);
	assert.equal(await flush(driver), 0);
	assert.equal(session.rings[0]?.running, true);
	await end(all);
});

test("without REPLY_ACK the update itself is waited for", async () => {
	const { peer } = rig.bench.connect();
	const { REPLY_ACK } = PROTOCOL_FEATURES;
	await negotiate(peer, VIRTIO_F.ACCESS_PLATFORM);
	const protocol = encodeU64(DEFAULT_PROTOCOL_FEATURES & ~REPLY_ACK);
	assert.equal(await rig.memTable(peer), 0n);
	const channel = await rig.openChannel(peer);
	const driver = await makeDriver(rig, peer, { base: IOVA, iova: true });
	peer.send("SET_PROTOCOL_FEATURES", protocol);
	peer.send("SET_VRING_KICK", encodeFdIndex(0, true), [driver.kick]);
	const message = await channel.receive();
	assert.equal(message?.flags, 1);
	await tell(peer, { size: rig.pages.size });
	await until(isRunning, "the ring");
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("a table in the place of another hides all again", async () => {
	const all = await begin();
	const { peer, iommu, driver } = all;
	assert.equal(await flush(driver), 0);
	const count = iommu.asked.length;
	const table = encodeMemory([rig.region()]);
	await say(peer, "SET_MEM_TABLE", table, [rig.pages.fd]);
	await until(isRunning, "the ring");
	assert(iommu.asked.length > count);
	assert.equal(await flush(driver), 0);
	await end(all);
});
