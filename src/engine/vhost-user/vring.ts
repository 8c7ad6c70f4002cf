// SPDX-License-Identifier: MIT
import {
	MEM_READ,
	MEM_WRITE,
	native,
	RING_BASE_PACKED,
} from "../../ffi/native.ts";
import { fromErrno, messageOf } from "../errors.ts";
import type { Runtime } from "../runtime.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import type { BackendChannel } from "./backend-channel.ts";
import type { VringAddress } from "./codec.ts";
import { explainDamage } from "./damage.ts";
import type { RingInfo, RunningRing, Session, VhostDevice } from "./device.ts";
import { closeFd } from "./fds.ts";
import { type CallRelay, relayCalls } from "./inband.ts";
import type { Inflight } from "./inflight.ts";
import type { Iotlb } from "./iotlb.ts";
import type { DirtyLog } from "./log.ts";
import { type MalformedRequests, watchMalformed } from "./malformed.ts";
import type { GuestMemory } from "./memory.ts";
import {
	F_PROTOCOL_FEATURES,
	PROTOCOL_FEATURES,
	VRING_F_LOG,
} from "./messages.ts";
import { describeBreak } from "./ring-breaks.ts";

/** A translation that a ring waits for. */
export interface Miss {
	readonly iova: bigint;
	/** MEM_READ, MEM_WRITE. */
	readonly access: number;
	/** Of the ring's own parts: it does not start without. */
	readonly parts?: true;
}

/** What a ring needs of its session. */
export interface VringHost {
	readonly runtime: Runtime;
	readonly device: VhostDevice;
	readonly session: Session;
	/** Virtio features acknowledged. */
	features: bigint;
	protocolFeatures: bigint;
	/** Rings stay stopped while positive. */
	paused: number;
	memory: GuestMemory | undefined;
	/** With ACCESS_PLATFORM and a memory table: what rings may see of it. */
	iotlb: Iotlb | undefined;
	log: DirtyLog;
	/** Rings wrote under LOG_ALL before there was a log. */
	unlogged: boolean;
	inflight: Inflight | undefined;
	channel: BackendChannel | undefined;
	/** Sees to it that a ring gets a translation, or hears that there is none. */
	onMiss(vring: Vring, miss: Miss): void;
}

interface Run {
	readonly handle: bigint;
	readonly eventId: number;
	readonly running: RunningRing;
	/** What it sees of memory. */
	view: bigint;
	/** Tells calls in messages. */
	readonly relay: CallRelay | undefined;
	readonly malformed: MalformedRequests;
	/** Where it goes on, once the reactor gave the ring back. */
	readonly stopped: Promise<number>;
}

/** A ring as the front end has set it up so far. Descriptors are the ring's. */
export interface Vring {
	readonly index: number;
	/** Entries; 0: not set. */
	size: number;
	/** Where it goes on (as GET_VRING_BASE) while it does not run; undefined: at the beginning. */
	base: number | undefined;
	/** Where a reset stopped it, for a front end that asks afterwards. */
	left: number | undefined;
	address: VringAddress | undefined;
	/** "poll": set up without a descriptor. undefined: stopped (vhost-user, "Ring states"). */
	kick: number | "poll" | undefined;
	/** -1: none. */
	call: number;
	err: number;
	/** What SET_VRING_ENABLE said, if it was heard. */
	enabled: boolean | undefined;
	broken: boolean;
	/** It waits for this, running or about to start. */
	miss: Miss | undefined;
	run: Run | undefined;
}

export function makeVring(index: number): Vring {
	return {
		index,
		size: 0,
		base: undefined,
		left: undefined,
		address: undefined,
		kick: undefined,
		call: -1,
		err: -1,
		enabled: undefined,
		broken: false,
		miss: undefined,
		run: undefined,
	};
}

export function isPacked({ features }: Pick<VringHost, "features">): boolean {
	return (features & VIRTIO_F.RING_PACKED) !== 0n;
}

/** Where a ring that does not run goes on. */
export function baseOf(vring: Vring, host: VringHost): number {
	return vring.base ?? (isPacked(host) ? RING_BASE_PACKED : 0);
}

export function vringInfo(vring: Vring, host: VringHost): RingInfo {
	const { address, run } = vring;
	return {
		index: vring.index,
		size: vring.size,
		packed: isPacked(host),
		running: run !== undefined,
		enabled: vring.enabled,
		broken: vring.broken,
		reactor: run?.running.reactor,
		base: run ? undefined : baseOf(vring, host),
		address: address && {
			desc: address.desc,
			avail: address.avail,
			used: address.used,
		},
		logged: logOf(host) !== undefined,
		tracked: host.inflight !== undefined,
	};
}

/** The log to write, if there is one and it is wanted. */
function logOf({ features, log }: VringHost): bigint | undefined {
	return (features & VIRTIO_F.LOG_ALL) !== 0n ? log.handle : undefined;
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
		host.memory !== undefined &&
		vring.size > 0 &&
		vring.address !== undefined &&
		vring.kick !== undefined &&
		!vring.broken &&
		isEnabled(vring, host.features)
	);
}

