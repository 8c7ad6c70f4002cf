// SPDX-License-Identifier: MIT
// Loaded by every command that attaches: imports nothing heavy.
import { Buffer } from "node:buffer";
import { connect as connectSocket, type Socket } from "node:net";
import { codeFromRpc, fromErrno, VhostctlError } from "../errors.ts";
import type { MethodName, Params, Result } from "./schema.ts";

const MAX_RESPONSE = 64 * 1024 * 1024;

/** A connection to a control socket. */
export interface Client {
	/**
	 * Calls a method and waits for its result. Several calls may be under way.
	 * Throws the VhostctlError that the instance answered with, or E_CONNECT if
	 * the connection ends first.
	 */
	call<M extends MethodName>(
		method: M,
		params: NoInfer<Params<M>>,
	): Promise<Result<M>>;
	call(method: string, params?: Record<string, unknown>): Promise<unknown>;
	/** Ends the connection; calls under way fail. */
	close(): void;
}

interface Waiter {
	resolve(result: unknown): void;
	reject(error: Error): void;
}

interface Response {
	id?: unknown;
	result?: unknown;
	error?: { code: number; message: string };
}

function isResponse(value: unknown): value is Response {
	if (typeof value !== "object" || value === null) return false;
	if (!("error" in value)) return "result" in value;
	const { error } = value;
	return (
		typeof error === "object" &&
		error !== null &&
		"code" in error &&
		typeof error.code === "number" &&
		"message" in error &&
		typeof error.message === "string"
	);
}

/** Cuts what arrives into lines: a response is one line of JSON. */
function createLines(onLine: (line: string) => void): (chunk: Buffer) => void {
	let parts: Buffer[] = [];
	let length = 0;
	return (chunk) => {
		let rest = chunk;
		for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
			onLine(Buffer.concat([...parts, rest.subarray(0, at)]).toString());
			parts = [];
			length = 0;
			rest = rest.subarray(at + 1);
		}
		parts.push(rest);
		length += rest.length;
		if (length > MAX_RESPONSE) throw new Error("the response is too long");
	};
}

function settle(waiters: Map<number, Waiter>, line: string): void {
	const response: unknown = JSON.parse(line);
	if (!isResponse(response)) throw new Error("not a JSON-RPC response");
	const { id, error } = response;
	const failure =
		error && new VhostctlError(codeFromRpc(error.code), error.message);
	const waiter = typeof id === "number" ? waiters.get(id) : undefined;
	if (waiter === undefined || typeof id !== "number") {
		throw failure ?? new Error("a response to a request that was not made");
	}
	waiters.delete(id);
	if (failure) waiter.reject(failure);
	else waiter.resolve(response.result);
}

function createClient(socket: Socket, path: string): Client {
	const waiters = new Map<number, Waiter>();
	let nextId = 1;
	let ended: VhostctlError | undefined;

	const end = (reason: VhostctlError) => {
		ended ??= reason;
		for (const waiter of waiters.values()) waiter.reject(ended);
		waiters.clear();
		socket.destroy();
	};
	const takeLine = createLines((line) => settle(waiters, line));
	socket.on("data", (chunk: Buffer) => {
		try {
			takeLine(chunk);
		} catch (error) {
			end(
				error instanceof VhostctlError
					? error
					: new VhostctlError("E_PROTOCOL", `${path}: ${String(error)}`),
			);
		}
	});
	socket.on("error", (error) => end(fromErrno(error, path)));
	socket.on("close", () =>
		end(new VhostctlError("E_CONNECT", `${path}: the instance hung up`)),
	);

	return {
		call(method: string, params?: Record<string, unknown>) {
			return new Promise<never>((resolve, reject) => {
				if (ended) return reject(ended);
				const id = nextId++;
				waiters.set(id, { resolve: resolve as Waiter["resolve"], reject });
				socket.write(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
			});
		},
		close: () => end(new VhostctlError("E_CONNECT", `${path}: closed`)),
	};
}

function cannotConnect(path: string, error: unknown): VhostctlError {
	const { code, message } = fromErrno(error, "");
	if (code === "E_PERMISSION") {
		return new VhostctlError(code, `${path}: you may not use this instance`);
	}
	if (code !== "E_CONNECT" && code !== "E_NOT_FOUND") {
		return new VhostctlError("E_CONNECT", `${path}${message}`);
	}
	return new VhostctlError(
		"E_CONNECT",
		`no instance answers at ${path}; start one with: vhostctl serve -r ${path}`,
		{ cause: error },
	);
}

/** Connects to the control socket at `path`. Throws E_CONNECT if nobody listens there. */
export function connect(path: string): Promise<Client> {
	return new Promise((resolve, reject) => {
		const socket = connectSocket(path);
		const failed = (error: Error) => reject(cannotConnect(path, error));
		socket.once("error", failed);
		socket.once("connect", () => {
			socket.off("error", failed);
			resolve(createClient(socket, path));
		});
	});
}
