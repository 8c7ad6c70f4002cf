// SPDX-License-Identifier: MIT
// Memory in regions, added and removed while rings run, and memory that is not there yet.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
	decodeMemory,
	decodeRegion,
	encodeMemory,
	encodeRegion,
	encodeU64,
	type MemoryRegion,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { NativeError, native } from "../../src/ffi/native.ts";
import { within } from "../support/processes.ts";
import {
	ack,
	makeRig,
	negotiate,
	type Rig,
	say,
	u64,
	wire,
} from "../support/session-rig.ts";
import type { RawPeer } from "../support/vhost-user.ts";

const HALF = 1n << 19n;
const POSTCOPY = DEFAULT_PROTOCOL_FEATURES | PROTOCOL_FEATURES.PAGEFAULT;

let rig: Rig;
/** How often rings were started, and what tables running ones were given. */
let starts = 0;
let tables: bigint[] = [];

beforeEach(() => {
	rig = makeRig();
	starts = 0;
	tables = [];
	const { device } = rig.bench;
	const start = device.startRing;
	device.startRing = async (...args) => {
		starts++;
		const running = await start(...args);
		return { ...running, setMem: (mem) => void tables.push(mem) };
	};
});
afterEach(async () => {
	mock.restoreAll();
	await rig.close();
});

/** The first or second half of the pages. */
const half = (which: 0 | 1): MemoryRegion =>
	rig.region({
		gpa: HALF * BigInt(which),
		userAddr: rig.pages.addr + HALF * BigInt(which),
		size: HALF,
		offset: HALF * BigInt(which),
	});
const add = (peer: RawPeer, region: MemoryRegion, fds = [rig.pages.fd]) =>
	ack(peer, "ADD_MEM_REG", encodeRegion(region), fds);
const remove = (peer: RawPeer, region: MemoryRegion, fds: number[] = []) =>
	ack(peer, "REM_MEM_REG", encodeRegion(region), fds);

async function startRing(peer: RawPeer): Promise<void> {
	await rig.prepare(peer, 0);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
}

test("slots need their feature, and there are 512", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(
		peer,
		0n,
		DEFAULT_PROTOCOL_FEATURES & ~PROTOCOL_FEATURES.CONFIGURE_MEM_SLOTS,
	);
	assert.equal(await add(peer, half(0)), 1n);
	assert.equal(await remove(peer, half(0)), 1n);
	await negotiate(peer);
	assert.equal(u64(await peer.ask("GET_MAX_MEM_SLOTS")), 512n);
	await rig.assertNothingLeft(peer);
});

test("a region is added under a running ring, which is not stopped for it", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	await startRing(peer);
	assert.equal(await add(peer, half(1)), 0n);
	assert.equal(starts, 1);
	assert.equal(tables.length, 1);
	assert.deepEqual(
		session.memory.map(({ gpa, size }) => [gpa, size]),
		[
			[0n, HALF],
			[HALF, HALF],
		],
	);
	await rig.assertNothingLeft(peer);
});

test("a region is removed when no ring can be using it, and all go on", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	assert.equal(await add(peer, half(1)), 0n);
	await startRing(peer);
	for (let round = 1; round <= 20; round++) {
		assert.equal(await remove(peer, half(1)), 0n);
		assert.equal(starts, 1 + round);
		assert.equal(session.memory.length, 1);
		assert.equal(await add(peer, half(1)), 0n);
	}
	assert.equal(session.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("the offset of a region to remove is ignored, and a stray descriptor closed", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	const elsewhere = { ...half(0), offset: 2n ** 64n - 1n };
	assert.equal(await remove(peer, elsewhere, [rig.pages.fd]), 0n);
	await rig.assertNothingLeft(peer);
});

test("regions that cannot be are refused, and what there was stays", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	await startRing(peer);
	const { fd } = rig.pages;
	for (const [what, region, fds] of [
		["the same", half(0), [fd]],
		["overlap", { ...half(1), gpa: HALF - 4096n }, [fd]],
		["overlap", { ...half(1), userAddr: half(0).userAddr }, [fd]],
		["file too short", { ...half(1), size: HALF + 4096n }, [fd]],
		["offset wraps", { ...half(1), offset: 2n ** 64n - 4096n }, [fd]],
		["empty", { ...half(1), size: 0n }, [fd]],
		["gpa wraps", { ...half(1), gpa: 2n ** 64n - 4096n }, [fd]],
		["no descriptor", half(1), []],
		["two", half(1), [fd, fd]],
	] as const)
		assert.equal(await add(peer, region, [...fds]), 1n, what);
	for (const [what, region, fds] of [
		["not there", half(1), []],
		["another size", { ...half(0), size: HALF - 4096n }, []],
		["another address", { ...half(0), gpa: 4096n }, []],
		["another user address", { ...half(0), userAddr: 0n }, []],
		["two descriptors", half(0), [fd, fd]],
	] as const)
		assert.equal(await remove(peer, region, [...fds]), 1n, what);
	for (const name of ["ADD_MEM_REG", "REM_MEM_REG"] as const)
		assert.equal(await ack(peer, name, Buffer.alloc(32)), 1n);
	assert.equal(session.memory.length, 1);
	assert.equal(session.rings[0]?.running, true);
	assert.equal(starts, 1);
	await rig.assertNothingLeft(peer);
});

