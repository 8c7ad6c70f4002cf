// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { messageOf, VhostctlError } from "../errors.ts";
import type { Connection, Delivery, Runtime } from "../runtime.ts";
import {
	DECODERS,
	decodeMessage,
	encodeReply,
	encodeU64,
	type Message,
} from "./codec.ts";
import type { Session, VhostDevice } from "./device.ts";
import { type ReceivedFds, receiveFds } from "./fds.ts";
import {
	everyVring,
	HANDLERS,
	type Handler,
	type SessionState,
} from "./handlers.ts";
import {
	canAck,
	describeRequest,
	FLAG_NEED_REPLY,
	FLAG_REPLY,
	MESSAGES,
	type MessageRow,
	messageName,
	PROTOCOL_FEATURES,
} from "./messages.ts";
import { destroyVring, halt, settle, vringInfo } from "./vring.ts";

/** Refusals beyond so many are not logged: a front end is not to fill the log. */
const MAX_LOGGED = 20;

/**
 * Serves a front end's connection with a device, from its first message to its
 * close. Messages and the device's wishes are carried out one at a time.
 */
export function startSession(
	runtime: Runtime,
	connection: Connection,
	device: VhostDevice,
): Session {
	const serially = makeQueue();
	let ended: () => void = () => {};
	const end = new Promise<void>((resolve) => {
		ended = resolve;
	});

	const session: Session = {
		id: connection.id,
		get features() {
			return state.features;
		},
		get protocolFeatures() {
			return state.protocolFeatures;
		},
		get rings() {
			return [...state.vrings.values()]
				.sort((a, b) => a.index - b.index)
				.map(vringInfo);
		},
		pause: () =>
			serially(async () => {
				state.paused++;
				await everyVring(state, halt);
			}),
		resume: () =>
			serially(async () => {
				state.paused--;
				await everyVring(state, settle);
			}).catch((error: unknown) => {
				log(state, "error", `resume: ${messageOf(error)}`);
				connection.close();
			}),
		configChanged: () => announceConfig(state),
		close() {
			connection.close();
			return end;
		},
	};
	const state = initialState(runtime, device, session);
	const reasons = { logged: 0 };

	connection.onMessage((delivery) => {
		void serially(() => answer(state, connection, delivery, reasons));
	});
	connection.onClose(() => {
		device.abandoned?.(session);
		void serially(() => tearDown(state)).finally(ended);
	});
	device.attach(session);
	connection.next();
	return session;
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

function initialState(
	runtime: Runtime,
	device: VhostDevice,
	session: Session,
): SessionState {
	return {
		runtime,
		device,
		session,
		features: 0n,
		protocolFeatures: 0n,
		negotiated: false,
		status: 0n,
		mem: undefined,
		paused: 0,
		vrings: new Map(),
		channel: undefined,
	};
}

function log(state: SessionState, level: "warn" | "error", text: string): void {
	state.device.log(level, `connection ${state.session.id}: ${text}`);
}

/** Carries one message out and answers it. Never throws. */
async function answer(
	state: SessionState,
	connection: Connection,
	{ data, fds }: Delivery,
	reasons: { logged: number },
): Promise<void> {
	const received = receiveFds(fds);
	const outcome: Outcome = { message: undefined, reply: undefined, ok: false };
	try {
		outcome.message = decodeRequest(data);
		outcome.reply = await perform(state, outcome.message, received);
		outcome.ok = true;
	} catch (error) {
		const request = outcome.message?.request;
		const what = request === undefined ? "message" : describeRequest(request);
		if (reasons.logged++ < MAX_LOGGED)
			log(state, "warn", `${what}: ${messageOf(error)}`);
	} finally {
		received.close();
	}
	try {
		respond(state, connection, outcome);
	} catch {
		connection.close(); // the peer is gone or does not read
	}
}

interface Outcome {
	message: Message | undefined;
	reply: Buffer | undefined;
	ok: boolean;
}

/** Ends a request: with its reply, with an ack if one was asked for, or by the close. */
function respond(
	state: SessionState,
	connection: Connection,
	{ message, reply, ok }: Outcome,
): void {
	if (message && reply) connection.send(encodeReply(message.request, reply));
	else if (message && wantsAck(state, message))
		connection.send(encodeReply(message.request, encodeU64(ok ? 0n : 1n)));
	else if (!ok) connection.close();
	connection.next();
}

function decodeRequest(data: Buffer): Message {
	const message = decodeMessage(data);
	if (message.flags & FLAG_REPLY)
		throw new VhostctlError("E_PROTOCOL", "a reply where a request belongs");
	return message;
}

/** vhost-user, "VHOST_USER_PROTOCOL_F_REPLY_ACK". */
function wantsAck(state: SessionState, { request, flags }: Message): boolean {
	return (
		(flags & FLAG_NEED_REPLY) !== 0 &&
		(state.protocolFeatures & PROTOCOL_FEATURES.REPLY_ACK) !== 0n &&
		canAck(request)
	);
}

/** Checks a message against its row, then carries it out. */
async function perform(
	state: SessionState,
	{ request, payload }: Message,
	fds: ReceivedFds,
): Promise<Buffer | undefined> {
	const name = messageName(request);
	if (!name) throw new VhostctlError("E_UNSUPPORTED", "not supported");
	const row: MessageRow = MESSAGES[name];
	if (row.fds === 0) checkFds(fds, 0);
	checkFeature(state, row);
	const body = DECODERS[row.payload](payload);
	checkFds(fds, expectedFds(row, body));
	const handler = HANDLERS[name] as Handler<typeof body>;
	return (await handler(state, body, fds)) ?? undefined;
}

function checkFeature(state: SessionState, row: MessageRow): void {
	if (!row.needs) return;
	const have =
		row.needsOnly === "offered"
			? state.device.protocolFeatures
			: state.protocolFeatures;
	if ((have & PROTOCOL_FEATURES[row.needs]) === 0n)
		throw new VhostctlError(
			"E_PROTOCOL",
			`protocol feature ${row.needs} was not negotiated`,
		);
}

function checkFds({ count }: ReceivedFds, expected: number): void {
	if (count !== expected)
		throw new VhostctlError(
			"E_PROTOCOL",
			`${count} descriptors where ${expected} belong`,
		);
}

function expectedFds(
	row: MessageRow,
	body: ReturnType<(typeof DECODERS)[keyof typeof DECODERS]>,
): number {
	if (typeof row.fds === "number") return row.fds;
	if (Array.isArray(body)) return body.length;
	const named = typeof body === "object" && "hasFd" in body;
	return named && body.hasFd ? 1 : 0;
}

async function announceConfig(state: SessionState): Promise<void> {
	const { channel, protocolFeatures } = state;
	const { CONFIG, REPLY_ACK } = PROTOCOL_FEATURES;
	if (!channel || (protocolFeatures & CONFIG) === 0n) return;
	try {
		await channel.configChanged((protocolFeatures & REPLY_ACK) !== 0n);
	} catch (error) {
		log(state, "warn", `CONFIG_CHANGE_MSG: ${messageOf(error)}`);
	}
}

/** The connection is gone: lets what is in flight end, then frees everything. */
async function tearDown(state: SessionState): Promise<void> {
	try {
		await everyVring(state, destroyVring);
	} catch (error) {
		log(state, "error", `close: ${messageOf(error)}`);
	}
	state.vrings.clear();
	if (state.mem !== undefined) native.memRelease(state.mem);
	state.mem = undefined;
	state.channel?.close();
	state.channel = undefined;
	state.device.detach(state.session);
}
