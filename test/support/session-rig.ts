// SPDX-License-Identifier: MIT
// What the tests of sessions begin with: a device, memory to share, and the messages that set
// rings up in it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
	decodeU64,
	encodeAddress,
	encodeFdIndex,
	encodeMemory,
	encodeState,
	encodeU64,
	type MemoryRegion,
	type Message,
} from "../../src/engine/vhost-user/codec.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	F_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	FLAG_REPLY,
	type MessageName,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, PAGES_SHARED, type Pages } from "../../src/ffi/native.ts";
import { waitUntil } from "./processes.ts";
import {
	type Bench,
	countFds,
	makeBench,
	makePeer,
	type RawPeer,
} from "./vhost-user.ts";

/** Entries of the rings. */
export const SIZE = 8;

/** The number that a message has for its payload. */
export const u64 = (message: Message | undefined): bigint =>
	decodeU64(message?.payload ?? Buffer.alloc(0));

/** Sends with NEED_REPLY and gives the ack: 0n, 1n, or undefined for the close. */
export async function ack(
	peer: RawPeer,
	name: MessageName | number,
	payload?: Uint8Array,
	fds?: readonly number[],
): Promise<bigint | undefined> {
	const answer = await peer.ask(name, payload, fds, FLAG_NEED_REPLY);
	if (answer) assert.equal(answer.flags, FLAG_REPLY | 1);
	return answer && u64(answer);
}

/** The same, for what must succeed. */
export async function say(
	peer: RawPeer,
	name: MessageName | number,
	payload?: Uint8Array,
	fds?: readonly number[],
): Promise<void> {
	assert.equal(await ack(peer, name, payload, fds), 0n, String(name));
}

/** Acknowledges protocol features, and virtio features with bit 30 and VERSION_1. */
export async function negotiate(
	peer: RawPeer,
	features = 0n,
	protocol = DEFAULT_PROTOCOL_FEATURES,
): Promise<void> {
	await say(peer, "SET_PROTOCOL_FEATURES", encodeU64(protocol));
	const all = features | F_PROTOCOL_FEATURES | VIRTIO_F.VERSION_1;
	await say(peer, "SET_FEATURES", encodeU64(all));
}

export const enable = (peer: RawPeer, index: number, num: number) =>
	ack(peer, "SET_VRING_ENABLE", encodeState({ index, num }));

/** Sends an eventfd as a ring's descriptor, closing our own. */
export async function wire(
	peer: RawPeer,
	name: "SET_VRING_KICK" | "SET_VRING_CALL" | "SET_VRING_ERR",
	index: number,
): Promise<bigint | undefined> {
	const fd = native.eventfd();
	try {
		return await ack(peer, name, encodeFdIndex(index, true), [fd]);
	} finally {
		native.fdClose(fd);
	}
}

export interface Rig {
	readonly bench: Bench;
	/** 1 MiB. */
	readonly pages: Pages;
	/** All of the pages at guest address 0, or something else. */
	region(changes?: Partial<MemoryRegion>): MemoryRegion;
	/** Where a ring's parts are; each index has 4 KiB of its own. */
	address(index: number): ReturnType<typeof place>;
	memTable(peer: RawPeer): Promise<bigint | undefined>;
	/** Everything but memory and KICK; enable stays unsaid. */
	prepare(peer: RawPeer, index: number): Promise<void>;
	/** Negotiates, shares the pages, and starts rings. */
	running(peer: RawPeer, ...indexes: number[]): Promise<void>;
	/** Gives the session a back-end channel; the other end of it. */
	openChannel(peer: RawPeer): Promise<RawPeer>;
	/** Ends all connections and finds that no descriptor stayed. */
	assertNothingLeft(...peers: RawPeer[]): Promise<void>;
	close(): Promise<void>;
}

function place(pages: Pages, index: number) {
	const desc = pages.addr + 4096n * BigInt(index);
	const avail = desc + 16n * BigInt(SIZE);
	return { index, flags: 0, desc, avail, used: desc + 2048n, log: 0n };
}

