// SPDX-License-Identifier: MIT
// A session on its way from one process to another: as a document and descriptors.
import { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import { openBackendChannel } from "./backend-channel.ts";
import type { VringAddress } from "./codec.ts";
import { closeFd } from "./fds.ts";
import { openInflight } from "./inflight.ts";
import { makeLog } from "./log.ts";
import { mapMemory } from "./memory.ts";
import type {
	FdPlace,
	RingImage,
	SessionDocument,
	SessionImage,
} from "./session-image.ts";
import {
	everyVring,
	type Frozen,
	renewIotlb,
	type SessionState,
	unpause,
} from "./state.ts";
import { halt, isPacked, makeVring, type Vring } from "./vring.ts";

/** Stops the rings and takes the sockets; if that fails, all goes on. */
export async function freezeState(state: SessionState): Promise<SessionImage> {
	const { connection, postcopy, transfer } = state;
	if (!connection) throw new VhostctlError("E_CONNECT", "no front end");
	if (postcopy.fd >= 0 || transfer)
		throw new VhostctlError("E_BUSY", "the guest is being migrated");
	// First, since the front end may be in the middle of a message, or gone.
	const fd = await connection.take();
	state.connection = undefined;
	state.paused++;
	try {
		await everyVring(state, halt);
		const channel = await takeChannel(state);
		state.frozen = { connection: fd, channel };
		return makeImage(state, state.frozen);
	} catch (error) {
		state.frozen ??= { connection: fd, channel: null };
		await thawState(state);
		throw error;
	}
}

async function takeChannel(state: SessionState): Promise<Frozen["channel"]> {
	const { channel } = state;
	if (!channel) return null;
	state.channel = undefined;
	try {
		return await channel.take();
	} catch {
		channel.close(); // broken: the front end has lost it already
		return null;
	}
}

/** Serves the front end that a frozen session was, or is to be, connected to. */
export async function thawState(state: SessionState): Promise<void> {
	const { frozen, runtime } = state;
	if (!frozen)
		throw new VhostctlError("E_INVALID", "the session is not frozen");
	const connection = runtime.adopt(frozen.connection);
	state.listen(connection);
	if (frozen.channel) {
		const { fd, owed } = frozen.channel;
		state.channel = openBackendChannel(runtime, fd, owed);
	}
	dropFrozen(state);
	await unpause(state);
	if (state.inbox.length > 0) await state.next();
	else connection.next();
}

/** Closes what a frozen session holds; the front end notices nothing. */
export function dropFrozen(state: SessionState): void {
	const { frozen } = state;
	if (!frozen) return;
	state.frozen = undefined;
	closeFd(frozen.connection);
	if (frozen.channel) closeFd(frozen.channel.fd);
}

/** Collects descriptors. */
class Places {
	readonly fds: number[] = [];

	put(fd: number): FdPlace {
		return this.fds.push(fd) - 1;
	}

	/** For a descriptor that may be -1. */
	maybe(fd: number): FdPlace | null {
		return fd < 0 ? null : this.put(fd);
	}
}

function makeImage(state: SessionState, frozen: Frozen): SessionImage {
	const places = new Places();
	const { log, inflight, device, session, memory } = state;
	const [message] = state.inbox;
	const document: SessionDocument = {
		version: 1,
		features: String(state.features),
		protocolFeatures: String(state.protocolFeatures),
		negotiated: state.negotiated,
		status: Number(state.status),
		connection: places.put(frozen.connection),
		message: message
			? {
					data: message.data.toString("base64"),
					fds: message.fds.map((fd) => places.put(fd)),
				}
			: null,
		channel: frozen.channel
			? { fd: places.put(frozen.channel.fd), owed: frozen.channel.owed }
			: null,
		memory:
			memory?.regions.map(({ gpa, size, userAddr, offset, fd }) => ({
				gpa: String(gpa),
				size: String(size),
				userAddr: String(userAddr),
				offset: String(offset),
				fd: places.put(fd),
			})) ?? null,
		log: log.base
			? {
					fd: places.put(log.base.fd),
					size: String(log.base.size),
					offset: String(log.base.offset),
				}
			: null,
		logFd: places.maybe(log.signal),
		unlogged: state.unlogged,
		inflight: inflight
			? {
					fd: places.put(inflight.fd),
					size: String(inflight.size),
					offset: String(inflight.offset),
					numQueues: inflight.numQueues,
					queueSize: inflight.queueSize,
				}
			: null,
		rings: [...state.vrings.values()].map((vring) => ringImage(vring, places)),
		device: device.exportSession?.(session) ?? null,
	};
	return { document, fds: places.fds };
}

function ringImage(vring: Vring, places: Places): RingImage {
	const { kick, address } = vring;
	return {
		index: vring.index,
		size: vring.size,
		base: vring.base ?? null,
		left: vring.left ?? null,
		address: address
			? {
					flags: address.flags,
					desc: String(address.desc),
					used: String(address.used),
					avail: String(address.avail),
					log: String(address.log),
				}
			: null,
		kick: typeof kick === "number" ? places.put(kick) : (kick ?? null),
		call: places.maybe(vring.call),
		err: places.maybe(vring.err),
		enabled: vring.enabled ?? null,
		broken: vring.broken,
	};
}

/** Makes a fresh state what an image says, frozen. Its descriptors are the state's on success only. */
export function restoreState(state: SessionState, image: SessionImage): void {
	const { document } = image;
	if (document.version !== 1)
		throw new VhostctlError("E_UNSUPPORTED", "an image of another version");
	const fdAt = (place: FdPlace | null): number => {
		if (place === null) return -1;
		const fd = image.fds[place];
		if (fd === undefined)
			throw new VhostctlError("E_INVALID", `no descriptor ${place}`);
		return fd;
	};
	try {
		restoreWords(state, document);
		restoreShared(state, document, fdAt);
		for (const ring of document.rings)
			state.vrings.set(ring.index, restoreRing(ring, fdAt));
		restoreSockets(state, document, fdAt);
	} catch (error) {
		unmap(state);
		throw error;
	}
}

type FdAt = (place: FdPlace | null) => number;

function restoreWords(state: SessionState, document: SessionDocument): void {
	state.features = BigInt(document.features);
	state.protocolFeatures = BigInt(document.protocolFeatures);
	state.negotiated = document.negotiated;
	state.status = BigInt(document.status);
	state.unlogged = document.unlogged;
	state.paused = 1;
}

function restoreSockets(
	state: SessionState,
	{ message, channel, connection }: SessionDocument,
	fdAt: FdAt,
): void {
	state.frozen = {
		connection: fdAt(connection),
		channel: channel && { fd: fdAt(channel.fd), owed: channel.owed },
	};
	if (!message) return;
	const data = Buffer.from(message.data, "base64");
	state.inbox.push({ data, fds: message.fds.map(fdAt) });
}

/** Maps what the front end shares. */
function restoreShared(
	state: SessionState,
	document: SessionDocument,
	fdAt: FdAt,
): void {
	const { memory, log, inflight } = document;
	if (memory)
		state.memory = mapMemory(
			memory.map((region) => ({
				gpa: BigInt(region.gpa),
				size: BigInt(region.size),
				userAddr: BigInt(region.userAddr),
				offset: BigInt(region.offset),
				fd: fdAt(region.fd),
			})),
		);
	const base = log
		? { fd: fdAt(log.fd), size: BigInt(log.size), offset: BigInt(log.offset) }
		: undefined;
	state.log = makeLog(base, fdAt(document.logFd));
	if (inflight) {
		const area = {
			size: BigInt(inflight.size),
			offset: BigInt(inflight.offset),
			numQueues: inflight.numQueues,
			queueSize: inflight.queueSize,
		};
		const fd = fdAt(inflight.fd);
		const { maxQueues } = state.device;
		state.inflight = openInflight(area, fd, isPacked(state), maxQueues);
	}
	renewIotlb(state);
}

/** Takes back what was mapped; descriptors stay the caller's. */
export function unmap(state: SessionState): void {
	if (state.memory) native.memRelease(state.memory.handle);
	if (state.log.handle !== undefined) native.logRelease(state.log.handle);
	state.inflight?.unmap();
	state.iotlb?.release();
}

function restoreRing(image: RingImage, fdAt: FdAt): Vring {
	const { kick, address } = image;
	return {
		...makeVring(image.index),
		size: image.size,
		base: image.base ?? undefined,
		left: image.left ?? undefined,
		address: address ? restoreAddress(image.index, address) : undefined,
		kick: typeof kick === "number" ? fdAt(kick) : (kick ?? undefined),
		call: fdAt(image.call),
		err: fdAt(image.err),
		enabled: image.enabled ?? undefined,
		broken: image.broken,
	};
}

function restoreAddress(
	index: number,
	{ flags, desc, used, avail, log }: NonNullable<RingImage["address"]>,
): VringAddress {
	return {
		index,
		flags,
		desc: BigInt(desc),
		used: BigInt(used),
		avail: BigInt(avail),
		log: BigInt(log),
	};
}
