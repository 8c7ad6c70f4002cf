// SPDX-License-Identifier: MIT
// The instance that takes over: it makes everything beside the one that serves, and then has
// the guests from one moment to the next.
import { resolve } from "node:path";
import process from "node:process";
import { native } from "../../ffi/native.ts";
import type { BackendParts } from "../bdev/backend.ts";
import type { Engine, EngineOptions, Inheritance } from "../engine.ts";
import { type EngineInternals, internalsOf } from "../engine-internals.ts";
import { VhostctlError } from "../errors.ts";
import type { ReactorMode } from "../reactors.ts";
import { importUnit } from "../scsi/unit-image.ts";
import { isServed } from "../unix-socket.ts";
import type { Session } from "../vhost-user/device.ts";
import { resumeSession } from "../vhost-user/session.ts";
import type { Link, Parcel } from "./link.ts";
import {
	type ControllerState,
	type Done,
	type Estate,
	FORMAT,
	type GuestState,
	type MakingCall,
	Unpacked,
	wallMs,
} from "./parcel.ts";

/** How long the predecessor may take to share its RAM disks. */
const ESTATE_MS = 60_000;
/** How long it may take to stop its guests. */
const STATE_MS = 10_000;

/** What an engine is to have other than its predecessor. */
export type Anew = {
	readonly [K in keyof EngineOptions]?: EngineOptions[K] | undefined;
};

/** What a predecessor leaves. */
export interface Legacy {
	/** Its process. */
	readonly pid: number;
	/** The calls that make what it has, in order. */
	readonly calls: readonly MakingCall[];
	/** The calls that set what there is besides: one that fails is no reason to stop. */
	readonly settings: readonly MakingCall[];
	/** For startEngine: what it was started with, but for what is said anew. */
	options(anew: Anew): EngineOptions;
	readonly inheritance: Inheritance;
	/** The lock of the control socket, whose holder is the caller from now on. */
	takeLock(): number;
	/**
	 * Takes the guests over to an engine that was made of all this. Rejects with why
	 * it cannot: then the predecessor has them, and the engine is to be left.
	 * `serving` is called when they go on, before the predecessor ends; it must not
	 * fail. Resolves to how long they stood still, in ms; or undefined, if the
	 * predecessor died on the way: then front ends are to connect again.
	 */
	takeGuests(engine: Engine, serving: () => void): Promise<number | undefined>;
	/** Gives back what was not taken. */
	close(): void;
}

/** What is not a parcel of this version is refused. */
function checkFormat(document: unknown): Estate {
	const estate = document as Estate;
	if (estate.format === FORMAT) return estate;
	throw new VhostctlError(
		"E_UNSUPPORTED",
		`the running instance hands over in format ${estate.format}, this one takes ${FORMAT}`,
	);
}

/**
 * Begins a takeover at the link that a predecessor offered, which has the control
 * socket at controlPath. Rejects with E_CONNECT, E_UNSUPPORTED.
 */
export async function beginTakeover(
	link: Link,
	controlPath: string,
): Promise<Legacy> {
	const parcel = await link.receive(ESTATE_MS);
	const unpacked = new Unpacked(parcel.fds);
	try {
		const estate = checkFormat(parcel.document);
		return makeLegacy(link, controlPath, estate, unpacked);
	} catch (error) {
		unpacked.close();
		throw error;
	}
}

/** Sockets stay where they are. */
function sameDir(has: string, asked: string | undefined): string {
	if (asked === undefined || resolve(asked) === has) return has;
	throw new VhostctlError(
		"E_INVALID",
		`${asked}: the running instance has its sockets in ${has}, where they stay`,
	);
}

