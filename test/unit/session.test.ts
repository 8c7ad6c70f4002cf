// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, test } from "node:test";
import {
	decodeConfig,
	decodeState,
	encodeAddress,
	encodeConfig,
	encodeFdIndex,
	encodeMemory,
	encodeState,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	F_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	FLAG_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, type Pages } from "../../src/ffi/native.ts";
import { waitUntil, within } from "../support/processes.ts";
import {
	ack,
	enable,
	makeRig,
	negotiate,
	type Rig,
	SIZE,
	u64,
	wire,
} from "../support/session-rig.ts";
import { type Bench, makePeer, type RawPeer } from "../support/vhost-user.ts";

let rig: Rig;
let bench: Bench;
let pages: Pages;

beforeEach(() => {
	rig = makeRig();
	({ bench, pages } = rig);
});
afterEach(() => rig.close());

const region: Rig["region"] = (changes) => rig.region(changes);
const address = (index: number) => rig.address(index);
const memTable = (peer: RawPeer) => rig.memTable(peer);
const prepare = (peer: RawPeer, index: number) => rig.prepare(peer, index);
const running: Rig["running"] = (...args) => rig.running(...args);
const assertNothingLeft: Rig["assertNothingLeft"] = (...peers) =>
	rig.assertNothingLeft(...peers);

test("features are told, and only those are accepted", async () => {
	const { peer, session } = bench.connect();
	const offered = u64(await peer.ask("GET_FEATURES"));
	assert.equal(offered, bench.device.features | F_PROTOCOL_FEATURES);
	const protocol = u64(await peer.ask("GET_PROTOCOL_FEATURES"));
	assert.equal(protocol, DEFAULT_PROTOCOL_FEATURES);
	assert.equal(u64(await peer.ask("GET_QUEUE_NUM")), 4n);
	await negotiate(peer);
	assert.equal(session.features, F_PROTOCOL_FEATURES | VIRTIO_F.VERSION_1);
	assert.equal(await ack(peer, "SET_FEATURES", encodeU64(1n << 40n)), 1n);
	const unknown = encodeU64(1n << 2n); // RARP
	assert.equal(await ack(peer, "SET_PROTOCOL_FEATURES", unknown), 1n);
	assert.equal(session.features, F_PROTOCOL_FEATURES | VIRTIO_F.VERSION_1);
	assert.equal(session.protocolFeatures, DEFAULT_PROTOCOL_FEATURES);
	await assertNothingLeft(peer);
});

test("without REPLY_ACK a refusal closes the connection and says why", async () => {
	const { peer } = bench.connect();
	const answer = await peer.ask(
		"SET_FEATURES",
		encodeU64(1n << 40n),
		[],
		FLAG_NEED_REPLY,
	);
	assert.equal(answer, undefined);
	assert.match(bench.device.logged.join(), /SET_FEATURES: .*0x10000000000/);
	await assertNothingLeft(peer);
});

test("without NEED_REPLY success is silent", async () => {
	const { peer } = bench.connect();
	peer.send("SET_OWNER");
	const next = await peer.ask("GET_FEATURES");
	assert.equal(next?.request, 1);
	await assertNothingLeft(peer);
});

test("a ring starts with its kick, and stops where GET_VRING_BASE says", async () => {
	const { peer, session } = bench.connect();
	await running(peer, 0, 2);
	assert.deepEqual(
		session.rings.map(({ index, running }) => [index, running]),
		[
			[0, true],
			[2, true],
		],
	);
	const base = encodeState({ index: 2, num: 0 });
	const answer = await peer.ask("GET_VRING_BASE", base);
	assert.deepEqual(decodeState(answer?.payload ?? Buffer.alloc(0)), {
		index: 2,
		num: 0,
	});
	assert.deepEqual([...bench.device.started], [`${session.id}.0`]);
	assert.equal(await wire(peer, "SET_VRING_KICK", 2), 0n);
	assert.equal(bench.device.started.size, 2);
	await assertNothingLeft(peer);
});

test("the order of a ring's messages does not matter", async () => {
	const { peer } = bench.connect();
	await negotiate(peer);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(await enable(peer, 0, 1), 0n);
	await prepare(peer, 0);
	assert.equal(bench.device.started.size, 0);
	assert.equal(await memTable(peer), 0n);
	assert.equal(bench.device.started.size, 1);
	await assertNothingLeft(peer);
});

