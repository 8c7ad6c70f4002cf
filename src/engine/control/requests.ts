// SPDX-License-Identifier: MIT
import { ERRORS, fromErrno, messageOf, VhostctlError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Context } from "./methods/context.ts";
import { callMethod } from "./methods.ts";
import { isMethod } from "./schema.ts";

/** Requests in one batch; more are refused. */
export const MAX_BATCH = 128;

type Id = string | number | null;

interface Request {
	/** Undefined: a notification, which is not answered. */
	id: Id | undefined;
	method: string;
	params: unknown;
}

function invalid(why: string): VhostctlError {
	return new VhostctlError("E_REQUEST", `invalid request: ${why}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is Id {
	return (
		typeof value === "string" || typeof value === "number" || value === null
	);
}

/** Checks the envelope (JSON-RPC 2.0, 4); "jsonrpc" may be absent, as SPDK has it. */
function parseRequest(value: unknown): Request {
	if (!isObject(value)) throw invalid("must be an object");
	const { jsonrpc, id, method, params, ...more } = value;
	const [unknown] = Object.keys(more);
	if (unknown !== undefined) throw invalid(`there is no member '${unknown}'`);
	if (jsonrpc !== undefined && jsonrpc !== "2.0") {
		throw invalid("'jsonrpc' must be \"2.0\"");
	}
	if (id !== undefined && !isId(id)) {
		throw invalid("'id' must be a string, a number or null");
	}
	if (typeof method !== "string") throw invalid("'method' must be a string");
	return { id, method, params };
}

function describeError(error: unknown, log: Logger) {
	const known = fromErrno(error, "internal error");
	if (known.code === "E_INTERNAL") {
		log.error(error instanceof Error ? String(error.stack) : String(error), {
			kind: "rpc-internal",
			code: known.code,
		});
	}
	const { rpc, text } = ERRORS[known.code];
	return {
		code: rpc,
		message: known.message,
		data: { code: known.code, text },
	};
}

/** A response as text; `error` is anything thrown. */
export function errorResponse(id: Id, error: unknown, log: Logger): string {
	return JSON.stringify({
		jsonrpc: "2.0",
		id,
		error: describeError(error, log),
	});
}

/** Says what a client did wrong. A name that it made up is not a kind of its own. */
function report(log: Logger, method: string, error: unknown): void {
	const { code, message } = fromErrno(error, "internal error");
	if (code === "E_INTERNAL") return; // it is ours, and told as that
	const kind = isMethod(method) ? method : "unknown";
	log.info(`${method}: ${message}`, { kind: `rpc-${kind}`, code });
}

/** Carries a method out, and says so. */
async function call(
	context: Context,
	{ method, params }: Request,
): Promise<unknown> {
	const { log } = context.engine;
	const start = performance.now();
	try {
		if (!isMethod(method))
			throw new VhostctlError("E_METHOD", `there is no method '${method}'`);
		return await callMethod(context, method, params ?? undefined);
	} catch (error) {
		report(log, method, error);
		throw error;
	} finally {
		const ms = (performance.now() - start).toFixed(1);
		log.debug(`${method}: ${ms} ms`, { component: "rpc" });
	}
}

async function answerOne(
	context: Context,
	value: unknown,
): Promise<string | undefined> {
	const { log } = context.engine;
	let request: Request;
	try {
		request = parseRequest(value);
	} catch (error) {
		const id = isObject(value) && isId(value.id) ? value.id : null;
		log.warning(`control socket: ${messageOf(error)}`, { kind: "rpc-request" });
		return errorResponse(id, error, log);
	}
	const { id } = request;
	try {
		const result = await call(context, request);
		return id === undefined
			? undefined
			: JSON.stringify({ jsonrpc: "2.0", id, result });
	} catch (error) {
		return id === undefined ? undefined : errorResponse(id, error, log);
	}
}

/**
 * Answers a request, or a batch of them, with the text of the response;
 * undefined if none is due. Never rejects.
 */
export async function answer(
	context: Context,
	value: unknown,
): Promise<string | undefined> {
	if (!Array.isArray(value)) return answerOne(context, value);
	if (value.length === 0 || value.length > MAX_BATCH) {
		const why = `a batch has from 1 to ${MAX_BATCH} requests`;
		return errorResponse(null, invalid(why), context.engine.log);
	}
	const responses = await Promise.all(
		value.map((one) => answerOne(context, one)),
	);
	const due = responses.filter((response) => response !== undefined);
	return due.length === 0 ? undefined : `[${due.join(",")}]`;
}
