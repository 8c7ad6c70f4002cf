// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { NativeError, native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { Connection, Delivery, Runtime } from "../runtime.ts";
import { decodeMessage, encodeMessage } from "./codec.ts";
import { describeRequest, FLAG_REPLY } from "./messages.ts";

/** A reply: its payload, and descriptors that are the receiver's to close. */
export interface Answer {
	payload: Buffer;
	fds: number[];
}

/** The front end's side of a connection: requests out, replies in, in order. */
export interface Requester {
	/** Sends a message that gets no answer. Throws E_CONNECT. */
	post(
		request: number,
		flags: number,
		payload: Uint8Array,
		fds: readonly number[],
	): void;
	/**
	 * Sends a message and resolves with its reply. Throws E_CONNECT (closed, no
	 * answer), E_PROTOCOL (another answer).
	 */
	exchange(
		request: number,
		flags: number,
		payload: Uint8Array,
		fds: readonly number[],
	): Promise<Answer>;
	/** Resolves when the connection has ended. */
	readonly closed: Promise<void>;
	close(): void;
}

export function closeFds(fds: readonly number[]): void {
	for (const fd of fds) native.fdClose(fd);
}

/** How long a back end may take, in ms: GET_VRING_BASE waits for the disk. */
const REPLY_TIMEOUT = 30_000;

interface Waiting {
	request: number;
	resolve(answer: Answer): void;
	reject(reason: VhostctlError): void;
}

/** Connects to a vhost-user socket. Throws E_CONNECT, E_NOT_FOUND, E_PERMISSION. */
export function connectRequester(runtime: Runtime, path: string): Requester {
	let fd = -1;
	try {
		fd = native.socketConnect(path);
		return makeRequester(runtime.adopt(fd));
	} catch (error) {
		throw fromErrno(error, `cannot connect to ${path}`);
	} finally {
		if (fd >= 0) native.fdClose(fd);
	}
}

/** The connection is gone: known already (ENOENT), or found out by sending. */
function isHangUp(error: unknown): boolean {
	return (
		error instanceof NativeError &&
		["ENOENT", "EPIPE", "ECONNRESET"].includes(error.code)
	);
}

function makeRequester(connection: Connection): Requester {
	const waiting: Waiting[] = [];
	const hungUp = (cause?: unknown) =>
		new VhostctlError("E_CONNECT", "the device hung up", { cause });
	const fail = (reason: VhostctlError): void => {
		for (const { reject } of waiting.splice(0)) reject(reason);
	};
	const receive = (delivery: Delivery): void => {
		try {
			deliverReply(delivery, waiting);
			connection.next();
		} catch (error) {
			closeFds(delivery.fds);
			fail(fromErrno(error, "answer"));
			connection.close();
		}
	};
	const closed = new Promise<void>((resolve) => {
		connection.onClose(() => {
			fail(hungUp());
			resolve();
		});
	});
	connection.onMessage(receive);
	connection.next();

	const post: Requester["post"] = (request, flags, payload, fds) => {
		try {
			connection.send(encodeMessage(request, flags, payload), fds);
		} catch (error) {
			throw isHangUp(error)
				? hungUp(error)
				: fromErrno(error, describeRequest(request));
		}
	};
	return {
		post,
		exchange(request, flags, payload, fds) {
			return new Promise((resolve, reject) => {
				const timer = setTimeout(() => {
					fail(
						new VhostctlError(
							"E_CONNECT",
							`no answer to ${describeRequest(request)}`,
						),
					);
					connection.close();
				}, REPLY_TIMEOUT);
				const entry: Waiting = {
					request,
					resolve(answer) {
						clearTimeout(timer);
						resolve(answer);
					},
					reject(reason) {
						clearTimeout(timer);
						reject(reason);
					},
				};
				waiting.push(entry);
				try {
					post(request, flags, payload, fds);
				} catch (error) {
					waiting.splice(waiting.indexOf(entry), 1);
					entry.reject(fromErrno(error, describeRequest(request)));
				}
			});
		},
		closed,
		close: () => connection.close(),
	};
}

/** Gives a reply to the oldest request, whose it must be. Throws E_PROTOCOL. */
function deliverReply({ data, fds }: Delivery, waiting: Waiting[]): void {
	const { request, flags, payload } = decodeMessage(data);
	const first = waiting[0];
	if (!first || first.request !== request || (flags & FLAG_REPLY) === 0)
		throw new VhostctlError(
			"E_PROTOCOL",
			`unexpected ${describeRequest(request)} from the back end`,
		);
	waiting.shift();
	first.resolve({ payload: Buffer.from(payload), fds });
}
