// SPDX-License-Identifier: MIT
// Devices of a program's own, driven by our own front end: what they are told and given, and
// what comes of what they answer.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
	allowedCpus,
	type Device,
	type DeviceConnection,
	type DeviceMessage,
	type DeviceOptions,
	type DeviceRequest,
	VhostctlError,
} from "../../src/engine/engine.ts";
import { silent } from "../../src/engine/log.ts";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import {
	decodeU64,
	encodeMemory,
	encodeMessage,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	connectFrontend,
	type Frontend,
	type FrontendOptions,
} from "../../src/engine/vhost-user/frontend.ts";
import {
	FLAG_NEED_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, PAGES_SHARED } from "../../src/ffi/native.ts";
import {
	assertNoLeak,
	fails,
	footprint,
	startTestEngine,
	type TestEngine,
} from "../support/engine.ts";
import { waitUntil } from "../support/processes.ts";
import { makeRingIo, type RingIo } from "../support/ring-io.ts";
import { makePeer, type RawPeer } from "../support/vhost-user.ts";

const IN_TIME = 10_000;
const FORMATS = ["split", "packed"] as const;
type Format = (typeof FORMATS)[number];
const NET_SET_MTU = 20;
/** SET_MEM_TABLE, ADD_MEM_REG: which one the front end takes is its choice. */
const SHARE_MEMORY = [5, 37];
const OF_OUR_OWN = 1000;

let t: TestEngine;
let runtime: Runtime;
let frontends: Frontend[];
let peers: RawPeer[];
let logged: string[];

beforeEach(async () => {
	logged = [];
	const note = (text: string) => void logged.push(text);
	const log = { ...silent, error: note, warning: note };
	t = await startTestEngine({ cpus: allowedCpus(), log });
	runtime = createRuntime();
	frontends = [];
	peers = [];
});
afterEach(async () => {
	for (const frontend of frontends) await frontend.close();
	for (const peer of peers) await peer.close();
	await runtime.close();
	await t.close();
});

const serve = (options: Partial<DeviceOptions>): Promise<Device> =>
	t.engine.createDevice({
		name: "device",
		onRequest: (request) => request.complete(),
		...options,
	});

async function attach(
	device: Device,
	options: Partial<FrontendOptions> = {},
): Promise<{ frontend: Frontend; io: RingIo; connection: DeviceConnection }> {
	const before = new Set(device.connections);
	const frontend = await connectFrontend(runtime, device.path, {
		queues: device.queues,
		queueSize: 16,
		memoryBytes: 1024 * 1024,
		mode: "interrupt",
		configSize: 0,
		...options,
	});
	frontends.push(frontend);
	const connection = device.connections.find((each) => !before.has(each));
	assert(connection);
	return { frontend, io: makeRingIo(frontend), connection };
}

/** A peer that says what it likes, with REPLY_ACK negotiated. */
async function attachPeer(device: Device): Promise<RawPeer> {
	const fd = native.socketConnect(device.path);
	const peer = makePeer(runtime.adopt(fd));
	native.fdClose(fd);
	peers.push(peer);
	peer.send("SET_PROTOCOL_FEATURES", encodeU64(PROTOCOL_FEATURES.REPLY_ACK));
	return peer;
}

const wanted = (format: Format): Partial<FrontendOptions> =>
	format === "packed" ? {} : { features: ALL_FEATURES & ~VIRTIO_F.RING_PACKED };
const ALL_FEATURES = Object.values(VIRTIO_F).reduce(
	(all, bit) => all | bit,
	0n,
);

const until = (condition: () => boolean, what: string) =>
	waitUntil(condition, IN_TIME, () => what);

for (const format of FORMATS) {
	test(`requests of any ring are answered with what is written, ${format}`, async () => {
		const device = await serve({
			queues: 3,
			onRequest(request) {
				const text = request.read(request.readable).toString();
				request.write(Buffer.from(`${request.queue}:${text.toUpperCase()}`));
				request.complete();
			},
		});
		const { io, frontend, connection } = await attach(device, wanted(format));
		assert.equal(
			(frontend.features & VIRTIO_F.RING_PACKED) !== 0n,
			format === "packed",
		);
		for (const { packed } of connection.rings)
			assert.equal(packed, format === "packed");
		for (let i = 0; i < 50; i++) {
			const ring = i % 3;
			const out = [Buffer.from(`first ${i}, `), Buffer.from("second")];
			const { written, data } = await io.exchange(out, [7, 100], ring);
			const expected = `${ring}:FIRST ${i}, SECOND`;
			assert.equal(data.subarray(0, written).toString(), expected);
			assert(data.subarray(written).every((byte) => byte === 0xee));
		}
		assert.equal(device.stats(connection, 0)?.ops.other.count, 17);
		assert.equal(device.stats(connection, 2)?.ops.other.count, 16);
	});
}

