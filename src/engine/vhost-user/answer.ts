// SPDX-License-Identifier: MIT
// One message, from its bytes to its answer.
import type { Buffer } from "node:buffer";
import { messageOf, VhostctlError } from "../errors.ts";
import type { Connection, Delivery } from "../runtime.ts";
import {
	DECODERS,
	decodeMessage,
	encodeReply,
	encodeU64,
	type Message,
} from "./codec.ts";
import type { DeviceAnswer } from "./device.ts";
import { closeFd, type ReceivedFds, receiveFds } from "./fds.ts";
import type { Handler } from "./handler.ts";
import { HANDLERS } from "./handlers.ts";
import { confirm, isAnotherRegion } from "./handlers-memory.ts";
import {
	canAck,
	describeRequest,
	FLAG_NEED_REPLY,
	FLAG_REPLY,
	isKnown,
	MESSAGES,
	type MessageRow,
	messageName,
	PROTOCOL_FEATURES,
	refusalOf,
} from "./messages.ts";
import { logOf, type SessionState } from "./state.ts";

interface Reply {
	readonly payload: Buffer;
	readonly fds: readonly number[];
	/** The descriptors are to be closed when they have been sent. */
	readonly closes?: true;
}

interface Outcome {
	message: Message | undefined;
	reply: Reply | undefined;
	ok: boolean;
	/** The device carried it out. */
	own: boolean;
}

/** Carries one message out and answers it. Never throws. */
export async function answer(
	state: SessionState,
	connection: Connection,
	{ data, fds }: Delivery,
): Promise<void> {
	const received = receiveFds(fds);
	const outcome: Outcome = {
		message: undefined,
		reply: undefined,
		ok: false,
		own: false,
	};
	try {
		outcome.message = decodeRequest(data);
		trace(state, outcome.message, fds.length);
		await carryOut(state, outcome, outcome.message, received);
		outcome.ok = true;
	} catch (error) {
		reportRefusal(state, outcome.message?.request, error);
	} finally {
		received.close();
	}
	try {
		if (outcome.message)
			state.device.messageHandled?.(state.session, outcome.message, outcome.ok);
		respond(state, connection, outcome);
	} catch {
		connection.close(); // the peer is gone or does not read
	} finally {
		if (outcome.reply?.closes) outcome.reply.fds.forEach(closeFd);
	}
}

function trace(
	{ device, session }: SessionState,
	{ request, payload }: Message,
	fds: number,
): void {
	const content = `${payload.length} bytes, ${fds} descriptors`;
	device.log.debug(`${describeRequest(request)}: ${content}`, {
		session: session.id,
		component: "vhost",
	});
}

function reportRefusal(
	state: SessionState,
	request: number | undefined,
	error: unknown,
): void {
	const what = request === undefined ? "message" : describeRequest(request);
	const name = isKnown(request) ? what : "unknown";
	logOf(state).warning(`${what}: ${messageOf(error)}`, {
		kind: `message-${name}`,
		code: error instanceof VhostctlError ? error.code : "E_INTERNAL",
	});
}

async function carryOut(
	state: SessionState,
	outcome: Outcome,
	message: Message,
	fds: ReceivedFds,
): Promise<void> {
	const { device, session } = state;
	const own = await device.handleMessage?.(session, { ...message, fds });
	outcome.own = own !== undefined;
	outcome.reply = own ? deviceReply(own) : await perform(state, message, fds);
}

function deviceReply({ reply, fds = [] }: DeviceAnswer): Reply | undefined {
	if (reply) return { payload: reply, fds, closes: true };
	fds.forEach(closeFd);
	return undefined;
}

/** Ends a request: with its reply, its status, an ack if one was asked for, or by the close. */
function respond(
	state: SessionState,
	connection: Connection,
	outcome: Outcome,
): void {
	const { message, reply, ok } = outcome;
	const status = message && statusOf(state, message, outcome);
	if (message && reply)
		connection.send(encodeReply(message.request, reply.payload), reply.fds);
	else if (message && status !== undefined)
		connection.send(encodeReply(message.request, encodeU64(status)));
	else if (!ok) connection.close();
	connection.next();
}

/** What a message without a reply is answered with, if with anything. */
function statusOf(
	state: SessionState,
	message: Message,
	{ ok, own }: Outcome,
): bigint | undefined {
	const name = messageName(message.request);
	const row: MessageRow | undefined = name && MESSAGES[name];
	if (row?.answer === "status") return ok ? 0n : (row.failure ?? 1n);
	const acks = wantsAck(state, message) && (own || canAck(message.request));
	return acks ? (ok ? 0n : 1n) : undefined;
}

/** vhost-user, "VHOST_USER_PROTOCOL_F_REPLY_ACK". */
function wantsAck(state: SessionState, { flags }: Message): boolean {
	return (
		(flags & FLAG_NEED_REPLY) !== 0 &&
		(state.protocolFeatures & PROTOCOL_FEATURES.REPLY_ACK) !== 0n
	);
}

function decodeRequest(data: Buffer): Message {
	const message = decodeMessage(data);
	if (message.flags & FLAG_REPLY)
		throw new VhostctlError("E_PROTOCOL", "a reply where a request belongs");
	return message;
}

/** Checks a message against its row, then carries it out. */
async function perform(
	state: SessionState,
	{ request, payload }: Message,
	fds: ReceivedFds,
): Promise<Reply | undefined> {
	const confirms =
		state.postcopy.confirming !== undefined &&
		!isAnotherRegion(state, request, payload);
	if (confirms) {
		checkFds(fds, 0);
		await confirm(state, request, payload);
		return undefined;
	}
	const name = messageName(request);
	if (!name) throw new VhostctlError("E_UNSUPPORTED", refusalOf(request));
	const row: MessageRow = MESSAGES[name];
	if (row.fds === 0) checkFds(fds, 0);
	checkFeature(state, row);
	const body = DECODERS[row.payload](payload);
	checkFds(fds, expectedFds(row, body, fds));
	const handler = HANDLERS[name] as Handler<typeof body>;
	const reply = (await handler(state, body, fds)) ?? undefined;
	return reply && "fds" in reply ? reply : reply && { payload: reply, fds: [] };
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
	{ count }: ReceivedFds,
): number {
	if (typeof row.fds === "number") return row.fds;
	if (row.fds === "stray") return Math.min(count, 1);
	if (Array.isArray(body)) return body.length;
	const named = typeof body === "object" && "hasFd" in body;
	return named && body.hasFd ? 1 : 0;
}