function makeLegacy(
	link: Link,
	controlPath: string,
	estate: Estate,
	unpacked: Unpacked,
): Legacy {
	const { socketDir, stateDir, cpus, mode, postcopy } = estate;
	const bdevs = new Map<string, BackendParts>(
		estate.bdevs.map(({ name, document, fds }) => [
			name,
			{ document, fds: fds.map((place) => unpacked.take(place)) },
		]),
	);
	return {
		pid: estate.pid,
		calls: estate.calls,
		settings: estate.settings,
		options: (anew) => ({
			socketDir: sameDir(socketDir, anew.socketDir),
			stateDir: anew.stateDir ?? stateDir ?? undefined,
			cpus: anew.cpus ?? cpus,
			mode: anew.mode ?? (mode as ReactorMode),
			postcopy: anew.postcopy || postcopy,
			log: anew.log,
		}),
		inheritance: { awaited: new Set(estate.started), bdevs },
		takeLock: () => unpacked.take(estate.lock),
		takeGuests: (engine, serving) =>
			takeGuests(
				link,
				internalsOf(engine),
				unpacked.peek(estate.token),
				controlPath,
				serving,
			),
		close: () => unpacked.close(),
	};
}

/** All guests of a controller as sessions that stand still. */
async function resumeGuests(
	{ runtime, served }: EngineInternals,
	{ name, socket, sessions, units }: ControllerState,
	unpacked: Unpacked,
): Promise<Session[]> {
	const { device } = served.get(name);
	const resumed: Session[] = [];
	for (const { document, fds } of sessions)
		resumed.push(
			await unpacked.lend(fds, (own) =>
				resumeSession(runtime, device, { document, fds: own }),
			),
		);
	const luns = device.kind === "scsi" ? device.units() : [];
	for (const { target, lun, image } of units) {
		const found = luns.find((one) => one.target === target && one.lun === lun);
		if (found) importUnit(found.unit, image);
	}
	const { path = "", file } = socket ?? {};
	const listening = socket
		? { fd: unpacked.take(socket.fd), path, file: file ?? undefined }
		: undefined;
	served.inherit(name, listening, resumed);
	return resumed;
}

/** Asks for the guests' state. Undefined: the predecessor died, and left all to this process. */
async function askForState(
	link: Link,
	token: number,
	controlPath: string,
): Promise<Parcel | undefined> {
	try {
		await link.send({ prepared: process.pid });
		return await link.receive(STATE_MS);
	} catch (error) {
		// One that goes on takes the token before it hangs up.
		const died = link.isLeft && !isServed(controlPath);
		if (!died || !native.eventfdTake(token)) throw error;
		return undefined;
	}
}

/** Makes the guests of a state, as sessions that stand still. */
async function makeGuests(
	internals: EngineInternals,
	{ controllers, bdevs }: GuestState,
	unpacked: Unpacked,
): Promise<Session[]> {
	const sessions: Session[] = [];
	for (const controller of controllers)
		sessions.push(...(await resumeGuests(internals, controller, unpacked)));
	for (const { name, saved } of bdevs)
		internals.bdevs.get(name).backend.handover?.load(unpacked.peek(saved));
	return sessions;
}

function serveAlone({ served, bdevs, log }: EngineInternals): void {
	log.warning("the running instance died: front ends are to connect again");
	for (const { backend } of bdevs.list()) backend.handover?.load(undefined);
	served.fend();
}

async function takeGuests(
	link: Link,
	internals: EngineInternals,
	token: number,
	controlPath: string,
	serving: () => void,
): Promise<number | undefined> {
	const { served, log } = internals;
	const parcel = await askForState(link, token, controlPath);
	if (!parcel) {
		serveAlone(internals);
		serving();
		return undefined;
	}
	const state = parcel.document as GuestState;
	const unpacked = new Unpacked(parcel.fds);
	let sessions: Session[];
	try {
		sessions = await makeGuests(internals, state, unpacked);
	} finally {
		unpacked.close();
	}
	if (!native.eventfdTake(token))
		throw new VhostctlError(
			"E_BUSY",
			"the running instance did not wait any longer",
		);
	// From here on the guests are this process's, whatever becomes of the other.
	await Promise.all(sessions.map((session) => session.thaw()));
	const done: Done = { pauseMs: wallMs() - state.since };
	served.resume();
	serving();
	await link
		.send(done)
		.catch((error) =>
			log.debug(`the predecessor: ${String(error)}`, { component: "takeover" }),
		);
	return done.pauseMs;
}
