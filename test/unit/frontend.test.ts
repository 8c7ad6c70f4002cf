// SPDX-License-Identifier: MIT
// The front end against our own back end: whole requests through rings, reactor and back.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { after, test } from "node:test";
import {
	connectFrontend,
	type Frontend,
	type FrontendOptions,
} from "../../src/engine/vhost-user/frontend.ts";
import type { SharedMemory } from "../../src/engine/vhost-user/frontend-memory.ts";
import {
	MAX_REGIONS,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { startSession } from "../../src/engine/vhost-user/session.ts";
import { decodeBlkConfig } from "../../src/engine/virtio/blk-config.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { LOAD_BLK, MODE_POLL, native } from "../../src/ffi/native.ts";
import { makeTempDir, removeTempDir, within } from "../support/processes.ts";
import { countFds, DISK_BLOCKS, makeBench } from "../support/vhost-user.ts";

const folder = makeTempDir();
const path = join(folder, "blk");
const bench = makeBench();
const listener = bench.runtime.listen(path, 0o600, (connection) => {
	startSession(bench.runtime, connection, bench.device);
});
/** A device that takes whole memory tables only, and neither tracks nor logs. */
const plainPath = join(folder, "plain");
const plainListener = bench.runtime.listen(plainPath, 0o600, (connection) => {
	const protocolFeatures =
		bench.device.protocolFeatures &
		~PROTOCOL_FEATURES.CONFIGURE_MEM_SLOTS &
		~PROTOCOL_FEATURES.INFLIGHT_SHMFD &
		~PROTOCOL_FEATURES.LOG_SHMFD;
	const device = { ...bench.device, protocolFeatures };
	startSession(bench.runtime, connection, device);
});
const fdsBefore = countFds();

after(async () => {
	listener.close();
	plainListener.close();
	await bench.close();
	removeTempDir(folder);
});

const connect = (options: Partial<FrontendOptions> = {}, to = path) =>
	connectFrontend(bench.runtime, to, {
		queues: 1,
		queueSize: 16,
		memoryBytes: 65536,
		mode: "interrupt",
		pageSize: 4096n,
		...options,
	});

const VIRTIO_BLK_T_IN = 0;

/** Reads a block on a ring, by hand; returns status byte and written length. */
function readBlock(frontend: Frontend, ring = 0, sector = 0n) {
	const { handle } = frontend.rings[ring] ?? assert.fail("no ring");
	const { addr } = frontend.memory;
	const header = Buffer.alloc(16);
	header.writeUInt32LE(VIRTIO_BLK_T_IN, 0);
	header.writeBigUInt64LE(sector, 8);
	native.copyIn(addr, header);
	native.copyIn(addr + 16n, Buffer.from([0xee]));
	native.driverRingAdd(
		handle,
		[{ addr, len: 16n }],
		[
			{ addr: addr + 4096n, len: 512n },
			{ addr: addr + 16n, len: 1n },
		],
		2n ** 63n + 5n,
	);
	native.driverRingKick(handle);
	assert(native.driverRingWait(handle, 10_000), "no answer");
	const used = native.driverRingGet(handle);
	assert.equal(used?.token, 2n ** 63n + 5n);
	return { status: native.copyOut(addr + 16n, 1)[0], length: used.len };
}

/** Offers a read into memory that was added. */
function offerRead(frontend: Frontend, memory: SharedMemory, ring = 0): bigint {
	const { handle } = frontend.rings[ring] ?? assert.fail("no ring");
	const at = memory.gpa - frontend.gpaDelta; // the ring adds its own delta
	native.copyIn(memory.addr, Buffer.alloc(16));
	const status = { addr: at + 16n, len: 1n };
	const data = { addr: at + 512n, len: 512n };
	native.driverRingAdd(handle, [{ addr: at, len: 16n }], [data, status], 1n);
	native.driverRingKick(handle);
	return handle;
}

function takeRead(handle: bigint): void {
	assert(native.driverRingWait(handle, 10_000), "no answer");
	assert.deepEqual(native.driverRingGet(handle), { token: 1n, len: 513 });
}

function readInto(frontend: Frontend, memory: SharedMemory): void {
	takeRead(offerRead(frontend, memory));
}

const GOOD = { status: 0, length: 513 };

async function assertNothingLeft(): Promise<void> {
	const sessions = [...bench.device.sessions];
	await Promise.all(sessions.map((session) => session.close()));
	assert.equal(bench.device.started.size, 0);
	assert.equal(countFds(), fdsBefore);
}

test("negotiates, reads the configuration, and does I/O on every queue", async () => {
	const frontend = await connect({ queues: 4 });
	assert.equal(frontend.maxQueues, 4);
	assert.equal(decodeBlkConfig(frontend.config).capacity, DISK_BLOCKS);
	assert.equal(frontend.memory.size, 65536n);
	assert.equal((await frontend.readConfig(0, 256)).length, 256);
	for (let ring = 0; ring < 4; ring++)
		assert.deepEqual(readBlock(frontend, ring), GOOD);
	const beyond = readBlock(frontend, 0, DISK_BLOCKS);
	assert.equal(beyond.status, 1);
	await frontend.close();
	await assertNothingLeft();
});

test("works with polling, without indirect descriptors and without event indexes", async () => {
	for (const features of [VIRTIO_F.VERSION_1, VIRTIO_F.RING_EVENT_IDX, 0n])
		for (const mode of ["poll", "interrupt"] as const) {
			const frontend = await connect({ features, mode });
			for (let i = 0; i < 40; i++) assert.deepEqual(readBlock(frontend), GOOD);
			await frontend.close();
		}
	await assertNothingLeft();
});

test("a ring stops and goes on at its index; the device resets", async () => {
	const frontend = await connect();
	for (let i = 0; i < 3; i++) readBlock(frontend);
	assert.equal(await frontend.stopRing(0), 3);
	assert.equal(bench.device.started.size, 0);
	await frontend.startRing(0, 3);
	assert.deepEqual(readBlock(frontend), GOOD);
	await frontend.setMemTable();
	assert.deepEqual(readBlock(frontend), GOOD);
	await frontend.reset();
	assert.deepEqual(readBlock(frontend), GOOD);
	assert.equal(await frontend.stopRing(0), 1);
	await frontend.close();
	await frontend.close();
	await assertNothingLeft();
});

test("memory, interrupts, features and rings change while I/O runs", async () => {
	const bytes = Number(native.loadBufferBytes(LOAD_BLK, 512, 8, 2));
	const frontend = await connect({ queues: 2, memoryBytes: bytes });
	const [session] = bench.device.sessions;
	const page = native.statsAlloc();
	let finished: (errno: number) => void = () => {};
	const done = new Promise<number>((resolve) => {
		finished = resolve;
	});
	const id = bench.runtime.registerLoad((errno) => finished(errno));
	const load = native.loadCreate(
		bench.runtime.upcalls,
		{
			stats: page,
			buffers: frontend.memory.addr,
			buffers_len: frontend.memory.size,
			gpa_delta: frontend.gpaDelta,
			size: DISK_BLOCKS * 512n,
			runtime_ns: 20_000_000_000n,
			rw: 2,
			block_size: 512,
			iodepth: 8,
			mode: MODE_POLL,
			cpu: -1,
			id,
		},
		frontend.rings.map(({ handle }) => handle),
	);
	const count = () => native.copyOut(page + 64n, 8).readBigUInt64LE();
	/** Resolves when the load has moved on. */
	const progress = async () => {
		const before = count();
		const moves = async () => {
			while (count() === before) await new Promise(setImmediate);
		};
		await within(moves(), 10_000, () => "the load goes on");
	};
	native.loadStart(load);
	await progress();
	for (let i = 0; i < 10; i++) {
		await frontend.setMemTable();
		await progress();
		await session?.pause();
		await session?.resume();
		await progress();
		await frontend.startRing(i % 2, await frontend.stopRing(i % 2));
		await progress();
	}
	native.loadStop(load);
	assert.equal(await within(done, 10_000, () => "the load's end"), 0);
	const errors = native.copyOut(page + 64n + 16n, 8).readBigUInt64LE();
	assert.equal(errors, 0n);
	native.loadRelease(load);
	bench.runtime.unregisterLoad(id);
	native.statsFree(page);
	await frontend.close();
	await assertNothingLeft();
});

test("a change of the configuration is heard, and the new one can be read", async () => {
	const frontend = await connect();
	let heard: () => void = () => {};
	const change = new Promise<void>((resolve) => {
		heard = resolve;
	});
	frontend.onConfigChange(() => heard());
	bench.device.space.writeBigUInt64LE(4096n, 0);
	for (const session of bench.device.sessions) await session.configChanged();
	await within(change, 5000, () => "CONFIG_CHANGE_MSG");
	const config = decodeBlkConfig(await frontend.readConfig(0, 60));
	assert.equal(config.capacity, 4096n);
	await frontend.writeConfig(32, Buffer.from([1]));
	assert.equal(bench.device.space[32], 1);
	assert.deepEqual(bench.device.logged, []);
	await frontend.close();
	await assertNothingLeft();
});

test("what cannot be is an error that names the socket and leaves nothing", async () => {
	await assert.rejects(connect({ queues: 5 }), {
		code: "E_INVALID",
		message: `${path}: 5 queues asked for, the device has 4`,
	});
	await assert.rejects(connect({ queueSize: 3 }), { code: "E_INVALID" });
	const nowhere = join(folder, "absent");
	const options = {
		queues: 1,
		queueSize: 8,
		memoryBytes: 1,
		mode: "poll",
	} as const;
	await assert.rejects(connectFrontend(bench.runtime, nowhere, options), {
		code: "E_NOT_FOUND",
	});
	bench.device.failing.add("startRing");
	await assert.rejects(connect(), {
		code: "E_PROTOCOL",
		message: /SET_VRING_KICK was refused/,
	});
	bench.device.failing.clear();
	const frontend = await connect();
	await assert.rejects(frontend.readConfig(200, 57), { code: "E_INVALID" });
	await assert.rejects(frontend.startRing(1, 0), { code: "E_INVALID" });
	await frontend.close();
	await assertNothingLeft();
});

test("a back end that goes away ends what waits for it", async () => {
	const frontend = await connect();
	for (const session of bench.device.sessions) await session.close();
	await within(frontend.closed, 5000, () => "the close");
	await assert.rejects(frontend.readConfig(0, 60), { code: "E_CONNECT" });
	await frontend.close();
	await assertNothingLeft();
});

test("memory is added and taken back, one region at a time or with the whole table", async () => {
	for (const [to, most] of [
		[path, 20],
		[plainPath, MAX_REGIONS],
	] as const) {
		const frontend = await connect({}, to);
		const first = frontend.regions[0] ?? assert.fail("no region");
		assert(frontend.maxRegions >= most);
		const added: SharedMemory[] = [];
		while (frontend.regions.length < most)
			added.push(await frontend.addMemory(8192));
		for (const memory of added) readInto(frontend, memory);
		const [gone] = added.splice(2, 1);
		await frontend.removeMemory(gone ?? assert.fail());
		const again = await frontend.addMemory(8192);
		assert.equal(again.gpa, gone?.gpa, "the gap is filled");
		readInto(frontend, again);
		if (to === plainPath)
			await assert.rejects(frontend.addMemory(8192), { code: "E_INVALID" });
		await assert.rejects(frontend.removeMemory(first), { code: "E_INVALID" });
		for (const memory of [again, ...added]) await frontend.removeMemory(memory);
		assert.deepEqual(frontend.regions, [first]);
		assert.deepEqual(readBlock(frontend), GOOD);
		await frontend.close();
		await assertNothingLeft();
	}
});

test("the driver goes on with a device that came back, rings and memory as they were", async () => {
	const frontend = await connect({ queues: 2, inflight: true });
	const memory = await frontend.addMemory(8192);
	for (let i = 0; i < 40; i++) assert.deepEqual(readBlock(frontend), GOOD);
	for (let round = 0; round < 3; round++) {
		for (const session of bench.device.sessions) await session.close();
		await within(frontend.closed, 5000, () => "the close");
		const handle = offerRead(frontend, memory, 1); // while nobody is there
		await frontend.reconnect();
		takeRead(handle);
		readInto(frontend, memory);
		assert.deepEqual(readBlock(frontend, 1), GOOD);
	}
	await frontend.reset();
	assert.deepEqual(readBlock(frontend), GOOD);
	await frontend.close();
	await assertNothingLeft();
});

test("a device that cannot track or log is told from one that can", async () => {
	await assert.rejects(connect({ inflight: true }, plainPath), {
		code: "E_UNSUPPORTED",
		message: `${plainPath}: the device does not track requests in flight`,
	});
	const frontend = await connect({}, plainPath);
	await assert.rejects(frontend.startLogging(), { code: "E_UNSUPPORTED" });
	await assert.rejects(frontend.reconnect(), { code: "E_UNSUPPORTED" });
	assert.deepEqual(frontend.takeDirty(), []);
	assert.deepEqual(await frontend.stopLogging(), []);
	assert.deepEqual(readBlock(frontend), GOOD);
	await frontend.close();
	await assertNothingLeft();
});
