// SPDX-License-Identifier: MIT
import { messageOf } from "../errors.ts";
import type { Connection, Runtime } from "../runtime.ts";
import { answer } from "./answer.ts";
import type { MemoryInfo, Session, VhostDevice } from "./device.ts";
import { closeFd } from "./fds.ts";
import { readGuest, writeGuest } from "./guest-access.ts";
import { NO_LOG, releaseLog } from "./log.ts";
import { type OwnedRegion, releaseMemory } from "./memory.ts";
import { PROTOCOL_FEATURES } from "./messages.ts";
import { onMiss } from "./misses.ts";
import type { SessionImage } from "./session-image.ts";
import {
	everyVring,
	logOf,
	makeState,
	type SessionState,
	unpause,
} from "./state.ts";
import {
	dropFrozen,
	freezeState,
	restoreState,
	thawState,
	unmap,
} from "./takeover.ts";
import { destroyVring, halt, vringInfo } from "./vring.ts";

let lastId = 0;

/** A session, and what its parts share. */
interface Made {
	readonly session: Session;
	readonly state: SessionState;
}

/**
 * Serves a front end's connection with a device, from its first message to its
 * close. Messages and the device's wishes are carried out one at a time.
 */
export function startSession(
	runtime: Runtime,
	connection: Connection,
	device: VhostDevice,
): Session {
	const { session, state } = makeSession(runtime, device);
	state.listen(connection);
	device.attach(session);
	connection.next();
	return session;
}

/**
 * Makes the session of another process's image, with descriptors of this process,
 * which it takes over on success. It is frozen: nothing runs and nothing is read
 * until thaw; closing it instead leaves the front end to whoever has it. Rejects
 * with why it cannot be made.
 */
export async function resumeSession(
	runtime: Runtime,
	device: VhostDevice,
	image: SessionImage,
): Promise<Session> {
	const { session, state } = makeSession(runtime, device);
	restoreState(state, image);
	try {
		device.attach(session, image.document.device);
		return session;
	} catch (error) {
		unmap(state);
		throw error;
	}
}

/** Runs pieces of work one at a time, in the order they are given. */
function makeQueue(): <T>(work: () => Promise<T>) => Promise<T> {
	let tail: Promise<unknown> = Promise.resolve();
	return (work) => {
		const result = tail.then(work);
		tail = result.catch(() => {});
		return result;
	};
}

function makeSession(runtime: Runtime, device: VhostDevice): Made {
	const serially = makeQueue();
	const id = ++lastId;
	let ended: () => void = () => {};
	const end = new Promise<void>((resolve) => {
		ended = resolve;
	});
	let ending = false;
	const finish = (): void => {
		if (ending) return;
		ending = true;
		device.abandoned?.(session);
		void serially(() => tearDown(state)).finally(ended);
	};
	const hangUp = (): void => {
		if (state.connection) state.connection.close();
		else finish();
	};
	/** Ends the connection when the device's wish cannot be carried out. */
	const orHangUp = async (
		what: "resume" | "thaw",
		work: Promise<void>,
	): Promise<void> => {
		try {
			await work;
		} catch (error) {
			logOf(state).error(`${what}: ${messageOf(error)}`, { kind: what });
			hangUp();
		}
	};

	const session: Session = {
		id,
		get features() {
			return state.features;
		},
		get protocolFeatures() {
			return state.protocolFeatures;
		},
		get status() {
			return Number(state.status);
		},
		get memory() {
			return state.memory?.regions.map(regionInfo) ?? [];
		},
		get rings() {
			return [...state.vrings.values()]
				.sort((a, b) => a.index - b.index)
				.map((vring) => vringInfo(vring, state));
		},
		readMemory: (gpa, length) => readGuest(state, gpa, length),
		writeMemory: (gpa, data) => writeGuest(state, gpa, data),
		pause: () =>
			serially(async () => {
				state.paused++;
				await everyVring(state, halt);
			}),
		resume: () =>
			orHangUp(
				"resume",
				serially(() => unpause(state)),
			),
		configChanged: () => announceConfig(state),
		ended: end,
		close() {
			hangUp();
			return end;
		},
		freeze: () => serially(() => freezeState(state)),
		thaw: () =>
			orHangUp(
				"thaw",
				serially(() => thawState(state)),
			),
	};
	const state = makeState({
		runtime,
		device,
		session,
		serially,
		hangUp,
		onMiss: (vring, miss) => onMiss(state, vring, miss),
		listen(connection) {
			state.connection = connection;
			connection.onMessage((delivery) => {
				state.inbox.push(delivery);
				void serially(() => takeMessage(state));
			});
			connection.onClose(finish);
		},
		next: () => takeMessage(state),
	});
	return { session, state };
}

function regionInfo({ gpa, size, userAddr }: OwnedRegion): MemoryInfo {
	return { gpa, size, userAddr };
}

/** Answers the next message; one that came while the session was frozen stays for the thaw. */
async function takeMessage(state: SessionState): Promise<void> {
	if (!state.connection) return;
	const delivery = state.inbox.shift();
	if (delivery) await answer(state, state.connection, delivery);
}

async function announceConfig(state: SessionState): Promise<void> {
	const { channel, protocolFeatures } = state;
	const { CONFIG, REPLY_ACK } = PROTOCOL_FEATURES;
	if (!channel || (protocolFeatures & CONFIG) === 0n) return;
	try {
		await channel.configChanged((protocolFeatures & REPLY_ACK) !== 0n);
	} catch (error) {
		logOf(state).warning(`CONFIG_CHANGE_MSG: ${messageOf(error)}`, {
			kind: "config-change",
		});
	}
}

/** The connection is gone: lets what is in flight end, then frees everything. */
async function tearDown(state: SessionState): Promise<void> {
	try {
		await everyVring(state, destroyVring);
	} catch (error) {
		logOf(state).error(`close: ${messageOf(error)}`, { kind: "close" });
	}
	state.vrings.clear();
	state.iotlb?.release();
	state.iotlb = undefined;
	releaseMemory(state.memory);
	state.memory = undefined;
	releaseLog(state.log);
	state.log = NO_LOG;
	state.inflight?.release();
	state.inflight = undefined;
	state.transfer?.transfer.cancel();
	closeFd(state.postcopy.fd);
	state.channel?.close();
	state.channel = undefined;
	dropFrozen(state);
	for (const { fds } of state.inbox.splice(0)) fds.forEach(closeFd);
	state.device.detach(state.session);
}
