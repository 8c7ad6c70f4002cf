// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { BLK_READONLY, native } from "../ffi/native.ts";
import type { Bdev, BdevUser } from "./bdev/bdev.ts";
import {
	type Coalescing,
	checkCoalescing,
	NOT_COALESCED,
} from "./coalescing.ts";
import { fromErrno, VhostctlError } from "./errors.ts";
import { createLettingGo } from "./letting-go.ts";
import { bind, type Logger } from "./log.ts";
import { leastLoaded, type Reactor } from "./reactors.ts";
import { allocStatsPage, type StatsPage } from "./stats.ts";
import { createTraces, type Traces } from "./trace.ts";
import type { RunningRing, Session, VhostDevice } from "./vhost-user/device.ts";
import {
	type Offers,
	protocolFeatures,
	ringFeatures,
} from "./vhost-user/offers.ts";
import { coalesceRing, runningRing } from "./vhost-user/running-ring.ts";
import {
	type BlkConfig,
	decodeConfigWrite,
	encodeBlkConfig,
	readConfigSpace,
} from "./virtio/blk-config.ts";
import { VIRTIO_BLK_F } from "./virtio/features.ts";

const MAX_QUEUES = 256;
const SECTOR = 512;
/** Two less than the smallest ring in use, 128: a request fits it without indirection. */
const SEG_MAX = 126;
const SIZE_MAX = 1024 * 1024;
/** 16 MiB, as SPDK has it: what one request may keep a reactor busy with. */
const MAX_UNMAP_SECTORS = 32768;
const MAX_DISCARD_SEGMENTS = 16;
const MAX_WRITE_ZEROES_SEGMENTS = 1;
const SERIAL_BYTES = 20;

/** A vhost-user-blk device: a socket's name, the bdev behind it, the front ends that use it. */
export interface BlkController extends VhostDevice, BdevUser {
	readonly kind: "blk";
	readonly name: string;
	/** Front ends can connect. */
	started: boolean;
	readonly readonly: boolean;
	/** Undefined once the bdev was deleted: the capacity is 0 and requests fail. */
	readonly bdev: Bdev | undefined;
	/** The processors whose reactors serve it. */
	readonly cpus: readonly number[];
	/** The front ends connected. */
	readonly sessions: readonly Session[];
	/** When rings whose requests end fast call their drivers. */
	readonly coalescing: Coalescing;
	/**
	 * Sets that, for rings that run and those to come. Throws E_INVALID: a delay of
	 * 0..1,000,000 microseconds and a threshold of 100..2^32 - 1 are right.
	 */
	setCoalescing(delayBaseUs: number, iopsThreshold: number): void;
	/** What a ring did; undefined for one that never ran. */
	ringStats(session: Session, index: number): StatsPage | undefined;
	/** The last requests of its rings. */
	readonly traces: Traces;
	/** Ends all connections and gives the bdev back. */
	close(): Promise<void>;
}

export interface BlkControllerOptions extends Offers {
	name: string;
	bdev: Bdev;
	/** Also set for a bdev that cannot be written. */
	readonly: boolean;
	/** At least one. */
	reactors: readonly Reactor[];
	log: Logger;
}

/** A ring that a reactor runs. */
interface Running {
	readonly reactor: Reactor;
	readonly ring: bigint;
	/** struct vhc_blk *, ours to give back. */
	readonly blk: bigint;
}

/** What a connection has of ours. */
interface Attached {
	/** By ring. */
	readonly pages: Map<number, StatsPage>;
	readonly running: Map<number, Running>;
}

function offeredFeatures(bdev: Bdev, readonly: boolean): bigint {
	const { supports } = bdev.backend;
	let features =
		VIRTIO_BLK_F.SIZE_MAX |
		VIRTIO_BLK_F.SEG_MAX |
		VIRTIO_BLK_F.BLK_SIZE |
		VIRTIO_BLK_F.TOPOLOGY |
		VIRTIO_BLK_F.MQ;
	if (readonly) features |= VIRTIO_BLK_F.RO;
	if (supports.flush) features |= VIRTIO_BLK_F.FLUSH | VIRTIO_BLK_F.CONFIG_WCE;
	if (supports.unmap && !readonly) features |= VIRTIO_BLK_F.DISCARD;
	if (supports.writeZeroes && !readonly) features |= VIRTIO_BLK_F.WRITE_ZEROES;
	return features;
}