test("a request is read and written in parts, and no further than it goes", async () => {
	let seen: DeviceRequest | undefined;
	const device = await serve({
		onRequest(request) {
			seen = request;
		},
	});
	const { io } = await attach(device);
	const long = Buffer.from(Array.from({ length: 20_000 }, (_, i) => i % 251));
	const offered = io.offer(
		[long.subarray(0, 9000), long.subarray(9000)],
		[10, 20],
	);
	await until(() => seen !== undefined, "the request");
	const request = seen ?? assert.fail();
	assert.equal(request.readable, 20_000);
	assert.equal(request.writable, 30);
	assert.equal(request.queue, 0);
	assert.deepEqual(request.read(4), long.subarray(0, 4));
	assert.deepEqual(request.read(200, 8900), long.subarray(8900, 9100));
	assert.deepEqual(request.read(100_000, 19_990), long.subarray(19_990));
	assert.equal(request.read(1, 20_000).length, 0);
	assert.equal(request.read(1, 2 ** 53 - 1).length, 0);
	for (const bad of [-1, 0.5, Number.NaN, 2 ** 53]) {
		assert.throws(() => request.read(1, bad), VhostctlError);
		assert.throws(() => request.read(bad), VhostctlError);
		assert.throws(() => request.write(Buffer.of(1), bad), VhostctlError);
		assert.throws(() => request.complete(bad), VhostctlError);
	}
	assert.equal(request.write(Buffer.from("tail"), 26), 4);
	assert.equal(request.write(Buffer.from("beyond"), 28), 2);
	assert.equal(request.write(Buffer.from("beyond"), 30), 0);
	assert.equal(request.write(Buffer.from("head, and")), 9);
	assert.equal(request.write(Buffer.from(" more"), 9), 5);
	assert.equal(request.completed, false);
	assert.equal(offered.ended(), false);
	request.complete();
	assert.equal(request.completed, true);
	// Without a gap there are 14 bytes.
	const { written, data } = await offered.used();
	assert.equal(written, 14);
	assert.equal(data.toString("latin1", 0, 14), "head, and more");
	assert.equal(data.toString("latin1", 26), "tabe");
	assert.throws(() => request.complete(), VhostctlError);
	assert.throws(() => request.read(1), VhostctlError);
	assert.throws(() => request.write(Buffer.of(1)), VhostctlError);
});

test("requests end in any order, and with the count that they are told", async () => {
	const held: DeviceRequest[] = [];
	const device = await serve({
		onRequest: (request) => void held.push(request),
	});
	const { io } = await attach(device);
	const offers = [1, 2, 3].map((i) => io.offer([Buffer.of(i)], [8]));
	await until(() => held.length === 3, "three requests");
	const counts = [8, 5, 100];
	for (const i of [2, 0, 1]) {
		assert.deepEqual(held[i]?.read(1), Buffer.of(i + 1));
		held[i]?.complete(counts[i]);
		// No more is written than there is.
		assert.equal((await offers[i]?.used())?.written, [8, 5, 8][i]);
	}
});

test("what a handler throws ends its request, with nothing written, and is logged", async () => {
	const device = await serve({
		async onRequest(request) {
			const [kind] = request.read(1);
			request.write(Buffer.from("half"));
			if (kind === 2) await sleep(1);
			if (kind !== 3) throw new Error(`told to fail: ${kind}`);
			request.complete();
			throw new Error("told to fail: late");
		},
		onConnect() {
			throw new Error("told to fail: onConnect");
		},
		onQueueStart() {
			throw new Error("told to fail: onQueueStart");
		},
	});
	const { io } = await attach(device);
	for (const [kind, expected] of [
		[1, 0],
		[2, 0],
		[3, 4],
	] as const) {
		const { written } = await io.exchange([Buffer.of(kind)], [4]);
		assert.equal(written, expected);
	}
	for (const what of ["onConnect", "onQueueStart", "1", "2", "late"])
		assert(
			logged.some((text) => text.includes(`told to fail: ${what}`)),
			what,
		);
});

