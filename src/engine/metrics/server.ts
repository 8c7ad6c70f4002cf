// SPDX-License-Identifier: MIT
// Answering scrapers over HTTP.
import { randomBytes } from "node:crypto";
import { renameSync } from "node:fs";
import {
	createServer,
	type IncomingMessage,
	type Server,
	type ServerResponse,
} from "node:http";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine } from "../engine.ts";
import { fromErrno, messageOf } from "../errors.ts";
import { fileId, removeFile } from "../transport.ts";
import { checkSocketPath, clearStaleSocket } from "../unix-socket.ts";
import { formatHost, type MetricsAddress } from "./address.ts";
import { metricsText } from "./collect.ts";
import { CONTENT_TYPE } from "./exposition.ts";

/** Scrapers at once; more are hung up on. */
const MAX_CONNECTIONS = 16;
/** How long a request may take to arrive, and a connection may be quiet. */
const PATIENCE_MS = 5000;
const MAX_HEADER_BYTES = 8192;
/** Answers within this time are one and the same, so that no scraper takes all of our time. */
const FRESH_MS = 100;
/** How long a port that a predecessor has is waited for, and how often it is tried. */
const HANDED_OVER_MS = 5000;
const RETRY_MS = 50;

export interface MetricsOptions {
	readonly address: MetricsAddress;
	/** A predecessor may have the address until it has left: replace its socket, wait for its port. */
	readonly takeover?: boolean;
}

export interface MetricsServer {
	/** Where it answers; a URL, or the path of a socket. */
	readonly url: string;
	/** Hangs up, and removes the socket unless a successor has replaced it. Idempotent. */
	close(): Promise<void>;
}

interface Answer {
	readonly status: number;
	readonly body: string;
	readonly headers?: Readonly<Record<string, string>>;
}

const TEXT = { "content-type": "text/plain; charset=utf-8" };
const INDEX =
	'<!doctype html><title>vhostctl</title><a href="/metrics">Metrics</a>\n';

function answer(request: IncomingMessage, metrics: () => string): Answer {
	const { method, url = "" } = request;
	const [path] = url.split("?", 1);
	if (path !== "/" && path !== "/metrics")
		return { status: 404, body: "There is /metrics.\n" };
	if (method !== "GET" && method !== "HEAD")
		return { status: 405, body: "GET it.\n", headers: { allow: "GET, HEAD" } };
	return path === "/"
		? { status: 200, body: INDEX, headers: { "content-type": "text/html" } }
		: {
				status: 200,
				body: metrics(),
				headers: { "content-type": CONTENT_TYPE },
			};
}

function respond(
	request: IncomingMessage,
	response: ServerResponse,
	{ status, body, headers }: Answer,
): void {
	// What a request brings along is not read: with that under way the connection ends.
	const bare = request.method === "GET" || request.method === "HEAD";
	response.writeHead(status, {
		...TEXT,
		"content-length": String(new TextEncoder().encode(body).length),
		...(bare ? {} : { connection: "close" }),
		...headers,
	});
	response.end(request.method === "HEAD" ? undefined : body);
}

/** The text, made anew when the last one is older than FRESH_MS. */
function freshText(engine: Engine): () => string {
	let text = "";
	let made = Number.NEGATIVE_INFINITY;
	return () => {
		if (performance.now() - made > FRESH_MS) {
			text = metricsText(engine);
			made = performance.now();
		}
		return text;
	};
}

function makeServer(engine: Engine): Server {
	const metrics = freshText(engine);
	const options = {
		maxHeaderSize: MAX_HEADER_BYTES,
		headersTimeout: PATIENCE_MS,
		requestTimeout: PATIENCE_MS,
		keepAliveTimeout: PATIENCE_MS,
		connectionsCheckingInterval: 1000,
	};
	const server = createServer(options, (request, response) => {
		try {
			respond(request, response, answer(request, metrics));
		} catch (error) {
			engine.log.error(`metrics: ${messageOf(error)}`);
			response.destroy();
		}
	});
	server.maxConnections = MAX_CONNECTIONS;
	// Who does not read the answer, or sends nothing, is not waited for.
	server.setTimeout(PATIENCE_MS, (socket) => socket.destroy());
	return server;
}

function listen(
	server: Server,
	at: { host: string; port: number } | { path: string },
): Promise<void> {
	return new Promise((done, fail) => {
		server.once("error", fail);
		server.listen(at, () => {
			server.off("error", fail);
			done();
		});
	});
}

function codeOf(error: unknown): unknown {
	return error instanceof Error && "code" in error ? error.code : undefined;
}

/** Listens at a port, which a predecessor may have for a while yet. */
async function listenAtPort(
	server: Server,
	at: { host: string; port: number },
	takeover: boolean,
): Promise<string> {
	const deadline = performance.now() + (takeover ? HANDED_OVER_MS : 0);
	for (;;) {
		try {
			await listen(server, at);
			break;
		} catch (error) {
			const retry =
				codeOf(error) === "EADDRINUSE" && performance.now() < deadline;
			if (!retry)
				throw fromErrno(
					error,
					`cannot serve metrics at ${formatHost(at.host, at.port)}`,
				);
			await sleep(RETRY_MS);
		}
	}
	const bound = server.address();
	const port = typeof bound === "object" && bound ? bound.port : at.port;
	return `http://${formatHost(at.host, port)}/metrics`;
}

/**
 * Listens under another name and renames that: so there is always a socket that answers. Who may
 * connect is as the umask has it.
 */
async function listenAtPath(
	server: Server,
	path: string,
	takeover: boolean,
): Promise<string | undefined> {
	const hidden = `${path}.${randomBytes(2).toString("hex")}`;
	checkSocketPath(hidden);
	if (!takeover) clearStaleSocket(path);
	try {
		await listen(server, { path: hidden });
		const file = fileId(hidden);
		renameSync(hidden, path);
		return file;
	} catch (error) {
		throw fromErrno(error, `cannot serve metrics at ${path}`);
	}
}

function closeServer(server: Server): Promise<void> {
	return new Promise((done) => {
		server.close(() => done());
		server.closeAllConnections();
	});
}

/**
 * Answers GET /metrics with what an engine did, in Prometheus' text format. To whoever can connect:
 * it tells names and figures, and changes nothing. Throws E_INVALID, E_BUSY (somebody has the address),
 * E_EXISTS, E_PERMISSION and the like.
 */
export async function serveMetrics(
	engine: Engine,
	{ address, takeover = false }: MetricsOptions,
): Promise<MetricsServer> {
	const server = makeServer(engine);
	const path = "path" in address ? resolve(address.path) : undefined;
	let file: string | undefined;
	let url: string;
	try {
		if ("path" in address) {
			url = resolve(address.path);
			file = await listenAtPath(server, url, takeover);
		} else url = await listenAtPort(server, address, takeover);
	} catch (error) {
		if (server.listening) await closeServer(server);
		throw error;
	}
	// Such as too many descriptors open: scrapers come again.
	server.on("error", (error) =>
		engine.log.warning(`metrics: ${messageOf(error)}`),
	);
	engine.log.info(`metrics: ${url}`);
	let closing: Promise<void> | undefined;
	return {
		url,
		close() {
			if (path !== undefined && !closing) removeFile(path, file);
			closing ??= closeServer(server);
			return closing;
		},
	};
}