/**
 * Starts or stops a ring according to its state. One whose parts the IOMMU does not
 * show yet starts when it does. One that cannot start (an address outside the memory
 * table) is stopped until its next kick, and the reason thrown.
 */
export async function settle(vring: Vring, host: VringHost): Promise<void> {
	const wanted = shouldRun(vring, host);
	if (!wanted) {
		await halt(vring, host);
		vring.miss = undefined;
	}
	if (!wanted || vring.run) return;
	const gap = findGap(vring, host);
	if (gap) {
		host.onMiss(vring, gap);
		return;
	}
	try {
		vring.run = await start(vring, host);
	} catch (error) {
		dropKick(vring);
		throw fromErrno(error, `ring ${vring.index}`);
	}
}

/** Bytes of a ring's parts, with the event fields (virtio 2.7, 2.8.14). */
function partSizes(size: number, packed: boolean) {
	return packed
		? { desc: 16 * size, avail: 4, used: 4 }
		: { desc: 16 * size, avail: 6 + 2 * size, used: 6 + 8 * size };
}

/** The first address of a ring's parts that the IOTLB does not have. */
function findGap(vring: Vring, host: VringHost): Miss | undefined {
	const { iotlb } = host;
	const { address, size } = vring;
	if (!iotlb || !address) return undefined;
	const packed = isPacked(host);
	const sizes = partSizes(size, packed);
	const parts = [
		["desc", packed ? MEM_READ | MEM_WRITE : MEM_READ],
		["avail", MEM_READ],
		["used", MEM_WRITE],
	] as const;
	for (const [part, access] of parts) {
		const iova = iotlb.gap(address[part], BigInt(sizes[part]), access);
		if (iova !== undefined) return { iova, access, parts: true };
	}
	return undefined;
}

async function start(vring: Vring, host: VringHost): Promise<Run> {
	const { runtime, device, session } = host;
	let onStopped: (next: number) => void = () => {};
	const stopped = new Promise<number>((resolve) => {
		onStopped = resolve;
	});
	const malformed = watchMalformed(device.statsPage(session, vring.index));
	const eventId = runtime.registerRing({
		...device.requestHandlers?.(session, vring.index),
		onStopped,
		onBroken: (errno, reason) => markBroken(vring, host, errno, reason),
		onMiss: (iova, access) => host.onMiss(vring, { iova, access }),
		onMalformed(errno, head) {
			const { kind, text } = malformed.describe(errno, head);
			report(vring, host, kind, text);
		},
	});
	let handle: bigint | undefined;
	let relay: CallRelay | undefined;
	try {
		relay = makeRelay(vring, host);
		handle = createRing(vring, host, eventId, relay);
		const node = nodeOf(vring, host);
		const { index } = vring;
		const running = await device.startRing(session, index, handle, node);
		trace(vring, host, `starts on reactor ${running.reactor}`);
		return {
			handle,
			view: memoryOf(host),
			eventId,
			running,
			relay,
			malformed,
			stopped,
		};
	} catch (error) {
		runtime.unregisterRing(eventId);
		relay?.close();
		if (handle !== undefined) native.ringRelease(handle);
		throw error;
	}
}

/** Calls go in messages if that was agreed on, for a ring that has no descriptor for them. */
function makeRelay(vring: Vring, host: VringHost): CallRelay | undefined {
	if (!notifiesInband(host) || vring.call >= 0) return undefined;
	return relayCalls(async () => {
		try {
			await host.channel?.vringCall(vring.index);
		} catch (error) {
			report(vring, host, "ring-call", `VRING_CALL: ${messageOf(error)}`);
		}
	});
}

function notifiesInband({ protocolFeatures }: VringHost): boolean {
	return (protocolFeatures & PROTOCOL_FEATURES.INBAND_NOTIFICATIONS) !== 0n;
}

function createRing(
	vring: Vring,
	host: VringHost,
	id: number,
	relay: CallRelay | undefined,
): bigint {
	const { address, kick } = vring;
	const { features } = host;
	if (!address || kick === undefined)
		throw new Error("a ring that is not set up");
	const log = logOf(host);
	if ((features & VIRTIO_F.LOG_ALL) !== 0n && log === undefined)
		host.unlogged = true;
	const inflight = host.inflight?.handle(isPacked(host)) ?? 0n;
	const config = {
		mem: memoryOf(host),
		features,
		desc: address.desc,
		avail: address.avail,
		used: address.used,
		stats: host.device.statsPage(host.session, vring.index),
		inflight,
		log: log ?? 0n,
		log_used: address.flags & VRING_F_LOG ? address.log : NOT_LOGGED,
		size: vring.size,
		base: firstBase(vring, host),
		index: vring.index,
		kick_fd: kick === "poll" ? -1 : kick,
		call_fd: relay?.fd ?? vring.call,
		err_fd: vring.err,
		id,
		reserved: 0,
	};
	try {
		return native.ringCreate(config);
	} catch (error) {
		throw explainDamage(error, inflight, vring.index);
	}
}