test("features, protocol features, status and changes are told", async () => {
	const changes: string[] = [];
	const device = await serve({
		features: 1n | (1n << 50n),
		protocolFeatures: 1n << 40n,
		onChange: (_, change) => void changes.push(change),
	});
	const offered =
		VIRTIO_F.VERSION_1 |
		VIRTIO_F.RING_INDIRECT_DESC |
		VIRTIO_F.RING_EVENT_IDX |
		VIRTIO_F.RING_PACKED;
	assert.equal(device.features & offered, offered);
	assert.equal(device.features & 0xffffffn, 1n);
	assert.notEqual(device.features & (1n << 50n), 0n);
	assert.notEqual(device.protocolFeatures & (1n << 40n), 0n);
	assert.equal(device.protocolFeatures & PROTOCOL_FEATURES.CONFIG, 0n);
	const taken = 1n | VIRTIO_F.VERSION_1;
	const { frontend, connection } = await attach(device, { features: taken });
	assert.equal(frontend.offered & ~(1n << 30n), device.features);
	assert.equal(connection.features, taken | (1n << 30n));
	assert.equal(connection.protocolFeatures, frontend.protocolFeatures);
	for (const change of ["protocolFeatures", "features", "memory"])
		assert(changes.includes(change), `${change} of ${changes}`);
	await frontend.request("SET_STATUS", encodeU64(15n));
	assert.equal(BigInt(connection.status), 15n);
	assert.equal(changes.at(-1), "status");
});

test("packed rings are not offered if the device does not want them", async () => {
	const device = await serve({ packed: false });
	assert.equal(device.features & VIRTIO_F.RING_PACKED, 0n);
	const { io } = await attach(device);
	await io.exchange([Buffer.of(1)], []);
});

