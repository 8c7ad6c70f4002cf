// SPDX-License-Identifier: MIT
// Both ends of vhost-user for tests: a small device on a real reactor, and a peer that may
// send anything.
import { Buffer } from "node:buffer";
import { readdirSync } from "node:fs";
import { makeLogger } from "../../src/engine/log.ts";
import {
	type Connection,
	createRuntime,
	type Delivery,
	type Runtime,
} from "../../src/engine/runtime.ts";
import {
	decodeMessage,
	encodeMessage,
	type Message,
} from "../../src/engine/vhost-user/codec.ts";
import type {
	Session,
	VhostDevice,
} from "../../src/engine/vhost-user/device.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	MESSAGES,
	type MessageName,
} from "../../src/engine/vhost-user/messages.ts";
import { runningRing } from "../../src/engine/vhost-user/running-ring.ts";
import { startSession } from "../../src/engine/vhost-user/session.ts";
import {
	decodeConfigWrite,
	encodeBlkConfig,
	readConfigSpace,
} from "../../src/engine/virtio/blk-config.ts";
import { VIRTIO_BLK_F, VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { MODE_INTERRUPT, native } from "../../src/ffi/native.ts";
import { within } from "./processes.ts";

export const DISK_BLOCKS = 2048n;

/** A disk of zeros on one sleeping reactor. */
export interface TestDevice extends VhostDevice {
	features: bigint;
	protocolFeatures: bigint;
	readonly sessions: Set<Session>;
	/** Rings on the reactor. */
	readonly started: Set<string>;
	readonly logged: string[];
	/** Of those lines. */
	readonly kinds: Set<string | undefined>;
	readonly space: Buffer;
	/** Thrown by the calls named, while set. */
	failing: Set<"readConfig" | "writeConfig" | "startRing">;
	dispose(): Promise<void>;
}

export function makeDevice(runtime: Runtime, maxQueues = 4): TestDevice {
	const { handle: reactor } = native.reactorCreate(runtime.upcalls, {
		cpu: -1,
		mode: MODE_INTERRUPT,
		spin_ns: 0n,
		index: 0,
		reserved: 0,
	});
	const bdev = native.bdevNullCreate(512, DISK_BLOCKS);
	const pages = new Map<number, bigint>();
	const blks = new Map<string, bigint>();
	const failing: TestDevice["failing"] = new Set();
	const fail = (name: "readConfig" | "writeConfig" | "startRing") => {
		if (failing.has(name)) throw new Error(`${name} was told to fail`);
	};
	const space = encodeBlkConfig({
		capacity: DISK_BLOCKS,
		sizeMax: 0,
		segMax: 126,
		blkSize: 512,
		physicalBlockExp: 0,
		alignmentOffset: 0,
		minIoSize: 1,
		optIoSize: 1,
		writeback: false,
		numQueues: maxQueues,
		maxDiscardSectors: 0,
		maxDiscardSeg: 0,
		discardSectorAlignment: 0,
		maxWriteZeroesSectors: 0,
		maxWriteZeroesSeg: 0,
		writeZeroesMayUnmap: false,
	});
	const sessions = new Set<Session>();
	const started = new Set<string>();
	const logged: string[] = [];
	const kinds = new Set<string | undefined>();
	const key = (session: Session, index: number) => `${session.id}.${index}`;
	return {
		name: "test",
		features:
			VIRTIO_F.VERSION_1 |
			VIRTIO_F.RING_INDIRECT_DESC |
			VIRTIO_F.RING_EVENT_IDX |
			VIRTIO_BLK_F.FLUSH |
			VIRTIO_BLK_F.MQ,
		protocolFeatures: DEFAULT_PROTOCOL_FEATURES,
		maxQueues,
		sessions,
		started,
		logged,
		kinds,
		space,
		failing,
		readConfig(offset, length) {
			fail("readConfig");
			return readConfigSpace(space, offset, length);
		},
		writeConfig(offset, data) {
			fail("writeConfig");
			decodeConfigWrite(offset, data);
			data.copy(space, offset);
		},
		attach: (session) => void sessions.add(session),
		detach: (session) => void sessions.delete(session),
		async startRing(session, index, ring) {
			fail("startRing");
			const blk = native.blkCreate({
				bdev,
				features: session.features,
				flags: 0,
				max_discard_sectors: 0,
				max_discard_segments: 0,
				max_write_zeroes_sectors: 0,
				max_write_zeroes_segments: 0,
				serial: Buffer.from("test"),
			});
			native.reactorStartBlkRing(reactor, ring, blk, 0n);
			blks.set(key(session, index), blk);
			started.add(key(session, index));
			return runningRing({ id: 0, handle: reactor }, ring);
		},
		ringStopped(session, index) {
			native.blkRelease(blks.get(key(session, index)) ?? 0n);
			blks.delete(key(session, index));
			started.delete(key(session, index));
		},
		statsPage(_, index) {
			const page = pages.get(index) ?? native.statsAlloc();
			pages.set(index, page);
			return page;
		},
		log: makeLogger((level, text, { ring, kind }) => {
			const where = ring === undefined ? "" : `ring ${ring}: `;
			if (level === "debug") return;
			logged.push(`${level}: ${where}${text}`);
			kinds.add(kind);
		}),
		async dispose() {
			await Promise.all([...sessions].map((session) => session.close()));
			native.reactorRelease(reactor);
			native.bdevRelease(bdev);
			for (const page of pages.values()) native.statsFree(page);
		},
	};
}

/** A front end without manners. */
export interface RawPeer {
	readonly connection: Connection;
	/** Where descriptors that come are put, to be closed by the test; undefined: they are closed. */
	kept: number[] | undefined;
	/** Sends bytes as they are. */
	sendBytes(data: Uint8Array, fds?: readonly number[]): void;
	/** Sends a message; `flags` beside the version. */
	send(
		request: MessageName | number,
		payload?: Uint8Array,
		fds?: readonly number[],
		flags?: number,
	): void;
	/** The next message from the other end; undefined when it has closed. */
	receive(): Promise<Message | undefined>;
	/** send, then receive. */
	ask(
		request: MessageName | number,
		payload?: Uint8Array,
		fds?: readonly number[],
		flags?: number,
	): Promise<Message | undefined>;
	readonly closed: Promise<void>;
	close(): Promise<void>;
}

export function makePeer(connection: Connection): RawPeer {
	const inbox: Message[] = [];
	const waiting: ((message: Message | undefined) => void)[] = [];
	let open = true;
	connection.onMessage(({ data, fds }: Delivery) => {
		if (peer.kept) peer.kept.push(...fds);
		else for (const fd of fds) native.fdClose(fd);
		const message = decodeMessage(data);
		const take = waiting.shift();
		if (take) take(message);
		else inbox.push(message);
		connection.next();
	});
	const closed = new Promise<void>((resolve) => {
		connection.onClose(() => {
			open = false;
			for (const take of waiting.splice(0)) take(undefined);
			resolve();
		});
	});
	const peer: RawPeer = {
		connection,
		kept: undefined,
		sendBytes: (data, fds = []) => connection.send(data, fds),
		send(request, payload = Buffer.alloc(0), fds = [], flags = 0) {
			const number =
				typeof request === "number" ? request : MESSAGES[request].request;
			connection.send(encodeMessage(number, flags, payload), fds);
		},
		receive() {
			const first = inbox.shift();
			if (first || !open) return Promise.resolve(first);
			const next = new Promise<Message | undefined>((resolve) => {
				waiting.push(resolve);
			});
			return within(next, 10_000, () => "an answer");
		},
		ask(...message) {
			peer.send(...message);
			return peer.receive();
		},
		closed,
		async close() {
			connection.close();
			await closed;
		},
	};
	connection.next();
	return peer;
}

export interface Bench {
	readonly runtime: Runtime;
	readonly device: TestDevice;
	/** A front end connected to a new session of the device. */
	connect(): { peer: RawPeer; session: Session };
	close(): Promise<void>;
}

/** A runtime and a device, and as many front ends as wanted. */
export function makeBench(maxQueues?: number): Bench {
	const runtime = createRuntime();
	const device = makeDevice(runtime, maxQueues);
	return {
		runtime,
		device,
		connect() {
			const [theirs, ours] = native.socketPair();
			const session = startSession(runtime, runtime.adopt(theirs), device);
			const peer = makePeer(runtime.adopt(ours));
			native.fdClose(theirs);
			native.fdClose(ours);
			return { peer, session };
		},
		async close() {
			await device.dispose();
			await runtime.close();
		},
	};
}

/** How many descriptors this process has open. */
export function countFds(): number {
	return readdirSync("/proc/self/fd").length;
}