/**
 * When the bdev is gone there are no blocks, but the shape of the disk stays: drivers refuse a
 * block size of 0, and an error instead would end a QEMU whose guest reboots.
 */
function configOf(bdev: Bdev, gone: boolean, writeback: boolean): BlkConfig {
	const { blockSize, physicalBlockSize, numBlocks, supports } = bdev.backend;
	const { unmap, writeZeroes } = supports;
	return {
		capacity: gone ? 0n : BigInt(numBlocks * (blockSize / SECTOR)),
		sizeMax: SIZE_MAX,
		segMax: SEG_MAX,
		blkSize: blockSize,
		physicalBlockExp: Math.log2(physicalBlockSize / blockSize),
		alignmentOffset: 0,
		minIoSize: 1,
		optIoSize: 0,
		writeback,
		numQueues: MAX_QUEUES,
		maxDiscardSectors: unmap ? MAX_UNMAP_SECTORS : 0,
		maxDiscardSeg: unmap ? MAX_DISCARD_SEGMENTS : 0,
		discardSectorAlignment: unmap ? blockSize / SECTOR : 0,
		maxWriteZeroesSectors: writeZeroes ? MAX_UNMAP_SECTORS : 0,
		maxWriteZeroesSeg: writeZeroes ? MAX_WRITE_ZEROES_SEGMENTS : 0,
		writeZeroesMayUnmap: writeZeroes,
	};
}

/** The state that migrates: a version, and whether the driver set writeback. */
function encodeBlkState(writeback: boolean): Buffer {
	return Buffer.from([1, writeback ? 1 : 0]);
}

function decodeBlkState(state: Buffer): boolean {
	if (state.length !== 2 || state[0] !== 1 || (state[1] ?? 2) > 1)
		throw new VhostctlError("E_INVALID", "not the state of a block device");
	return state[1] === 1;
}

/** What GET_ID answers: the bdev's name, as much as fits. */
function serialOf(bdev: Bdev | undefined): Buffer {
	const serial = Buffer.alloc(SERIAL_BYTES);
	serial.write(bdev?.name ?? "");
	return serial;
}

/**
 * Makes a controller and claims its bdev: alone to write, or with others to
 * read. Throws E_BUSY, E_NOT_FOUND. Its socket is the caller's to make.
 */
