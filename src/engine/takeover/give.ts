// SPDX-License-Identifier: MIT
// The instance that is taken over from: it goes on as if nothing had been until the successor
// has everything, and takes the token.
import process from "node:process";
import { native } from "../../ffi/native.ts";
import type { Engine } from "../engine.ts";
import {
	type Controller,
	type EngineInternals,
	internalsOf,
} from "../engine-internals.ts";
import { messageOf, VhostctlError } from "../errors.ts";
import { exportUnit } from "../scsi/unit-image.ts";
import type { Served } from "../served.ts";
import { closeFds } from "../transport.ts";
import type { Session } from "../vhost-user/device.ts";
import type { SessionImage } from "../vhost-user/session-image.ts";
import type { Link } from "./link.ts";
import {
	type ControllerState,
	type Done,
	type Estate,
	FORMAT,
	type GuestState,
	Luggage,
	type MakingCall,
	packImage,
	wallMs,
} from "./parcel.ts";

/** How long the successor may take to make everything, while guests are served. */
const PREPARE_MS = 60_000;
/** How long guests may stand still for it. */
const STILL_MS = 3000;
/** How long a successor that has the token may take to say that it serves. */
const SERVE_MS = 10_000;

/** What the control socket adds. */
export interface Belongings {
	/** The calls that make what there is, in order. */
	readonly calls: readonly MakingCall[];
	/** Those that set what there is besides. */
	readonly settings: readonly MakingCall[];
	/** Of the control socket's lock. */
	readonly lockFd: number;
}

/**
 * Whether the successor serves now; if not, this process does, and why. After
 * `took` the successor had the guests, and may have the path of the control socket.
 */
export type HandOver =
	| { readonly given: true; readonly pauseMs: number | undefined }
	| { readonly given: false; readonly reason: string; readonly took: boolean };

async function estate(
	{ options, socketDir, reactors, bdevs, served }: EngineInternals,
	{ calls, settings, lockFd }: Belongings,
	token: number,
): Promise<{ document: Estate; fds: number[] }> {
	const luggage = new Luggage();
	const parts = [];
	for (const bdev of bdevs.list()) {
		const shared = await bdev.share();
		if (!shared) continue;
		const fds = luggage.putAll(shared.fds);
		parts.push({ name: bdev.name, document: shared.document, fds });
	}
	const started = served.list().filter(({ device }) => device.started);
	const document = {
		format: FORMAT,
		pid: process.pid,
		socketDir,
		stateDir: options.stateDir ?? null,
		cpus: reactors.map(({ cpu }) => cpu),
		mode: options.mode ?? "adaptive",
		postcopy: options.postcopy ?? false,
		calls,
		settings,
		bdevs: parts,
		started: started.map(({ device }) => device.name),
		lock: luggage.put(lockFd),
		token: luggage.put(token),
	};
	return { document, fds: luggage.fds };
}

/** Guests that stand still. */
interface Frozen {
	readonly images: ReadonlyMap<Session, SessionImage>;
	thaw(): Promise<void>;
	/** Ends their connections here, and lets them connect again. */
	drop(): Promise<void>;
}

/** Undefined: the front end is just going, and has gone when this resolves. */
async function freezeSession(
	session: Session,
): Promise<SessionImage | undefined> {
	try {
		return await session.freeze();
	} catch (error) {
		if (!(error instanceof VhostctlError && error.code === "E_CONNECT"))
			throw error;
		await session.ended;
		return undefined;
	}
}

/** Stops all guests, or, if one cannot be stopped in time, none. */
async function freeze(internals: EngineInternals): Promise<Frozen> {
	const { served } = internals;
	await served.suspend();
	const images = new Map<Session, SessionImage>();
	const thaw = async (): Promise<void> => {
		await Promise.all([...images.keys()].map((session) => session.thaw()));
		served.resume();
	};
	const drop = async (): Promise<void> => {
		await Promise.all([...images.keys()].map((session) => session.close()));
		served.resume();
	};
	const sessions = served.list().flatMap(({ device }) => [...device.sessions]);
	let late = false;
	const stops = sessions.map(async (session) => {
		const image = await freezeSession(session);
		if (image && late) await session.thaw();
		else if (image) images.set(session, image);
	});
	let timer: ReturnType<typeof setTimeout> | undefined;
	const patience = new Promise<never>((_, reject) => {
		const error = new VhostctlError("E_BUSY", "a guest's I/O does not end");
		timer = setTimeout(() => reject(error), STILL_MS);
	});
	try {
		await Promise.race([Promise.all(stops), patience]);
		return { images, thaw, drop };
	} catch (error) {
		late = true;
		await thaw();
		throw error;
	} finally {
		clearTimeout(timer);
		for (const stop of stops) stop.catch(() => {});
	}
}

