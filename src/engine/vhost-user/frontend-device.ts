// SPDX-License-Identifier: MIT
/** What a front end has a device do: start, stop, log, go on after its predecessor's death. */
import { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Runtime } from "../runtime.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import {
	decodeState,
	encodeAddress,
	encodeFdIndex,
	encodeState,
	encodeU64,
} from "./codec.ts";
import { type ConfigChannel, openConfigChannel } from "./config-channel.ts";
import { closeFd } from "./fds.ts";
import {
	fetchInflight,
	type InflightBuffer,
	sendInflight,
} from "./frontend-inflight.ts";
import { call, has, type Link, negotiate } from "./frontend-link.ts";
import {
	createLog,
	type DirtyLog,
	freeLog,
	sendLog,
	takeDirty,
} from "./frontend-log.ts";
import {
	allocateRegion,
	freeRegion,
	type GuestMemory,
	memoryEnd,
	type Region,
	sendLess,
	sendMore,
	sendRegions,
} from "./frontend-memory.ts";
import {
	baseAfterCrash,
	destroyRing,
	type FrontendRing,
	type RingShape,
	resetRing,
} from "./frontend-rings.ts";
import { F_PROTOCOL_FEATURES } from "./messages.ts";
import { connectRequester, type Requester } from "./requester.ts";

/** A device as its driver holds it. */
export interface HeldDevice {
	readonly runtime: Runtime;
	readonly path: string;
	/** Another after the device came back. */
	link: Link;
	channel: ConfigChannel | undefined;
	readonly onConfigChange: () => void;
	readonly memory: GuestMemory;
	readonly maxRegions: number;
	/** That of the rings. */
	readonly region: Region;
	readonly rings: FrontendRing[];
	readonly shape: RingShape;
	inflight: InflightBuffer | undefined;
	log: DirtyLog | undefined;
	/** Pages marked in a log that a larger one has replaced. */
	dirty: number[];
}

/** Gives the device a socket for its own requests, if it wants one. */
export async function shareChannel(
	runtime: Runtime,
	link: Link,
	onChange: () => void,
): Promise<ConfigChannel | undefined> {
	if (!has(link, "BACKEND_REQ")) return undefined;
	const [ours, theirs] = native.socketPair();
	let channel: ConfigChannel | undefined;
	try {
		channel = openConfigChannel(runtime, ours, onChange);
		await call(link, "SET_BACKEND_REQ_FD", Buffer.alloc(0), [theirs]);
		return channel;
	} catch (error) {
		channel?.close();
		throw error;
	} finally {
		native.fdClose(ours);
		native.fdClose(theirs);
	}
}

function sendFeatures({ link, log }: HeldDevice): Promise<Buffer> {
	const features = link.features | (log ? VIRTIO_F.LOG_ALL : 0n);
	return call(link, "SET_FEATURES", encodeU64(features));
}

function sendAddress(
	{ link, log, region }: HeldDevice,
	{ desc, avail, used }: FrontendRing,
	index: number,
): Promise<Buffer> {
	const logged = log ? used - region.addr + region.gpa : 0n;
	const flags = log ? 1 : 0;
	const address = { index, flags, desc, used, avail, log: logged };
	return call(link, "SET_VRING_ADDR", encodeAddress(address));
}

/** Sets a ring up and starts it. */
export async function startRing(
	device: HeldDevice,
	ring: FrontendRing,
	index: number,
	base: number,
): Promise<void> {
	const { link, shape } = device;
	const { size } = shape;
	ring.base = base;
	await call(link, "SET_VRING_NUM", encodeState({ index, num: size }));
	await call(link, "SET_VRING_BASE", encodeState({ index, num: base }));
	await sendAddress(device, ring, index);
	await call(link, "SET_VRING_CALL", encodeFdIndex(index, true), [ring.call]);
	await call(link, "SET_VRING_KICK", encodeFdIndex(index, true), [ring.kick]);
	if ((link.features & F_PROTOCOL_FEATURES) !== 0n)
		await call(link, "SET_VRING_ENABLE", encodeState({ index, num: 1 }));
}

/** Stops a ring; resolves with where it goes on. */
export async function stopRing(link: Link, index: number): Promise<number> {
	const state = encodeState({ index, num: 0 });
	return decodeState(await call(link, "GET_VRING_BASE", state)).num;
}

/** Tells a device all that there is, but for memory if it has that, and starts the rings. */
export async function startDevice(
	device: HeldDevice,
	hasMemory = false,
): Promise<void> {
	const { link, log, memory } = device;
	if (log) await sendLog(link, log);
	await sendFeatures(device);
	if (device.inflight) await sendInflight(link, device.inflight);
	if (!hasMemory) await sendRegions(link, memory);
	for (const [i, ring] of device.rings.entries())
		await startRing(device, ring, i, ring.base);
}

/** Has the device keep what it works on in a buffer that outlives it. */
export async function trackInflight(device: HeldDevice): Promise<void> {
	const { link, rings, shape } = device;
	if (!has(link, "INFLIGHT_SHMFD"))
		throw new VhostctlError(
			"E_UNSUPPORTED",
			"the device does not track requests in flight",
		);
	// The buffer's layout depends on the rings' format.
	await sendFeatures(device);
	device.inflight = await fetchInflight(link, rings.length, shape.size);
}