test("ENABLE 0 holds a ring, through a kick, until ENABLE 1", async () => {
	const { peer } = bench.connect();
	await running(peer, 0);
	assert.equal(await enable(peer, 0, 0), 0n);
	assert.equal(bench.device.started.size, 0);
	await prepare(peer, 0);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(bench.device.started.size, 0);
	assert.equal(await enable(peer, 0, 1), 0n);
	assert.equal(bench.device.started.size, 1);
	assert.equal(await enable(peer, 0, 2), 1n);
	await assertNothingLeft(peer);
});

test("ENABLE needs PROTOCOL_FEATURES, without which a kick is enough", async () => {
	const { peer } = bench.connect();
	peer.send("SET_FEATURES", encodeU64(VIRTIO_F.VERSION_1));
	peer.send("SET_MEM_TABLE", encodeMemory([region()]), [pages.fd]);
	peer.send("SET_VRING_NUM", encodeState({ index: 0, num: SIZE }));
	peer.send("SET_VRING_ADDR", encodeAddress(address(0)));
	peer.send("SET_VRING_KICK", encodeFdIndex(0, false));
	await peer.ask("GET_FEATURES");
	assert.equal(bench.device.started.size, 1);
	const refused = encodeState({ index: 0, num: 1 });
	assert.equal(await peer.ask("SET_VRING_ENABLE", refused), undefined);
	await assertNothingLeft(peer);
});

test("descriptors of a running ring change and it goes on", async () => {
	const { peer } = bench.connect();
	await running(peer, 0);
	for (const name of [
		"SET_VRING_CALL",
		"SET_VRING_ERR",
		"SET_VRING_KICK",
	] as const) {
		assert.equal(await wire(peer, name, 0), 0n);
		assert.equal(bench.device.started.size, 1, name);
		assert.equal(await ack(peer, name, encodeFdIndex(0, false)), 0n);
		assert.equal(bench.device.started.size, 1, name);
	}
	await assertNothingLeft(peer);
});

test("a running ring that is moved waits for its next kick", async () => {
	const { peer } = bench.connect();
	await running(peer, 0);
	const same = encodeAddress(address(0));
	assert.equal(await ack(peer, "SET_VRING_ADDR", same), 0n);
	assert.equal(bench.device.started.size, 1);
	const moved = encodeAddress({ ...address(1), index: 0 });
	assert.equal(await ack(peer, "SET_VRING_ADDR", moved), 0n);
	assert.equal(bench.device.started.size, 0);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(bench.device.started.size, 1);
	await assertNothingLeft(peer);
});

test("a new memory table is swapped in under running rings", async () => {
	const { peer } = bench.connect();
	await running(peer, 0, 1);
	for (let i = 0; i < 5; i++) assert.equal(await memTable(peer), 0n);
	assert.equal(bench.device.started.size, 2);
	// Without the rings' memory they cannot go on: refused, and the rings wait.
	const half = region({ userAddr: pages.addr + 65536n, size: 65536n });
	assert.equal(
		await ack(peer, "SET_MEM_TABLE", encodeMemory([half]), [pages.fd]),
		1n,
	);
	assert.equal(bench.device.started.size, 0);
	await assertNothingLeft(peer);
});

test("a memory table that cannot be mapped leaves the old one in place", async () => {
	const { peer } = bench.connect();
	await running(peer, 0);
	const long = encodeMemory([region({ size: pages.size * 2n })]);
	assert.equal(await ack(peer, "SET_MEM_TABLE", long, [pages.fd]), 1n);
	const twice = encodeMemory([region(), region()]);
	const fds = [pages.fd, pages.fd];
	assert.equal(await ack(peer, "SET_MEM_TABLE", twice, fds), 1n);
	assert.equal(bench.device.started.size, 1);
	await assertNothingLeft(peer);
});