export function makeRig(): Rig {
	const bench = makeBench();
	const pages = native.pagesAlloc({
		size: 1n << 20n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	const fdsBefore = countFds();
	const rig: Rig = {
		bench,
		pages,
		region: (changes = {}) => {
			const { addr, size } = pages;
			return { gpa: 0n, userAddr: addr, size, offset: 0n, ...changes };
		},
		address: (index) => place(pages, index),
		memTable: (peer) =>
			ack(peer, "SET_MEM_TABLE", encodeMemory([rig.region()]), [pages.fd]),
		async prepare(peer, index) {
			await say(peer, "SET_VRING_NUM", encodeState({ index, num: SIZE }));
			await say(peer, "SET_VRING_BASE", encodeState({ index, num: 0 }));
			await say(peer, "SET_VRING_ADDR", encodeAddress(rig.address(index)));
		},
		async running(peer, ...indexes) {
			await negotiate(peer);
			assert.equal(await rig.memTable(peer), 0n);
			for (const index of indexes) {
				await rig.prepare(peer, index);
				assert.equal(await wire(peer, "SET_VRING_CALL", index), 0n);
				assert.equal(await wire(peer, "SET_VRING_KICK", index), 0n);
			}
		},
		async openChannel(peer) {
			const [ours, theirs] = native.socketPair();
			const channel = makePeer(bench.runtime.adopt(ours));
			await say(peer, "SET_BACKEND_REQ_FD", Buffer.alloc(0), [theirs]);
			native.fdClose(ours);
			native.fdClose(theirs);
			return channel;
		},
		async assertNothingLeft(...peers) {
			await Promise.all(peers.map((peer) => peer.close()));
			await Promise.all([...bench.device.sessions].map((s) => s.close()));
			assert.equal(bench.device.started.size, 0);
			// Node closes its sockets a little later.
			await waitUntil(
				() => countFds() === fdsBefore,
				2000,
				() => `${countFds()} descriptors, not ${fdsBefore}`,
			);
		},
		async close() {
			await bench.close();
			native.pagesFree(pages);
		},
	};
	return rig;
}

/** Where a driver's ring, and the buffers of its requests, are in the pages. */
export const DRIVER_RING = 65536n;
export const DRIVER_DATA = 131072n;

/** A driver that flushes the disk, over one ring of a rig's pages. */
export interface Driver {
	/** Its place, by guest addresses. */
	readonly desc: bigint;
	readonly avail: bigint;
	readonly used: bigint;
	/** Eventfd. */
	readonly kick: number;
	/** Puts a flush in the ring and kicks. */
	offer(): void;
	/** How the next request ended: its status byte; undefined: none has. */
	take(): number | undefined;
	close(): void;
}

/**
 * Makes a driver, with ring 0 set up for it but not kicked. base: added to offsets in
 * the pages to get the guest addresses that it uses, by default none.
 */
export async function makeDriver(
	rig: Rig,
	peer: RawPeer,
	{ base = 0n, iova = false, features = 0n } = {},
): Promise<Driver> {
	const [kick, call] = [native.eventfd(), native.eventfd()];
	const addr = rig.pages.addr + DRIVER_RING;
	const layout = native.driverRingLayout(SIZE, features);
	const ring = native.driverRingCreate({
		addr,
		features,
		stats: 0n,
		gpa_delta: BigInt.asUintN(64, base - rig.pages.addr),
		size: SIZE,
		kick_fd: kick,
		call_fd: call, // nobody signals this
	});
	// It wants calls: flags of the available ring, or of the driver's event structure.
	const flags = (features & VIRTIO_F.RING_PACKED) === 0n ? 0n : 2n;
	native.copyIn(addr + layout.avail + flags, Buffer.alloc(2));
	const desc = iova ? base + DRIVER_RING : addr;
	const place = { desc, avail: desc + layout.avail, used: desc + layout.used };
	const address = { index: 0, flags: 0, ...place, log: 0n };
	await say(peer, "SET_VRING_NUM", encodeState({ index: 0, num: SIZE }));
	await say(peer, "SET_VRING_ADDR", encodeAddress(address));
	let token = 0n;
	const statusAt = (of: bigint) =>
		rig.pages.addr + DRIVER_DATA + 4096n * (of % BigInt(SIZE));
	return {
		...place,
		kick,
		offer() {
			const header = Buffer.alloc(17);
			header.writeUInt32LE(4); // VIRTIO_BLK_T_FLUSH
			header[16] = 0xff;
			const at = statusAt(token);
			native.copyIn(at, header);
			native.driverRingAdd(
				ring,
				[{ addr: at, len: 16n }],
				[{ addr: at + 16n, len: 1n }],
				token++,
			);
			native.driverRingKick(ring);
		},
		take() {
			const used = native.driverRingGet(ring);
			return used && native.copyOut(statusAt(used.token) + 16n, 1)[0];
		},
		close() {
			native.driverRingRelease(ring);
			native.fdClose(kick);
			native.fdClose(call);
		},
	};
}
