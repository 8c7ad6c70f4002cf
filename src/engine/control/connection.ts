// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { VhostctlError } from "../errors.ts";
import { createFramer, REQUEST_LIMITS } from "./framing.ts";
import type { Context } from "./methods/context.ts";
import { answer, errorResponse } from "./requests.ts";

/** Requests of one connection that are carried out at once. */
const MAX_IN_FLIGHT = 32;
/** Requests read ahead of that; then reading waits. */
const MAX_QUEUED = 64;
/** Bytes of responses that the client has not read; then everything waits. */
const MAX_UNREAD = 1024 * 1024;

/** How long a client that broke the protocol may take to read why. */
const LINGER_MS = 1000;

/**
 * Serves one client until it hangs up, breaks the protocol, or the socket is
 * destroyed. Responses go out in the order in which requests end. A client that
 * stops writing (shuts its side down) still gets what is due to it.
 */
export function serveConnection(socket: Socket, context: Context): void {
	const queue: unknown[] = [];
	let inFlight = 0;
	/** Nothing more will be read. */
	let ended = false;
	let failure: string | undefined;
	let linger: ReturnType<typeof setTimeout> | undefined;

	const unread = () => socket.writableLength > MAX_UNREAD;
	const send = (response: string | undefined) => {
		if (response !== undefined && socket.writable) {
			socket.write(`${response}\n`);
		}
	};
	const run = async (request: unknown) => {
		inFlight++;
		const response = await answer(context, request);
		inFlight--;
		send(response);
		pump();
	};
	const pump = () => {
		while (queue.length > 0 && inFlight < MAX_IN_FLIGHT && !unread()) {
			void run(queue.shift());
		}
		if (queue.length > MAX_QUEUED || unread()) socket.pause();
		else if (!ended) socket.resume();
		if (ended && queue.length === 0 && inFlight === 0) {
			send(failure);
			failure = undefined;
			socket.end();
		}
	};
	const framer = createFramer(REQUEST_LIMITS, (value) => queue.push(value));
	const fail = (why: string) => {
		ended = true;
		const error = new VhostctlError("E_PARSE", `parse error: ${why}`);
		context.engine.log.warning(`control socket: ${error.message}`, {
			kind: "rpc-parse",
			code: error.code,
		});
		failure = errorResponse(null, error, context.engine.log);
		linger = setTimeout(() => socket.destroy(), LINGER_MS);
	};

	socket.on("data", (chunk: Buffer) => {
		if (ended) return; // after an error: read and dropped, so that the client sees the answer
		try {
			framer.write(chunk);
		} catch (error) {
			fail(error instanceof Error ? error.message : String(error));
		}
		pump();
	});
	socket.on("end", () => {
		if (!ended && !framer.idle) fail("the request ends in the middle");
		ended = true;
		pump();
	});
	socket.on("drain", pump);
	socket.on("error", (error) => {
		context.engine.log.debug(`control connection: ${error.message}`, {
			component: "rpc",
		});
		socket.destroy();
	});
	socket.on("close", () => {
		queue.length = 0;
		ended = true;
		clearTimeout(linger);
	});
}