test("there is room for 512 regions and no more", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	const piece = (i: bigint) =>
		rig.region({
			gpa: i * 8192n,
			userAddr: i * 8192n,
			size: 4096n,
			offset: (i % 256n) * 4096n,
		});
	for (let i = 0n; i < 512n; i++)
		assert.equal(await add(peer, piece(i)), 0n, String(i));
	assert.equal(await add(peer, piece(512n)), 1n);
	assert.equal(session.memory.length, 512);
	assert.equal(await remove(peer, piece(7n)), 0n);
	assert.equal(await add(peer, piece(512n)), 0n);
	await rig.assertNothingLeft(peer);
});

test("a ring that was kicked before its memory came starts when that comes", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	await startRing(peer);
	assert.equal(starts, 0);
	assert.equal(await add(peer, half(1)), 0n);
	assert.equal(starts, 0);
	assert.equal(await add(peer, half(0)), 0n);
	assert.equal(session.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("a ring whose own memory goes waits for it and its next kick", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	await startRing(peer);
	assert.equal(await remove(peer, half(0)), 1n);
	assert.equal(session.rings[0]?.running, false);
	assert.equal(session.memory.length, 0);
	assert.equal(await add(peer, half(0)), 0n);
	assert.equal(await wire(peer, "SET_VRING_KICK", 0), 0n);
	assert.equal(session.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("a ring that cannot take a table while it runs is stopped and started", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	const start = rig.bench.device.startRing;
	rig.bench.device.startRing = async (...args) => ({
		...(await start(...args)),
		setMem() {
			throw new NativeError("vhc_reactor_set_mem", 12);
		},
	});
	await startRing(peer);
	assert.equal(await add(peer, half(1)), 0n);
	assert.equal(starts, 2);
	assert.equal(session.rings[0]?.running, true);
	await rig.assertNothingLeft(peer);
});

test("a table takes the place of regions, and regions are added to it", async () => {
	const { peer, session } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await add(peer, half(0)), 0n);
	await startRing(peer);
	const table = encodeMemory([half(0)]);
	await say(peer, "SET_MEM_TABLE", table, [rig.pages.fd]);
	assert.equal(await add(peer, half(1)), 0n);
	assert.equal(await remove(peer, half(0)), 1n); // the ring's own
	assert.deepEqual(
		session.memory.map(({ gpa }) => gpa),
		[HALF],
	);
	await rig.assertNothingLeft(peer);
});

test("rings go to a reactor near their memory, if that can be told", async () => {
	const { peer } = rig.bench.connect();
	const nodes: number[] = [];
	const start = rig.bench.device.startRing;
	rig.bench.device.startRing = async (session, index, ring, node) => {
		nodes.push(node);
		return start(session, index, ring, node);
	};
	for (const [node, expected] of [
		[1, 1],
		[undefined, -1],
	] as const) {
		mock.method(native, "memNode", () => node);
		await rig.running(peer, 0);
		assert.equal(nodes.at(-1), expected);
		await say(peer, "RESET_OWNER");
	}
	mock.method(native, "memNode", () => {
		throw new NativeError("vhc_mem_node", 14);
	});
	await rig.running(peer, 0);
	assert.equal(nodes.at(-1), -1);
	await rig.assertNothingLeft(peer);
});

/** Allows postcopy, and announces it. Returns the userfaultfd as the front end has it. */
async function advise(peer: RawPeer): Promise<number> {
	rig.bench.device.protocolFeatures = POSTCOPY;
	await negotiate(peer, 0n, POSTCOPY);
	peer.kept = [];
	const answer = await peer.ask("POSTCOPY_ADVISE");
	assert.equal(answer?.payload.length, 0);
	const [fd, ...more] = peer.kept;
	assert(fd !== undefined && more.length === 0);
	peer.kept = undefined;
	return fd;
}

test("postcopy is not offered unless the device is told to", async () => {
	const { peer } = rig.bench.connect();
	await negotiate(peer);
	assert.equal(await ack(peer, "POSTCOPY_LISTEN"), 1n);
	assert.equal(await ack(peer, "POSTCOPY_END"), 1n);
	assert.equal(await peer.ask("POSTCOPY_ADVISE"), undefined);
	await rig.assertNothingLeft(peer);
});

for (const [what, confirmation] of [
	["nothing, as specified", Buffer.alloc(0)],
	["a 0, as by QEMU", encodeU64(0n)],
] as const)
	test(`after POSTCOPY_LISTEN memory is told, and used when confirmed with ${what}`, async () => {
		const { peer, session } = rig.bench.connect();
		native.copyIn(rig.pages.addr, Buffer.alloc(Number(rig.pages.size)));
		const ufd = await advise(peer);
		await say(peer, "POSTCOPY_LISTEN");
		await startRing(peer);
		const table = encodeMemory([half(0)]);
		const told = await peer.ask("SET_MEM_TABLE", table, [rig.pages.fd]);
		assert.equal(told?.payload.length, table.length);
		const [region] = decodeMemory(told?.payload ?? Buffer.alloc(0));
		assert.equal(region?.gpa, 0n);
		assert.notEqual(region?.userAddr, rig.pages.addr);
		assert.equal(starts, 0);
		await say(peer, "SET_MEM_TABLE", confirmation);
		assert.equal(session.rings[0]?.running, true);
		// The same with a region more.
		const more = await peer.ask("ADD_MEM_REG", encodeRegion(half(1)), [
			rig.pages.fd,
		]);
		const added = decodeRegion(more?.payload ?? Buffer.alloc(0));
		assert.equal(added.gpa, HALF);
		assert.notEqual(added.userAddr, half(1).userAddr);
		assert.equal(session.rings[0]?.running, false);
		await say(peer, "ADD_MEM_REG", confirmation);
		assert.equal(session.rings[0]?.running, true);
		assert.equal(u64(await peer.ask("POSTCOPY_END")), 0n);
		assert.equal(await rig.memTable(peer), 0n);
		native.fdClose(ufd);
		await rig.assertNothingLeft(peer);
	});

test("QEMU adds region after region and confirms them at once", async () => {
	const { peer, session } = rig.bench.connect();
	native.copyIn(rig.pages.addr, Buffer.alloc(Number(rig.pages.size)));
	const ufd = await advise(peer);
	await say(peer, "POSTCOPY_LISTEN");
	await startRing(peer);
	for (const which of [0, 1] as const) {
		const told = await peer.ask("ADD_MEM_REG", encodeRegion(half(which)), [
			rig.pages.fd,
		]);
		const { gpa } = decodeRegion(told?.payload ?? Buffer.alloc(0));
		assert.equal(gpa, half(which).gpa);
		assert.equal(session.rings[0]?.running, false);
	}
	await say(peer, "ADD_MEM_REG", encodeU64(0n));
	assert.equal(session.rings[0]?.running, true);
	assert.equal(session.memory.length, 2);
	native.fdClose(ufd);
	await rig.assertNothingLeft(peer);
});

test("addresses that are not confirmed end the connection", async () => {
	const table = () => encodeMemory([half(0)]);
	for (const [request, payload, fds] of [
		["GET_FEATURES", Buffer.alloc(0), []],
		["SET_MEM_TABLE", encodeU64(1n), []],
		["SET_MEM_TABLE", Buffer.alloc(4), []],
		["SET_MEM_TABLE", Buffer.alloc(0), [rig.pages.fd]],
		["SET_MEM_TABLE", table(), [rig.pages.fd]],
	] as const) {
		const { peer } = rig.bench.connect();
		const ufd = await advise(peer);
		await say(peer, "POSTCOPY_LISTEN");
		await peer.ask("SET_MEM_TABLE", table(), [rig.pages.fd]);
		peer.send(request, payload, fds);
		await within(peer.closed, 5000, () => "the close");
		native.fdClose(ufd);
	}
	await rig.assertNothingLeft();
});

test("postcopy's messages have an order", async () => {
	const { peer } = rig.bench.connect();
	rig.bench.device.protocolFeatures = POSTCOPY;
	await negotiate(peer, 0n, POSTCOPY);
	assert.equal(await ack(peer, "POSTCOPY_LISTEN"), 1n);
	assert.equal(u64(await peer.ask("POSTCOPY_END")), 1n);
	const first = await advise(peer);
	const second = await advise(peer);
	assert.equal(u64(await peer.ask("POSTCOPY_END")), 1n);
	await say(peer, "POSTCOPY_LISTEN");
	assert.equal(u64(await peer.ask("POSTCOPY_END")), 0n);
	assert.equal(u64(await peer.ask("POSTCOPY_END")), 1n);
	native.fdClose(first);
	native.fdClose(second);
	await rig.assertNothingLeft(peer);
});