function memoryOf({ iotlb, memory }: VringHost): bigint {
	if (!memory) throw new Error("a ring without memory");
	return iotlb?.view() ?? memory.handle;
}

const NOT_LOGGED = 2n ** 64n - 1n;
/** Flags of a packed descriptor, at its end (virtio 2.8.1). */
const DESC_FLAGS_AT = 14n;
const DESC_F_USED = 1 << 15;

/**
 * Linux's virtio_uml says 0 for the beginning of a packed ring too. Taken literally
 * that is its first descriptor in a later round, and then that has been used before.
 */
function firstBase(vring: Vring, host: VringHost): number {
	const base = baseOf(vring, host);
	if (base !== 0 || !isPacked(host)) return base;
	const address = hostAddress(vring, host);
	if (address === undefined) return base;
	const flags = native.copyOut(address + DESC_FLAGS_AT, 2).readUInt16LE();
	return flags & DESC_F_USED ? base : RING_BASE_PACKED;
}

/** Where a ring's first descriptor is in this process. */
function hostAddress(vring: Vring, host: VringHost): bigint | undefined {
	const user = userAddress(vring, host);
	if (user === undefined || !host.memory) return undefined;
	try {
		return native.memTranslateUser(host.memory.handle, user, 16n);
	} catch {
		return undefined;
	}
}

/** The user address of a ring's descriptors. */
function userAddress(vring: Vring, host: VringHost): bigint | undefined {
	const { address } = vring;
	return address && host.iotlb
		? host.iotlb.userAddr(address.desc)
		: address?.desc;
}

/** The NUMA node of a ring's memory, or -1. */
function nodeOf(vring: Vring, host: VringHost): number {
	const user = userAddress(vring, host);
	if (user === undefined || !host.memory) return -1;
	try {
		return native.memNode(host.memory.handle, user) ?? -1;
	} catch {
		return -1;
	}
}

function trace(
	{ index: ring }: Vring,
	{ device, session }: VringHost,
	text: string,
): void {
	device.log.debug(text, {
		session: session.id,
		ring,
		component: "vhost_ring",
	});
}

function report(
	{ index }: Vring,
	{ device, session }: VringHost,
	kind: string,
	text: string,
): void {
	device.log.warning(text, { session: session.id, ring: index, kind });
}

/** The driver corrupted the ring: it idles on its reactor until it is stopped. */
function markBroken(
	vring: Vring,
	host: VringHost,
	errno: number,
	reason: number,
): void {
	if (vring.broken) return;
	vring.broken = true;
	const { kind, text } = describeBreak(reason, errno);
	report(vring, host, kind, text);
	if (!notifiesInband(host) || vring.err >= 0) return;
	host.channel?.vringError(vring.index).catch((error: unknown) => {
		report(vring, host, "ring-error", `VRING_ERR: ${messageOf(error)}`);
	});
}

/**
 * Stops a ring if it runs; resolves when nothing of it is in flight. What it asked the
 * front end for stays asked for: the guest's IOMMU takes it amiss if it is asked again for
 * what the ring, restarted, has used by then.
 */
export async function halt(vring: Vring, host: VringHost): Promise<void> {
	const { run } = vring;
	if (!run) return;
	run.running.requestStop();
	vring.base = await run.stopped;
	trace(vring, host, `stopped at ${vring.base}`);
	vring.run = undefined;
	host.runtime.unregisterRing(run.eventId);
	const rest = run.malformed.rest();
	if (rest) report(vring, host, rest.kind, rest.text);
	run.relay?.close();
	native.ringRelease(run.handle);
	host.device.ringStopped?.(host.session, vring.index);
}

/** Stops a ring until its next kick, as GET_VRING_BASE asks. */
export async function retire(vring: Vring, host: VringHost): Promise<void> {
	await halt(vring, host);
	dropKick(vring);
	vring.miss = undefined;
	vring.broken = false;
}

/**
 * Back to the initial state, but for the call and err descriptors: front ends
 * set these when their interrupts change, not when the device starts.
 */
export async function resetVring(vring: Vring, host: VringHost): Promise<void> {
	await retire(vring, host);
	vring.size = 0;
	vring.left = undefined;
	vring.base = undefined;
	vring.address = undefined;
	vring.enabled = undefined;
}

/**
 * The same by SET_STATUS. QEMU before 8.0 stops a device by that, and asks where its
 * rings were afterwards.
 */
export async function resetByStatus(
	vring: Vring,
	host: VringHost,
): Promise<void> {
	await retire(vring, host);
	const left = baseOf(vring, host);
	await resetVring(vring, host);
	vring.left = left;
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