test("rings refuse sizes, places, bases and indexes that cannot be", async () => {
	const { peer } = bench.connect();
	await negotiate(peer);
	assert.equal(await memTable(peer), 0n);
	for (const num of [0, 3, 65536, 0xffffffff])
		assert.equal(
			await ack(peer, "SET_VRING_NUM", encodeState({ index: 0, num })),
			1n,
		);
	const far = encodeState({ index: 0, num: 65536 });
	assert.equal(await ack(peer, "SET_VRING_BASE", far), 1n);
	for (const name of ["SET_VRING_NUM", "SET_VRING_BASE"] as const)
		assert.equal(await ack(peer, name, encodeState({ index: 4, num: 8 })), 1n);
	const logging = encodeAddress({ ...address(0), flags: 1 });
	assert.equal(await ack(peer, "SET_VRING_ADDR", logging), 1n);
	for (const part of ["desc", "avail", "used"] as const) {
		const odd = { ...address(0), [part]: pages.addr + 1n };
		assert.equal(await ack(peer, "SET_VRING_ADDR", encodeAddress(odd)), 1n);
	}
	await prepare(peer, 0);
	const outside = encodeAddress({ ...address(0), used: 1n << 62n });
	assert.equal(await ack(peer, "SET_VRING_ADDR", outside), 0n);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 1n);
	assert.equal(bench.device.started.size, 0);
	await assertNothingLeft(peer);
});

for (const name of ["RESET_OWNER", "RESET_DEVICE", "SET_STATUS"] as const)
	test(`${name} stops and forgets, and the device can be set up again`, async () => {
		const { peer, session } = bench.connect();
		await running(peer, 0, 1);
		assert.equal(await ack(peer, "SET_STATUS", encodeU64(15n)), 0n);
		assert.equal(u64(await peer.ask("GET_STATUS")), 15n);
		const payload = name === "SET_STATUS" ? encodeU64(0n) : Buffer.alloc(0);
		assert.equal(await ack(peer, name, payload), 0n);
		assert.equal(bench.device.started.size, 0);
		assert.equal(session.features, 0n);
		assert.equal(u64(await peer.ask("GET_STATUS")), 0n);
		await running(peer, 0, 1);
		assert.equal(bench.device.started.size, 2);
		await assertNothingLeft(peer);
	});

test("the configuration space is read at any offset and length", async () => {
	const { peer } = bench.connect();
	await negotiate(peer);
	const read = async (offset: number, length: number) => {
		const wanted = encodeConfig(offset, Buffer.alloc(length));
		const answer = await peer.ask("GET_CONFIG", wanted);
		return answer?.payload ?? assert.fail("closed");
	};
	for (const [offset, length] of [
		[0, 60],
		[0, 256],
		[36, 4],
		[255, 1],
		[0, 0],
	] as const) {
		const { size, data } = decodeConfig(await read(offset, length));
		assert.equal(size, length);
		const expected = bench.device.space.subarray(offset, offset + length);
		assert.deepEqual(data, Buffer.from(expected));
	}
	assert.equal((await read(200, 57)).length, 0);
	assert.equal((await read(0xffffffff, 1)).length, 0);
	bench.device.failing.add("readConfig");
	assert.equal((await read(0, 60)).length, 0);
	await assertNothingLeft(peer);
});

test("the one writable field is written, the others are not", async () => {
	const { peer } = bench.connect();
	await negotiate(peer);
	const write = (offset: number, bytes: number[]) =>
		ack(peer, "SET_CONFIG", encodeConfig(offset, Buffer.from(bytes)));
	assert.equal(await write(32, [1]), 0n);
	assert.equal(bench.device.space[32], 1);
	assert.equal(await write(0, [1]), 1n);
	// SPDK's initiator leaves room for 256 bytes behind the header.
	const roomy = Buffer.alloc(12 + 256);
	roomy.writeUInt32LE(32, 0);
	roomy.writeUInt32LE(1, 4);
	assert.equal(await ack(peer, "SET_CONFIG", roomy), 0n);
	assert.equal(bench.device.space[32], 0);
	roomy.writeUInt32LE(257, 4);
	assert.equal(await ack(peer, "SET_CONFIG", roomy), 1n);
	await assertNothingLeft(peer);
});

