// SPDX-License-Identifier: MIT
// A connection that goes on in another process: frozen, sent, made again, thawed; or not.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
	decodeState,
	encodeFdIndex,
	encodeInflight,
	encodeLog,
	encodeMessage,
	encodeState,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import type { Session } from "../../src/engine/vhost-user/device.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	FLAG_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { resumeSession } from "../../src/engine/vhost-user/session.ts";
import type { SessionImage } from "../../src/engine/vhost-user/session-image.ts";
import { VIRTIO_BLK_F, VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { NativeError, native } from "../../src/ffi/native.ts";
import { waitUntil, within } from "../support/processes.ts";
import {
	ack,
	type Driver,
	makeDriver,
	makeRig,
	negotiate,
	type Rig,
	say,
	u64,
} from "../support/session-rig.ts";
import { makePeer } from "../support/vhost-user.ts";

let rig: Rig;

beforeEach(() => {
	rig = makeRig();
	rig.bench.device.features |=
		VIRTIO_F.LOG_ALL | VIRTIO_F.RING_PACKED | VIRTIO_F.ACCESS_PLATFORM;
});
afterEach(async () => {
	mock.restoreAll();
	await rig.close();
});

/** Descriptors as another process would get them: by a socket, as new ones. */
async function pass(fds: readonly number[]): Promise<number[]> {
	const [a, b] = native.socketPair();
	const sender = makePeer(rig.bench.runtime.adopt(a));
	const receiver = makePeer(rig.bench.runtime.adopt(b));
	native.fdClose(a);
	native.fdClose(b);
	receiver.kept = [];
	for (let i = 0; i < fds.length; i += 32) {
		sender.send(1, Buffer.alloc(0), fds.slice(i, i + 32));
		await receiver.receive();
	}
	await Promise.all([sender.close(), receiver.close()]);
	assert.equal(receiver.kept.length, fds.length);
	return receiver.kept;
}

/** The image as it comes out at the other end. */
async function sent(image: SessionImage): Promise<SessionImage> {
	return {
		document: JSON.parse(JSON.stringify(image.document)),
		fds: await pass(image.fds),
	};
}

/** A session whose ring serves a driver, with all that a session may have. */
async function begin(features = 0n) {
	const { peer, session } = rig.bench.connect();
	const { device } = rig.bench;
	device.exportSession = () => ({ its: "own" });
	await negotiate(peer, VIRTIO_BLK_F.FLUSH | VIRTIO_F.LOG_ALL | features);
	assert.equal(await rig.memTable(peer), 0n);
	const channel = await rig.openChannel(peer);
	const log = encodeLog({ size: 4096n, offset: 0n });
	await peer.ask("SET_LOG_BASE", log, [rig.pages.fd]);
	const event = native.eventfd();
	await say(peer, "SET_LOG_FD", Buffer.alloc(0), [event]);
	const shape = { size: 0n, offset: 0n, numQueues: 4, queueSize: 8 };
	await peer.ask("GET_INFLIGHT_FD", encodeInflight(shape));
	const driver = await makeDriver(rig, peer, { features });
	await say(peer, "SET_VRING_CALL", encodeFdIndex(0, true), [event]);
	await say(peer, "SET_VRING_ERR", encodeFdIndex(0, true), [event]);
	await say(peer, "SET_VRING_KICK", encodeFdIndex(0, true), [driver.kick]);
	await say(peer, "SET_STATUS", encodeU64(15n));
	await say(peer, "SET_VRING_ENABLE", encodeState({ index: 3, num: 0 }));
	native.fdClose(event);
	return { peer, session, channel, driver };
}

async function flush(driver: Driver): Promise<void> {
	let status: number | undefined;
	driver.offer();
	await waitUntil(
		() => {
			status = driver.take();
			return status !== undefined;
		},
		5000,
		() => "a request",
	);
	assert.equal(status, 0);
}

/** What can be seen of a session. */
const look = ({
	features,
	protocolFeatures,
	status,
	memory,
	rings,
}: Session) => ({
	features,
	protocolFeatures,
	status,
	memory,
	rings,
});

for (const [what, features] of [
	["split", 0n],
	["packed", VIRTIO_F.RING_PACKED],
] as const)
	test(`a session with a ${what} ring goes on from its image, and its front end sees nothing`, async () => {
		const { peer, session, channel, driver } = await begin(features);
		for (let i = 0; i < 5; i++) await flush(driver);
		const before = look(session);
		const image = await sent(await session.freeze());
		assert.deepEqual(session.rings[0]?.running, false);
		driver.offer(); // while nobody serves
		const attached: unknown[] = [];
		const { device } = rig.bench;
		const { attach } = device;
		device.attach = (session, image) => {
			attached.push(image);
			attach(session);
		};
		const next = await resumeSession(rig.bench.runtime, device, image);
		device.attach = attach;
		assert.deepEqual(attached, [{ its: "own" }]);
		assert.notEqual(next.id, session.id);
		await session.close(); // as the old process ends
		assert.equal(driver.take(), undefined, "still frozen");
		await next.thaw();
		assert.deepEqual(look(next), before);
		await waitUntil(
			() => driver.take() === 0,
			5000,
			() => "the request offered meanwhile",
		);
		await flush(driver);
		// Both channels work.
		assert.equal(u64(await peer.ask("GET_STATUS")), 15n);
		const changed = next.configChanged();
		assert.equal((await channel.receive())?.request, 2);
		channel.send(2, encodeU64(0n), [], FLAG_REPLY);
		await changed;
		const base = encodeState({ index: 0, num: 0 });
		const answer = await peer.ask("GET_VRING_BASE", base);
		const { num } = decodeState(answer?.payload ?? Buffer.alloc(0));
		if (features === 0n) assert.equal(num, 7);
		driver.close();
		await channel.close();
		await rig.assertNothingLeft(peer);
	});

test("thawed, the old session goes on as if nothing had been", async () => {
	const { peer, session, channel, driver } = await begin();
	for (let i = 0; i < 3; i++) {
		await flush(driver);
		const image = await sent(await session.freeze());
		driver.offer();
		// The successor gives up before it begins.
		const next = await resumeSession(
			rig.bench.runtime,
			rig.bench.device,
			image,
		);
		await next.close();
		await session.thaw();
		await waitUntil(
			() => driver.take() === 0,
			5000,
			() => "the request",
		);
	}
	assert.equal(u64(await peer.ask("GET_STATUS")), 15n);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("a message on its way is answered by whoever goes on, once", async () => {
	for (const goes of ["old", "new"]) {
		const { peer, session, channel, driver } = await begin();
		// In the socket, or already read and waiting behind the freeze.
		const freezing = session.freeze();
		peer.send("GET_STATUS");
		const image = await sent(await freezing);
		peer.send("GET_QUEUE_NUM");
		let next = session;
		if (goes === "new") {
			const { runtime, device } = rig.bench;
			next = await resumeSession(runtime, device, image);
			await session.close();
		} else for (const fd of image.fds) native.fdClose(fd);
		await next.thaw();
		assert.equal(u64(await peer.receive()), 15n);
		assert.equal(u64(await peer.receive()), 4n);
		driver.close();
		await channel.close();
		await rig.assertNothingLeft(peer);
	}
});

test("a message that was read, with its descriptors, is in the image", async () => {
	const { peer, session, channel, driver } = await begin();
	// The freeze is behind the pause in the queue, and the message that comes meanwhile behind both.
	const { device, runtime } = rig.bench;
	const freezing = session.freeze();
	const event = native.eventfd();
	const taken = mock.method(native, "transportTake", () => {
		throw new NativeError("vhc_transport_take", 16); // EBUSY, until it was read
	});
	peer.send("SET_VRING_ERR", encodeFdIndex(0, true), [event], 8);
	await new Promise((resolve) => setTimeout(resolve, 30));
	taken.mock.restore();
	native.fdClose(event);
	const image = await sent(await freezing);
	assert.equal(image.document.message?.fds.length, 1);
	const next = await resumeSession(runtime, device, image);
	await session.close();
	await next.thaw();
	assert.equal(u64(await peer.receive()), 0n);
	await flush(driver);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("answers that the old process was owed are not taken for the new one's", async () => {
	const { peer, session, channel, driver } = await begin();
	const lost = session.configChanged();
	assert.equal((await channel.receive())?.request, 2);
	const image = await sent(await session.freeze());
	assert.equal(image.document.channel?.owed, 1);
	const { runtime, device } = rig.bench;
	const next = await resumeSession(runtime, device, image);
	await lost; // it logs that nobody answers it
	await session.close();
	await next.thaw();
	let told = false;
	const change = next.configChanged().then(() => {
		told = true;
	});
	assert.equal((await channel.receive())?.request, 2);
	channel.send(2, encodeU64(1n), [], FLAG_REPLY); // to the old one's
	await peer.ask("GET_STATUS");
	assert.equal(told, false);
	channel.send(2, encodeU64(0n), [], FLAG_REPLY);
	await change;
	assert.doesNotMatch(device.logged.at(-1) ?? "", /refused/);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("half a message, or a front end that has gone, cannot be frozen", async () => {
	const { peer, session, channel, driver } = await begin();
	const whole = encodeMessage(40, 0);
	peer.sendBytes(whole.subarray(0, 7));
	// Before it was read it waits in the socket, and would for the next process.
	const freeze = async () => {
		await session.freeze();
		await session.thaw();
	};
	const refused = (reason: string) =>
		freeze().then(
			() => false,
			({ code }) => code === reason,
		);
	await waitUntil(
		() => refused("E_BUSY"),
		5000,
		() => "half a message to be read",
	);
	assert.equal(session.rings[0]?.running, true);
	await flush(driver);
	peer.sendBytes(whole.subarray(7));
	assert.equal(u64(await peer.receive()), 15n);
	await peer.close();
	// Until somebody has noticed it is the next process that would.
	await waitUntil(
		() => refused("E_CONNECT"),
		5000,
		() => "the hang-up to be noticed",
	);
	await assert.rejects(session.freeze(), { code: "E_CONNECT" });
	driver.close();
	await channel.close();
	await rig.assertNothingLeft();
});

test("what cannot be exported leaves the session as it was", async () => {
	const { peer, session, channel, driver } = await begin();
	rig.bench.device.exportSession = () => {
		throw new Error("not now");
	};
	await assert.rejects(session.freeze(), /not now/);
	await flush(driver);
	assert.equal(u64(await peer.ask("GET_STATUS")), 15n);
	const told = session.configChanged();
	assert.equal((await channel.receive())?.request, 2);
	channel.send(2, encodeU64(0n), [], FLAG_REPLY);
	await told;
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("an image that cannot be made again leaves its descriptors to the caller", async () => {
	const { peer, session, channel, driver } = await begin();
	const image = await sent(await session.freeze());
	const { runtime, device } = rig.bench;
	const { document, fds } = image;
	const resume = (changed: object) =>
		resumeSession(runtime, device, {
			document: { ...document, ...changed },
			fds,
		});
	const region = document.memory?.[0];
	await assert.rejects(resume({ version: 2 }), { code: "E_UNSUPPORTED" });
	for (const changed of [
		{ memory: [{ ...region, size: "1048576000" }] },
		{ memory: [region, region] },
		{ memory: [{ ...region, fd: 99 }] },
		{ log: { ...document.log, size: "0" } },
		{ inflight: { ...document.inflight, size: "1" } },
		{ inflight: { ...document.inflight, numQueues: 5 } },
		{ connection: 99 },
		{ features: "many" },
	])
		await assert.rejects(resume(changed), JSON.stringify(Object.keys(changed)));
	const { attach } = device;
	device.attach = () => {
		throw new Error("no room");
	};
	await assert.rejects(resume({}), /no room/);
	device.attach = attach;
	for (const fd of fds) native.fdClose(fd);
	await session.thaw();
	await flush(driver);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("a frozen session that is closed leaves the front end alone", async () => {
	const { peer, session, channel, driver } = await begin();
	const image = await sent(await session.freeze());
	await session.close();
	await session.ended;
	peer.send("GET_STATUS");
	const { runtime, device } = rig.bench;
	const next = await resumeSession(runtime, device, image);
	await next.thaw();
	assert.equal(u64(await peer.receive()), 15n);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("a front end that went while its session was frozen is found gone by the thaw", async () => {
	const { peer, session, channel, driver } = await begin();
	const image = await sent(await session.freeze());
	const { runtime, device } = rig.bench;
	const next = await resumeSession(runtime, device, image);
	await session.close();
	driver.close();
	await Promise.all([peer.close(), channel.close()]);
	await next.thaw();
	await within(next.ended, 5000, () => "the end");
	await rig.assertNothingLeft();
});

test("a ring that cannot start in the new process ends the connection", async () => {
	const { peer, session, channel, driver } = await begin();
	const image = await sent(await session.freeze());
	const { runtime, device } = rig.bench;
	const next = await resumeSession(runtime, device, image);
	await session.close();
	device.failing.add("startRing");
	await next.thaw();
	await within(peer.closed, 5000, () => "the close");
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});

test("paused and not yet set up sessions are frozen too", async () => {
	const { peer, session } = rig.bench.connect();
	await session.pause();
	const image = await sent(await session.freeze());
	assert.equal(image.document.memory, null);
	const { runtime, device } = rig.bench;
	const next = await resumeSession(runtime, device, image);
	await session.close();
	await next.pause();
	await next.thaw();
	await rig.running(peer, 0);
	assert.equal(next.rings[0]?.running, false);
	await next.resume();
	assert.equal(next.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("in the middle of a migration nothing is taken over", async () => {
	const { peer, session } = rig.bench.connect();
	const { PAGEFAULT } = PROTOCOL_FEATURES;
	rig.bench.device.protocolFeatures |= PAGEFAULT;
	await negotiate(peer, 0n, DEFAULT_PROTOCOL_FEATURES | PAGEFAULT);
	mock.method(native, "userfaultOpen", () => native.eventfd());
	await peer.ask("POSTCOPY_ADVISE");
	await assert.rejects(session.freeze(), { code: "E_BUSY" });
	mock.restoreAll();
	mock.method(native, "userfaultOpen", () => {
		throw new NativeError("vhc_userfault_open", 1);
	});
	assert.equal(await ack(peer, "POSTCOPY_ADVISE"), undefined);
	await rig.assertNothingLeft(peer);
});

test("an IOTLB begins anew in the new process, by asking", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer, VIRTIO_F.ACCESS_PLATFORM);
	assert.equal(await rig.memTable(peer), 0n);
	const image = await sent(await session.freeze());
	const { runtime, device } = rig.bench;
	const next = await resumeSession(runtime, device, image);
	await session.close();
	await next.thaw();
	const channel = await rig.openChannel(peer);
	const driver = await makeDriver(rig, peer, { base: 1n << 32n, iova: true });
	await say(peer, "SET_VRING_KICK", encodeFdIndex(0, true), [driver.kick]);
	assert.equal((await channel.receive())?.request, 1);
	driver.close();
	await channel.close();
	await rig.assertNothingLeft(peer);
});
