// SPDX-License-Identifier: MIT
import { errnoName, native } from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";
import type { Runtime } from "../runtime.ts";
import type { VringAddress } from "./codec.ts";
import type { RingInfo, RunningRing, Session, VhostDevice } from "./device.ts";
import { closeFd } from "./fds.ts";
import { F_PROTOCOL_FEATURES } from "./messages.ts";

/** What a ring needs of its session. */
export interface VringHost {
	readonly runtime: Runtime;
	readonly device: VhostDevice;
	readonly session: Session;
	/** Virtio features acknowledged. */
	features: bigint;
	/** Handle of the memory table, if one was set. */
	mem: bigint | undefined;
	/** Rings stay stopped while positive. */
	paused: number;
}

interface Run {
	readonly handle: bigint;
	readonly eventId: number;
	readonly running: RunningRing;
	/** The next available index, once the reactor gave the ring back. */
	readonly stopped: Promise<number>;
}

/** A ring as the front end has set it up so far. Descriptors are the ring's. */
export interface Vring {
	readonly index: number;
	/** Entries; 0: not set. */
	size: number;
	/** Next available index to take, while it does not run. */
	base: number;
	address: VringAddress | undefined;
	/** "poll": set up without a descriptor. undefined: stopped (vhost-user, "Ring states"). */
	kick: number | "poll" | undefined;
	/** -1: none. */
	call: number;
	err: number;
	/** What SET_VRING_ENABLE said, if it was heard. */
	enabled: boolean | undefined;
	broken: boolean;
	run: Run | undefined;
}

export function makeVring(index: number): Vring {
	return {
		index,
		size: 0,
		base: 0,
		address: undefined,
		kick: undefined,
		call: -1,
		err: -1,
		enabled: undefined,
		broken: false,
		run: undefined,
	};
}

export function vringInfo(vring: Vring): RingInfo {
	return {
		index: vring.index,
		size: vring.size,
		running: vring.run !== undefined,
		broken: vring.broken,
		reactor: vring.run?.running.reactor,
	};
}

/**
 * By the specification a ring of a front end that acknowledged PROTOCOL_FEATURES
 * waits for SET_VRING_ENABLE. QEMU before 7.2 acknowledges and never sends it for
 * disks, so, as SPDK does, a kick enables too unless ENABLE 0 was said.
 */
function isEnabled(vring: Vring, features: bigint): boolean {
	return (features & F_PROTOCOL_FEATURES) === 0n || vring.enabled !== false;
}

function shouldRun(vring: Vring, host: VringHost): boolean {
	return (
		host.paused === 0 &&
		host.mem !== undefined &&
		vring.size > 0 &&
		vring.address !== undefined &&
		vring.kick !== undefined &&
		!vring.broken &&
		isEnabled(vring, host.features)
	);
}

/**
 * Starts or stops a ring according to its state. A ring that cannot start (an
 * address outside the memory table) is stopped until its next kick, and the
 * reason thrown.
 */
export async function settle(vring: Vring, host: VringHost): Promise<void> {
	const wanted = shouldRun(vring, host);
	if (!wanted && vring.run) await halt(vring, host);
	if (!wanted || vring.run) return;
	try {
		vring.run = await start(vring, host);
	} catch (error) {
		dropKick(vring);
		throw fromErrno(error, `ring ${vring.index}`);
	}
}

async function start(vring: Vring, host: VringHost): Promise<Run> {
	const { runtime, device, session } = host;
	let onStopped: (nextAvail: number) => void = () => {};
	const stopped = new Promise<number>((resolve) => {
		onStopped = resolve;
	});
	const eventId = runtime.registerRing({
		...device.requestHandlers?.(session, vring.index),
		onStopped,
		onBroken: (errno) => markBroken(vring, host, errno),
	});
	let handle: bigint | undefined;
	try {
		handle = createRing(vring, host, eventId);
		const running = await device.startRing(session, vring.index, handle);
		return { handle, eventId, running, stopped };
	} catch (error) {
		runtime.unregisterRing(eventId);
		if (handle !== undefined) native.ringRelease(handle);
		throw error;
	}
}

function createRing(vring: Vring, host: VringHost, id: number): bigint {
	const { address, kick } = vring;
	if (!address || host.mem === undefined || kick === undefined)
		throw new Error("a ring that is not set up");
	return native.ringCreate({
		mem: host.mem,
		features: host.features,
		desc: address.desc,
		avail: address.avail,
		used: address.used,
		stats: host.device.statsPage(host.session, vring.index),
		size: vring.size,
		base: vring.base,
		kick_fd: kick === "poll" ? -1 : kick,
		call_fd: vring.call,
		err_fd: vring.err,
		id,
	});
}

/** The driver corrupted the ring: it idles on its reactor until it is stopped. */
function markBroken(vring: Vring, host: VringHost, errno: number): void {
	if (vring.broken) return;
	vring.broken = true;
	host.device.log(
		"warn",
		`connection ${host.session.id}: ring ${vring.index} is broken: ${errnoName(errno)}`,
	);
}

/** Stops a ring if it runs; resolves when nothing of it is in flight. */
export async function halt(vring: Vring, host: VringHost): Promise<void> {
	const { run } = vring;
	if (!run) return;
	run.running.requestStop();
	vring.base = await run.stopped;
	vring.run = undefined;
	host.runtime.unregisterRing(run.eventId);
	native.ringRelease(run.handle);
	host.device.ringStopped?.(host.session, vring.index);
}

/** Stops a ring until its next kick, as GET_VRING_BASE asks. */
export async function retire(vring: Vring, host: VringHost): Promise<void> {
	await halt(vring, host);
	dropKick(vring);
	vring.broken = false;
}

/**
 * Back to the initial state, but for the call and err descriptors: front ends
 * set these when their interrupts change, not when the device starts.
 */
export async function resetVring(vring: Vring, host: VringHost): Promise<void> {
	await retire(vring, host);
	vring.size = 0;
	vring.base = 0;
	vring.address = undefined;
	vring.enabled = undefined;
}

/** The end of a ring: stops it and closes its descriptors. */
export async function destroyVring(
	vring: Vring,
	host: VringHost,
): Promise<void> {
	await retire(vring, host);
	closeFd(vring.call);
	closeFd(vring.err);
	vring.call = vring.err = -1;
}

export function dropKick(vring: Vring): void {
	if (typeof vring.kick === "number") closeFd(vring.kick);
	vring.kick = undefined;
}