function controllerState(
	{ device, endpoint }: Served<Controller>,
	{ images }: Frozen,
	luggage: Luggage,
): ControllerState {
	const socket = endpoint?.socket;
	const units = device.kind === "scsi" ? device.units() : [];
	return {
		name: device.name,
		socket: socket
			? {
					fd: luggage.put(socket.fd),
					path: socket.path,
					file: socket.file ?? null,
				}
			: null,
		sessions: device.sessions.flatMap((session) => {
			const image = images.get(session);
			return image ? packImage(luggage, image) : [];
		}),
		units: units.map(({ target, lun, unit }) => ({
			target,
			lun,
			image: exportUnit(unit),
		})),
	};
}

/** Sends what the guests are; returns when it is on its way. */
async function sendState(
	{ served, bdevs }: EngineInternals,
	frozen: Frozen,
	link: Link,
	since: number,
): Promise<void> {
	const luggage = new Luggage();
	const started = served.list().filter(({ device }) => device.started);
	const files = bdevs.list().flatMap(({ name, backend }) => {
		const file = backend.handover?.save();
		return file ? [{ name, file }] : [];
	});
	try {
		const state: GuestState = {
			since,
			controllers: started.map((one) => controllerState(one, frozen, luggage)),
			bdevs: files.map(({ name, file }) => ({
				name,
				saved: luggage.put(file.fd),
			})),
		};
		await link.send(state, luggage.fds);
	} finally {
		for (const { file } of files) file.free();
	}
}

/**
 * The successor died with the guests. What it did to them nobody knows, but the front
 * ends that track their requests: they find their connection broken and come again.
 */
async function goOnAfter(
	{ bdevs }: EngineInternals,
	frozen: Frozen | undefined,
): Promise<void> {
	for (const { backend } of bdevs.list()) backend.handover?.load(undefined);
	await frozen?.drop();
}

/**
 * Offers the successor at the other end of a link everything, and waits for what
 * comes of it. Does not reject. If it is given, the guests are not this process's any
 * more: what is left is to close the engine, leaving all sockets. Nothing else may
 * change the engine meanwhile.
 */
export async function handOver(
	internals: EngineInternals,
	link: Link,
	belongings: Belongings,
): Promise<HandOver> {
	const token = native.eventfd();
	native.eventfdSignal(token);
	let frozen: Frozen | undefined;
	let done: Partial<Done> | undefined;
	let reason = "the successor took nothing";
	try {
		const { document, fds } = await estate(internals, belongings, token);
		await link.send(document, fds);
		await hear(link, PREPARE_MS); // it is prepared
		const since = wallMs();
		frozen = await freeze(internals);
		await sendState(internals, frozen, link, since);
		done = await hear(link, SERVE_MS);
	} catch (error) {
		reason = messageOf(error);
	}
	try {
		// Who has the token has the guests, whatever was said or not said.
		if (native.eventfdTake(token)) {
			await frozen?.thaw();
			return { given: false, reason, took: false };
		}
		if (done || !link.isLeft) return { given: true, pauseMs: done?.pauseMs };
		await goOnAfter(internals, frozen);
		return { given: false, reason, took: true };
	} finally {
		native.fdClose(token);
		link.close();
	}
}

/** What the successor says, which is never about descriptors. */
async function hear(link: Link, timeoutMs: number): Promise<Partial<Done>> {
	const { document, fds } = await link.receive(timeoutMs);
	closeFds(fds);
	return typeof document === "object" && document !== null ? document : {};
}

/** Closes an engine whose sockets and guests are another process's, or stay it. */
export async function leaveEngine(engine: Engine): Promise<void> {
	await internalsOf(engine).served.close(true);
	await engine.close();
}