test("messages of features that were not negotiated are refused by name", async () => {
	for (const [name, payload] of [
		["GET_CONFIG", encodeConfig(0, Buffer.alloc(60))],
		["SET_CONFIG", encodeConfig(32, Buffer.from([1]))],
		["RESET_DEVICE", Buffer.alloc(0)],
		["GET_STATUS", Buffer.alloc(0)],
		["SET_STATUS", encodeU64(0n)],
	] as const) {
		const { peer } = bench.connect();
		assert.equal(await peer.ask(name, payload), undefined);
		assert.match(
			bench.device.logged.at(-1) ?? "",
			new RegExp(`${name}: protocol feature \\w+ was not negotiated`),
		);
	}
});

test("what is not implemented is refused by name: acked if that is possible", async () => {
	const { peer } = bench.connect();
	await negotiate(peer);
	assert.equal(await ack(peer, 19), 1n);
	assert.match(
		bench.device.logged.at(-1) ?? "",
		/SEND_RARP: not supported: this is no network device/,
	);
	assert.equal(await ack(peer, 12345), 1n);
	assert.match(bench.device.logged.at(-1) ?? "", /request 12345/);
	// An ack would be taken for GET_SHARED_OBJECT's own reply.
	assert.equal(await ack(peer, 41, Buffer.alloc(16)), undefined);
	await assertNothingLeft(peer);
});

test("pause stops the rings, nests, and resume starts them", async () => {
	const { peer, session } = bench.connect();
	await running(peer, 0, 1);
	await session.pause();
	await session.pause();
	assert.equal(bench.device.started.size, 0);
	await session.resume();
	assert.equal(await memTable(peer), 0n);
	assert.equal(bench.device.started.size, 0);
	await session.resume();
	assert.equal(bench.device.started.size, 2);
	await assertNothingLeft(peer);
});

test("a ring that cannot start again after a pause ends the connection", async () => {
	const { peer, session } = bench.connect();
	await running(peer, 0);
	await session.pause();
	bench.device.failing.add("startRing");
	await session.resume();
	await within(peer.closed, 5000, () => "the close");
	await assertNothingLeft(peer);
});

test("a ring that the driver corrupts is reported once and serves again after a kick", async () => {
	const { peer, session } = bench.connect();
	await running(peer, 0, 1);
	// An available index that is further ahead than the ring is long.
	const index = Buffer.alloc(2);
	index.writeUInt16LE(1000);
	native.copyIn(address(0).avail + 2n, index);
	const kick = native.eventfd();
	const rewire = () =>
		ack(peer, "SET_VRING_KICK", encodeFdIndex(0, true), [kick]);
	assert.equal(await rewire(), 0n);
	native.eventfdSignal(kick);
	while (!session.rings[0]?.broken) await peer.ask("GET_FEATURES");
	const reports = bench.device.logged.filter((line) => /broken/.test(line));
	assert.equal(reports.length, 1);
	assert.match(
		reports[0] ?? "",
		/ring 0: broken: the available index is further ahead than the ring has entries \(EPROTO\)/,
	);
	assert.equal(session.rings[1]?.broken, false);
	// Changing its interrupts does not bring it back; setting it up does.
	assert.equal(await wire(peer, "SET_VRING_CALL", 0), 0n);
	assert.equal(session.rings[0]?.running, false);
	native.copyIn(address(0).avail + 2n, Buffer.alloc(2));
	await prepare(peer, 0);
	assert.equal(await rewire(), 0n);
	assert.equal(session.rings[0]?.running, true);
	assert.equal(session.rings[0]?.broken, false);
	native.fdClose(kick);
	await assertNothingLeft(peer);
});