test("the memory table is seen as it was shared", async () => {
	const device = await serve({});
	const { frontend, connection } = await attach(device);
	const holds = (addr: bigint) =>
		connection.memory.some(({ gpa, size }) => gpa <= addr && addr < gpa + size);
	assert(holds(frontend.memory.addr + frontend.gpaDelta));
	assert(holds((frontend.rings[0]?.desc ?? 0n) + frontend.gpaDelta));
	const pages = native.pagesAlloc({
		size: 8192n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	try {
		const regions = [
			{ gpa: 0x1000n, size: 4096n, userAddr: 0x70000000n, offset: 0n },
			{ gpa: 0x9000n, size: 4096n, userAddr: 0x70009000n, offset: 4096n },
		];
		const peer = await attachPeer(device);
		const ack = await peer.ask(
			"SET_MEM_TABLE",
			encodeMemory(regions),
			[pages.fd, pages.fd],
			FLAG_NEED_REPLY,
		);
		assert.equal(decodeU64(ack?.payload ?? Buffer.alloc(0)), 0n);
		const shown = device.connections
			.at(-1)
			?.memory.map(({ gpa, size, userAddr }) => ({ gpa, size, userAddr }));
		assert.deepEqual(
			shown,
			regions.map(({ gpa, size, userAddr }) => ({ gpa, size, userAddr })),
		);
	} finally {
		native.pagesFree(pages);
	}
});

test("guest memory is read and written by its addresses, over regions, and logged", async () => {
	const device = await serve({});
	const pages = native.pagesAlloc({
		size: 16384n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	const bitmap = native.pagesAlloc({
		size: 4096n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	try {
		const peer = await attachPeer(device);
		await peer.ask("GET_FEATURES");
		const [connection] = device.connections;
		assert(connection);
		assert.throws(() => connection.readMemory(0x2000n, 1), VhostctlError);
		// Neighbours in the guest that are none here.
		const regions = [
			{ gpa: 0x2000n, size: 4096n, userAddr: 0x70000000n, offset: 8192n },
			{ gpa: 0x3000n, size: 4096n, userAddr: 0x70009000n, offset: 0n },
		];
		const fds = [pages.fd, pages.fd];
		await peer.ask(
			"SET_MEM_TABLE",
			encodeMemory(regions),
			fds,
			FLAG_NEED_REPLY,
		);
		const data = Buffer.from(Array.from({ length: 300 }, (_, i) => i % 253));
		connection.writeMemory(0x2f00n, data);
		assert.deepEqual(connection.readMemory(0x2f00n, 300), data);
		assert.deepEqual(
			native.copyOut(pages.addr + 8192n + 0xf00n, 256),
			data.subarray(0, 256),
		);
		assert.deepEqual(native.copyOut(pages.addr, 44), data.subarray(256));
		assert.equal(connection.readMemory(0x2000n, 0).length, 0);
		for (const [gpa, length] of [
			[0x1fffn, 2],
			[0x3fffn, 2],
			[-1n, 1],
			[2n ** 64n - 1n, 2],
			[0x2000n, -1],
			[0x2000n, 1.5],
		] as const)
			assert.throws(() => connection.readMemory(gpa, length), VhostctlError);
		assert.throws(() => connection.writeMemory(0x3ff0n, data), VhostctlError);
		assert(connection.readMemory(0x3ff0n, 16).every((byte) => byte === 0));

		await peer.ask(
			"SET_PROTOCOL_FEATURES",
			encodeU64(PROTOCOL_FEATURES.REPLY_ACK | PROTOCOL_FEATURES.LOG_SHMFD),
			[],
			FLAG_NEED_REPLY,
		);
		const area = Buffer.alloc(16);
		area.writeBigUInt64LE(4096n);
		await peer.ask("SET_LOG_BASE", area, [bitmap.fd]);
		connection.writeMemory(0x3000n, Buffer.of(1));
		assert.equal(native.copyOut(bitmap.addr, 1)[0], 0, "nobody asked for it");
		await peer.ask(
			"SET_FEATURES",
			encodeU64(VIRTIO_F.VERSION_1 | VIRTIO_F.LOG_ALL),
			[],
			FLAG_NEED_REPLY,
		);
		connection.writeMemory(0x3000n, Buffer.of(2));
		assert.equal(native.copyOut(bitmap.addr, 1)[0], 1 << 3);
		connection.writeMemory(0x2fffn, Buffer.of(3, 4));
		assert.equal(native.copyOut(bitmap.addr, 1)[0], (1 << 3) | (1 << 2));
	} finally {
		native.pagesFree(pages);
		native.pagesFree(bitmap);
	}
});

test("rings are shown with their state, and go on where they stopped", async () => {
	const events: string[] = [];
	const device = await serve({
		queues: 2,
		onQueueStart: (_, queue) => void events.push(`start ${queue}`),
		onQueueStop: (_, queue) => void events.push(`stop ${queue}`),
	});
	const { frontend, io, connection } = await attach(device);
	const running = () => connection.rings.map((ring) => ring.running);
	assert.deepEqual(running(), [true, true]);
	assert.deepEqual(
		connection.rings.map(({ size }) => size),
		[16, 16],
	);
	assert(events.includes("start 0") && events.includes("start 1"));
	for (let i = 0; i < 20; i++) await io.exchange([Buffer.of(1)], [1], 1);
	const base = await frontend.stopRing(1);
	assert.deepEqual(running(), [true, false]);
	assert.equal(events.at(-1), "stop 1");
	const late = io.offer([Buffer.of(2)], [1], 1);
	await sleep(20);
	assert.equal(late.ended(), false);
	await frontend.startRing(1, base);
	await late.used();
	assert.deepEqual(running(), [true, true]);
	await connection.pause();
	assert.deepEqual(running(), [false, false]);
	await connection.resume();
	await io.exchange([Buffer.of(1)], [1], 0);
});

test("a ring that the driver corrupts is shown as broken", async () => {
	const device = await serve({});
	const { frontend, connection } = await attach(device, wanted("split"));
	const ring = frontend.rings[0] ?? assert.fail();
	native.copyIn(ring.avail + 2n, Buffer.from([0xff, 0x7f]));
	native.eventfdSignal(ring.kick);
	await until(() => connection.rings[0]?.broken === true, "a broken ring");
});

test("a ring stops when its requests have ended, not before", async () => {
	const held: DeviceRequest[] = [];
	const device = await serve({
		onRequest: (request) => void held.push(request),
	});
	const { frontend, io } = await attach(device);
	const offered = io.offer([Buffer.of(1)], [4]);
	await until(() => held.length === 1, "the request");
	let stopped = false;
	const stop = frontend.stopRing(0).then((base) => {
		stopped = true;
		return base;
	});
	await sleep(50);
	assert.equal(stopped, false);
	held[0]?.write(Buffer.from("done"));
	held[0]?.complete();
	const base = await stop;
	assert.deepEqual(await offered.used(), {
		written: 4,
		data: Buffer.from("done"),
	});
	await frontend.startRing(0, base);
});

test("a reset ends what the program holds, and the device starts over", async () => {
	const held: DeviceRequest[] = [];
	let resets = 0;
	const device = await serve({
		onRequest: (request) => void held.push(request),
		onReset() {
			resets++;
			assert(held.every((request) => request.completed));
		},
	});
	const { frontend, connection } = await attach(device);
	makeRingIo(frontend).offer([Buffer.from("old")], [4]);
	await until(() => held.length === 1, "the request");
	const request = held[0] ?? assert.fail();
	assert.equal(request.signal.aborted, false);
	await frontend.reset();
	assert.equal(resets, 1);
	assert(request.signal.aborted && request.completed);
	assert.equal(request.read(3).length, 0);
	assert.equal(request.write(Buffer.from("late")), 0);
	request.complete();
	assert.notEqual(connection.features, 0n); // negotiated again
	const again = makeRingIo(frontend).offer([Buffer.from("new")], [4]);
	await until(() => held.length === 2, "a request after the reset");
	assert.equal(held[1]?.read(3).toString(), "new");
	held[1]?.complete(2);
	assert.equal((await again.used()).written, 2);
});

test("a front end that goes leaves nothing behind, whatever the program holds", async () => {
	const held: DeviceRequest[] = [];
	const gone: number[] = [];
	const device = await serve({
		queues: 2,
		onRequest: (request) => void held.push(request),
		onDisconnect: ({ id }) => void gone.push(id),
	});
	const before = footprint();
	for (let round = 1; round <= 10; round++) {
		const { io, connection } = await attach(device);
		for (const ring of [0, 1])
			for (let i = 0; i < 3; i++) io.offer([Buffer.of(i)], [4], ring);
		await until(() => held.length === 6, "the requests");
		await connection.close();
		await frontends.pop()?.close();
		await until(() => gone.length === round, "the end of the connection");
		assert.equal(gone.at(-1), connection.id);
		assert(held.every(({ completed, signal }) => completed && signal.aborted));
		assert.deepEqual(device.connections, []);
		for (const request of held.splice(0)) request.complete(4);
	}
	await assertNoLeak(before);
});

test("the configuration space is read and written, and its changes are told", async () => {
	const space = Buffer.from("0123456789");
	const device = await serve({
		config: {
			read: () => space,
			write(offset, data) {
				if (offset !== 4) throw new Error("read-only");
				data.copy(space, offset);
			},
		},
	});
	const { frontend } = await attach(device, { configSize: 10 });
	assert.equal(frontend.config.toString(), "0123456789");
	await frontend.writeConfig(4, Buffer.from("xy"));
	assert.equal((await frontend.readConfig(2, 6)).toString(), "23xy67");
	await fails(frontend.writeConfig(0, Buffer.from("no")), "E_PROTOCOL");
	await fails(frontend.readConfig(8, 3), "E_INVALID");
	let told = 0;
	frontend.onConfigChange(() => told++);
	await device.configChanged();
	await until(() => told === 1, "the change");
	assert(logged.some((text) => text.includes("read-only")));
});

test("a space given as bytes is read only", async () => {
	const bytes = Uint8Array.of(1, 2, 3, 4);
	const device = await serve({ config: bytes });
	bytes.fill(9);
	const { frontend } = await attach(device, { configSize: 4 });
	assert.deepEqual([...frontend.config], [1, 2, 3, 4]);
	await fails(frontend.writeConfig(0, Buffer.of(5)), "E_PROTOCOL");
	assert.deepEqual([...(await frontend.readConfig(0, 4))], [1, 2, 3, 4]);
});

test("a message that the library refuses is answered by the program", async () => {
	const mtus: bigint[] = [];
	const device = await serve({
		async onMessage(_, { request, payload }) {
			await sleep(1);
			if (request === NET_SET_MTU) {
				mtus.push(decodeU64(payload));
				return {};
			}
			if (request === OF_OUR_OWN)
				return { reply: Buffer.concat([Buffer.from("re: "), payload]) };
			return undefined;
		},
	});
	const peer = await attachPeer(device);
	const ack = await peer.ask(
		NET_SET_MTU,
		encodeU64(9000n),
		[],
		FLAG_NEED_REPLY,
	);
	assert.equal(ack?.request, NET_SET_MTU);
	assert.equal(decodeU64(ack?.payload ?? Buffer.alloc(0)), 0n);
	assert.deepEqual(mtus, [9000n]);
	const reply = await peer.ask(OF_OUR_OWN, Buffer.from("hello"));
	assert.equal(reply?.request, OF_OUR_OWN);
	assert.equal(reply?.payload.toString(), "re: hello");
	// Without the program the library still refuses.
	const refusal = await peer.ask(19, encodeU64(0n), [], FLAG_NEED_REPLY);
	assert.equal(decodeU64(refusal?.payload ?? Buffer.alloc(0)), 1n);
});

test("a message is seen, changed or refused before the library has it", async () => {
	const before: DeviceMessage[] = [];
	const after: string[] = [];
	let shared = 0;
	const device = await serve({
		onMessage(connection, message) {
			before.push(message);
			if (SHARE_MEMORY.includes(message.request))
				assert.equal(connection.memory.length, shared++);
			if (message.request === 34) throw new Error("no reset here");
			return message.request === 17 ? { reply: encodeU64(1n) } : undefined;
		},
		onMessageHandled(connection, { request }, ok) {
			after.push(`${request} ${ok}`);
			if (SHARE_MEMORY.includes(request))
				assert.equal(connection.memory.length, shared);
		},
		queues: 4,
	});
	const { frontend, io } = await attach(device, { queues: 1 });
	// GET_QUEUE_NUM was answered by the program: the library never saw it.
	assert.equal(frontend.maxQueues, 1);
	const tables = before.filter(({ request }) => SHARE_MEMORY.includes(request));
	assert(shared > 0 && tables.length === shared);
	for (const { request, fds, payload } of tables) {
		assert.equal(fds.count, 1);
		assert(payload.length >= 32);
		assert(after.includes(`${request} true`));
	}
	assert(after.includes("17 true"));
	await fails(frontend.request("RESET_DEVICE"), "E_PROTOCOL");
	assert.equal(after.at(-1), "34 false");
	assert(logged.some((text) => text.includes("no reset here")));
	await io.exchange([Buffer.of(1)], [1]);
});

test("descriptors go both ways: the program keeps one, and sends it back", async () => {
	let kept = -1;
	const device = await serve({
		onMessage(_, { request, fds }) {
			if (request !== OF_OUR_OWN) return undefined;
			if (fds.count === 0) return { reply: Buffer.from("it"), fds: [kept] };
			kept = fds.take();
			return { reply: Buffer.from("taken") };
		},
	});
	const before = footprint();
	const socket = native.socketConnect(device.path);
	const connection = runtime.adopt(socket);
	native.fdClose(socket);
	const next = () =>
		new Promise<number[]>((resolve) => {
			connection.onMessage(({ fds }) => resolve(fds));
			connection.next();
		});
	const event = native.eventfd();
	connection.send(encodeMessage(OF_OUR_OWN, 0), [event]);
	assert.deepEqual(await next(), []);
	connection.send(encodeMessage(OF_OUR_OWN, 0));
	const [back, ...more] = await next();
	assert(back !== undefined && more.length === 0);
	native.eventfdSignal(back);
	assert.equal(
		readFileSync(`/proc/self/fdinfo/${event}`, "utf8").match(
			/eventfd-count: +1$/m,
		)?.length,
		1,
	);
	native.fdClose(back);
	native.fdClose(event);
	connection.close();
	await until(
		() => device.connections.length === 0,
		"the end of the connection",
	);
	await assertNoLeak(before);
});

test("names are one device's, and end with it", async () => {
	const device = await serve({ name: "one" });
	await fails(serve({ name: "one" }), "E_EXISTS");
	await fails(t.engine.createScsiController({ name: "one" }), "E_EXISTS");
	await fails(serve({ name: "../one" }), "E_INVALID");
	await fails(serve({ name: "q", queues: 0 }), "E_INVALID");
	await fails(serve({ name: "q", queues: 257 }), "E_INVALID");
	await fails(serve({ name: "f", features: VIRTIO_F.VERSION_1 }), "E_INVALID");
	await fails(serve({ name: "f", features: -1n }), "E_INVALID");
	await fails(serve({ name: "c", config: new Uint8Array(257) }), "E_INVALID");
	await fails(serve({ name: "p", cpus: [9999] }), "E_INVALID");
	assert.equal(device.path, join(t.engine.socketDir, "one"));
	assert(existsSync(device.path));
	assert.deepEqual(t.engine.controllers(), []);
	const { frontend } = await attach(device);
	await Promise.all([device.close(), device.close()]);
	await frontend.closed;
	assert(!existsSync(device.path));
	const again = await serve({ name: "one" });
	assert(existsSync(again.path));
});