export function createBlkController(
	options: BlkControllerOptions,
): BlkController {
	const { name, reactors } = options;
	const log = bind(options.log, { controller: name });
	const readonly = options.readonly || options.bdev.backend.readonly;
	const sessions = new Map<Session, Attached>();
	const traces = createTraces(() => false);
	const lettingGo = createLettingGo();
	let bdev: Bdev | undefined = options.bdev;
	let writeback = true;
	let paused = false;
	let coalescing = NOT_COALESCED;

	const createBlk = (session: Session): bigint => {
		const config = configOf(options.bdev, !bdev, writeback);
		const blk = native.blkCreate({
			bdev: bdev?.handle ?? 0n,
			features: session.features,
			flags: readonly ? BLK_READONLY : 0,
			max_discard_sectors: config.maxDiscardSectors,
			max_discard_segments: config.maxDiscardSeg,
			max_write_zeroes_sectors: config.maxWriteZeroesSectors,
			max_write_zeroes_segments: config.maxWriteZeroesSeg,
			serial: serialOf(bdev),
		});
		native.blkSetWriteback(blk, writeback);
		return blk;
	};
	const start = (
		session: Session,
		index: number,
		ring: bigint,
		node: number,
	) => {
		const reactor = leastLoaded(reactors, node);
		const stats = bdev?.pageFor(reactor.id).address ?? 0n;
		const blk = createBlk(session);
		try {
			native.reactorStartBlkRing(reactor.handle, ring, blk, stats);
		} catch (error) {
			native.blkRelease(blk);
			throw error;
		}
		reactor.rings++;
		sessions.get(session)?.running.set(index, { reactor, ring, blk });
		if (coalescing.delayBaseUs > 0)
			coalesceRing(reactor.handle, ring, coalescing);
		return reactor;
	};

	const setWriteback = (value: boolean): void => {
		writeback = value;
		for (const { running } of sessions.values())
			for (const { blk } of running.values())
				native.blkSetWriteback(blk, writeback);
	};

	const controller: BlkController = {
		kind: "blk",
		name,
		started: false,
		readonly,
		features: ringFeatures(options) | offeredFeatures(options.bdev, readonly),
		protocolFeatures: protocolFeatures(options),
		maxQueues: MAX_QUEUES,
		cpus: reactors.map((reactor) => reactor.cpu),
		get bdev() {
			return bdev;
		},
		get sessions() {
			return [...sessions.keys()];
		},
		get coalescing() {
			return coalescing;
		},
		setCoalescing(delayBaseUs, iopsThreshold) {
			coalescing = checkCoalescing(delayBaseUs, iopsThreshold);
			for (const { running } of sessions.values())
				for (const { reactor, ring } of running.values())
					coalesceRing(reactor.handle, ring, coalescing);
		},

		readConfig: (offset, length) =>
			readConfigSpace(
				encodeBlkConfig(configOf(options.bdev, !bdev, writeback)),
				offset,
				length,
			),
		writeConfig(offset, data) {
			setWriteback(decodeConfigWrite(offset, data));
		},
		exportState: () => encodeBlkState(writeback),
		importState(_, state) {
			setWriteback(decodeBlkState(state));
		},

		attach(session) {
			sessions.set(session, { pages: new Map(), running: new Map() });
			log.info("connected", { session: session.id, kind: "connected" });
			if (paused) void session.pause();
		},
		abandoned(session) {
			lettingGo.begin(session, bdev ? [bdev] : []);
		},
		reset: (session) => lettingGo.end(session),
		detach(session) {
			lettingGo.end(session);
			const attached = sessions.get(session);
			sessions.delete(session);
			for (const page of attached?.pages.values() ?? []) page.free();
			traces.sessionEnded(session);
			log.info("ended", { session: session.id, kind: "ended" });
		},
		async startRing(session, index, ring, node): Promise<RunningRing> {
			try {
				traces.ringStarts(session, index, ring);
				const reactor = start(session, index, ring, node);
				return runningRing(reactor, ring);
			} catch (error) {
				traces.ringStopped(session, index);
				throw fromErrno(error, `controller ${name}: ring ${index}`);
			}
		},
		ringStopped(session, index) {
			traces.ringStopped(session, index);
			const running = sessions.get(session)?.running;
			const stopped = running?.get(index);
			if (!stopped) return;
			running?.delete(index);
			stopped.reactor.rings--;
			native.blkRelease(stopped.blk);
		},
		statsPage(session, index) {
			const pages = sessions.get(session)?.pages;
			const page = pages?.get(index) ?? allocStatsPage();
			pages?.set(index, page);
			return page.address;
		},
		ringStats: (session, index) => sessions.get(session)?.pages.get(index),
		traces,
		log,

		async pause() {
			paused = true;
			await Promise.allSettled(
				[...sessions.keys()].map((session) => session.pause()),
			);
		},
		async resume() {
			paused = false;
			await Promise.allSettled(
				[...sessions.keys()].map((session) => session.resume()),
			);
		},
		removed() {
			log.warning("is gone, requests fail from now on", { bdev: bdev?.name });
			bdev = undefined;
		},
		async changed() {
			await Promise.allSettled(
				[...sessions.keys()].map((session) => session.configChanged()),
			);
		},
		async close() {
			await Promise.all([...sessions.keys()].map((session) => session.close()));
			traces.close();
			unclaim();
		},
	};
	const unclaim = options.bdev.claim(controller);
	return controller;
}