test("malformed requests are told of with the reason and the count, the rest at the stop", async () => {
	const { peer } = bench.connect();
	await running(peer, 0);
	const { desc, avail, used } = address(0);
	const offer = async (to: number): Promise<void> => {
		const heads = Buffer.alloc(4 + 2 * SIZE);
		heads.writeUInt16LE(to, 2);
		for (let i = 0; i < SIZE; i++) heads.writeUInt16LE(i, 4 + 2 * i);
		native.copyIn(avail, heads);
		assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
		await waitUntil(
			async () => native.copyOut(used + 2n, 2).readUInt16LE() === to,
			5000,
			() => "the requests come back",
		);
	};
	// Descriptors that go round in circles.
	const circle = Buffer.alloc(16);
	circle.writeUInt32LE(16, 8);
	circle.writeUInt16LE(1, 12);
	for (let i = 0; i < SIZE; i++) {
		circle.writeUInt16LE(i, 14);
		native.copyIn(desc + 16n * BigInt(i), circle);
	}
	const reports = () =>
		bench.device.logged.filter((line) => /malformed/.test(line));
	await offer(1);
	await waitUntil(
		async () => reports().length > 0,
		5000,
		() => "the first is told of",
	);
	assert.match(
		reports()[0] ?? "",
		/malformed request \(head 0\): its descriptors make no chain \(ELOOP\); 1 so far/,
	);
	await offer(SIZE);
	await assertNothingLeft(peer);
	assert.match(reports().at(-1) ?? "", /; 8 so far$/);
});

test("connections to one device are independent", async () => {
	const all = Array.from({ length: 3 }, () => bench.connect());
	for (const { peer } of all) await running(peer, 0);
	assert.equal(bench.device.started.size, 3);
	await all[1]?.peer.close();
	await all[1]?.session.close();
	assert.equal(bench.device.started.size, 2);
	assert.equal(bench.device.sessions.size, 2);
	await assertNothingLeft(...all.map(({ peer }) => peer));
});

test("the device's close ends the connection when the rings have stopped", async () => {
	const { peer, session } = bench.connect();
	await running(peer, 0, 1, 2, 3);
	await session.close();
	assert.equal(bench.device.started.size, 0);
	assert.equal(bench.device.sessions.size, 0);
	await within(peer.closed, 5000, () => "the close");
	await session.close();
	await session.pause();
	await session.resume();
	await assertNothingLeft(peer);
});

test("a message cut off in the middle frees all when the peer goes", async () => {
	const { peer, session } = bench.connect();
	await running(peer, 0);
	peer.sendBytes(Buffer.from([5, 0, 0, 0, 1, 0, 0]), [pages.fd, pages.fd]);
	await peer.close();
	await session.close();
	await assertNothingLeft(peer);
});

test("refusals are of kinds that a front end cannot add to", async () => {
	const { peer } = bench.connect();
	await negotiate(peer);
	for (let request = 30_000; request < 30_050; request++)
		assert.equal(await ack(peer, request), 1n);
	assert.equal(await ack(peer, 19), 1n);
	assert.equal(bench.device.logged.length, 51);
	assert.deepEqual(
		[...bench.device.kinds],
		["message-unknown", "message-SEND_RARP"],
	);
	await assertNothingLeft(peer);
});

test("CONFIG_CHANGE_MSG goes down the back-end channel, and its ack is awaited", async () => {
	const { peer, session } = bench.connect();
	await negotiate(peer);
	const [ours, theirs] = native.socketPair();
	const channel = makePeer(bench.runtime.adopt(ours));
	native.fdClose(ours);
	const none = Buffer.alloc(0);
	assert.equal(await ack(peer, "SET_BACKEND_REQ_FD", none, [theirs]), 0n);
	native.fdClose(theirs);
	for (const status of [0n, 1n]) {
		let told = false;
		const change = session.configChanged().then(() => {
			told = true;
		});
		const message = await channel.receive();
		assert.equal(message?.request, 2);
		assert.equal(message?.flags, FLAG_NEED_REPLY | 1);
		// The front end reads the new configuration before it answers.
		const wanted = encodeConfig(0, Buffer.alloc(8));
		assert.equal((await peer.ask("GET_CONFIG", wanted))?.payload.length, 20);
		assert.equal(told, false);
		channel.send(2, encodeU64(status), [], FLAG_REPLY);
		await change;
	}
	assert.match(bench.device.logged.at(-1) ?? "", /refused the change/);
	await assertNothingLeft(channel, peer);
});

test("without CONFIG or a channel nobody is told", async () => {
	const { peer, session } = bench.connect();
	await session.configChanged();
	const mq = encodeU64(PROTOCOL_FEATURES.MQ);
	peer.send("SET_PROTOCOL_FEATURES", mq);
	await peer.ask("GET_FEATURES");
	await session.configChanged();
	assert.deepEqual(bench.device.logged, []);
	await assertNothingLeft(peer);
});