/** The device's state gone, by the strongest means that it knows. */
async function clearState({ link, rings }: HeldDevice): Promise<void> {
	if (has(link, "RESET_DEVICE")) await call(link, "RESET_DEVICE");
	else if (has(link, "STATUS")) await call(link, "SET_STATUS", encodeU64(0n));
	else for (const i of rings.keys()) await stopRing(link, i);
}

/** Resets the device and starts it over with empty rings. */
export async function resetDevice(device: HeldDevice): Promise<void> {
	const { link, rings, region, shape, inflight } = device;
	await clearState(device);
	for (const ring of rings) resetRing(ring, region, shape);
	if (inflight) {
		device.inflight = undefined;
		closeFd(inflight.fd);
		await trackInflight(device);
	}
	// Regions that were added one by one are the device's until they are removed.
	await startDevice(device, has(link, "CONFIGURE_MEM_SLOTS"));
}

/**
 * Connects to a device in the place of one that died, and has it go on with the rings as they
 * are. Throws E_UNSUPPORTED if it cannot, E_CONNECT, E_NOT_FOUND.
 */
export async function resumeDevice(device: HeldDevice): Promise<void> {
	const { runtime, path, link: before, rings } = device;
	if (!device.inflight)
		throw new VhostctlError(
			"E_UNSUPPORTED",
			"the device did not track requests in flight",
		);
	await disconnect(device);
	const requester = connectRequester(runtime, path);
	try {
		const link = await negotiate(requester, before.features);
		expectSame(before, link);
		device.link = link;
		device.channel = await shareChannel(runtime, link, device.onConfigChange);
		for (const ring of rings) ring.base = baseAfterCrash(ring, link.features);
		await startDevice(device);
	} catch (error) {
		await hangUp(requester);
		throw error;
	}
}

function expectSame(before: Link, now: Link): void {
	const features = before.features & ~now.features;
	const protocol = before.protocolFeatures & ~now.protocolFeatures;
	if (features === 0n && protocol === 0n) return;
	throw new VhostctlError(
		"E_UNSUPPORTED",
		`the device came back without features 0x${features.toString(16)}, protocol features 0x${protocol.toString(16)}`,
	);
}

export async function hangUp(requester: Requester): Promise<void> {
	requester.close();
	await requester.closed;
}

async function disconnect(device: HeldDevice): Promise<void> {
	await hangUp(device.link.requester);
	device.channel?.close();
	device.channel = undefined;
}

/** Has the device mark all that it writes from now on. Throws E_UNSUPPORTED. */
export async function startLog(device: HeldDevice): Promise<void> {
	const { link, memory, rings } = device;
	if (device.log) return;
	if ((link.offered & VIRTIO_F.LOG_ALL) === 0n || !has(link, "LOG_SHMFD"))
		throw new VhostctlError(
			"E_UNSUPPORTED",
			"the device does not log what it writes",
		);
	await replaceLog(device, memoryEnd(memory));
	await sendFeatures(device);
	for (const [i, ring] of rings.entries()) await sendAddress(device, ring, i);
}

/** Gives the device a log of nothing; what is in the one that it had is kept. */
async function replaceLog(device: HeldDevice, end: bigint): Promise<void> {
	const log = createLog(end);
	try {
		await sendLog(device.link, log);
	} catch (error) {
		freeLog(log);
		throw error;
	}
	if (device.log) {
		device.dirty.push(...takeDirty(device.log));
		freeLog(device.log);
	}
	device.log = log;
}

/** See takeDirty. */
export function takeDirtyPages(device: HeldDevice): number[] {
	const kept = device.dirty.splice(0);
	const found = device.log ? takeDirty(device.log) : [];
	if (kept.length === 0) return found;
	return [...new Set([...kept, ...found])].sort((a, b) => a - b);
}

/** Ends the logging; resolves with the pages that were marked last. */
export async function stopLog(device: HeldDevice): Promise<number[]> {
	const { log } = device;
	if (!log) return [];
	device.log = undefined;
	try {
		await sendFeatures(device);
		for (const [i, ring] of device.rings.entries())
			await sendAddress(device, ring, i);
		device.dirty.push(...takeDirty(log));
	} finally {
		freeLog(log);
	}
	return takeDirtyPages(device);
}

/** Shares more memory, which the caller may free after removeRegion. */
export async function addRegion(
	device: HeldDevice,
	size: bigint,
	pageSize: bigint,
): Promise<Region> {
	const { link, memory, maxRegions } = device;
	const region = allocateRegion(memory, size, pageSize);
	try {
		const end = memoryEnd(memory);
		if (device.log && device.log.end < end) await replaceLog(device, end);
		await sendMore(link, memory, region, maxRegions);
		return region;
	} catch (error) {
		freeRegion(memory, region);
		throw error;
	}
}

/** Takes memory back; the device must not be using it. */
export async function removeRegion(
	{ link, memory, region: first }: HeldDevice,
	region: Region,
): Promise<void> {
	if (region === first || !memory.regions.includes(region))
		throw new VhostctlError("E_INVALID", "no memory that was added");
	await sendLess(link, memory, region);
	freeRegion(memory, region);
}

/** The end: of the connection, then of all that was shared. */
export async function releaseDevice(device: HeldDevice): Promise<void> {
	await disconnect(device);
	for (const ring of device.rings.splice(0)) destroyRing(ring);
	for (const region of [...device.memory.regions])
		freeRegion(device.memory, region);
	if (device.log) freeLog(device.log);
	if (device.inflight) closeFd(device.inflight.fd);
	device.log = device.inflight = undefined;
}
