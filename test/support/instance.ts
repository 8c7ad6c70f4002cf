// SPDX-License-Identifier: MIT
// A running `vhostctl serve` in a private folder, for end-to-end and guest tests.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "./processes.ts";

const READY_MS = 20_000;
const STOP_MS = 20_000;

export interface Instance {
	readonly dir: string;
	/** The control socket. */
	readonly rpcSocket: string;
	/** The folder of the controllers' sockets (-S). */
	readonly socketDir: string;
	readonly process: Process;
	/** What it has written to its standard output and error. */
	log(): string;
	/** Calls a method of the control socket; throws RpcError on an error answer. */
	rpc(method: string, params?: object): Promise<unknown>;
	/** The socket of a controller. */
	socket(controller: string): string;
	/** Fails unless the instance still runs and answers. */
	assertHealthy(): Promise<void>;
	/** Ends it with SIGKILL; its folder, sockets and all, stays for startInstance. */
	crash(): Promise<void>;
	/**
	 * Ends it with SIGTERM and fails unless it left with exit code 0 and took its sockets
	 * along. Then, in any case, nothing of it is left.
	 */
	stop(): Promise<void>;
}

export class RpcError extends Error {
	readonly code: number;
	constructor(method: string, code: number, message: string) {
		super(`${method}: ${message} (${code})`);
		this.code = code;
	}
}

// Deno, and newer Nodes, run the sources; Node 20 what tsc made of them.
const fromSources = import.meta.url.endsWith(".ts");
const root = fileURLToPath(
	new URL(fromSources ? "../.." : "../../..", import.meta.url),
);

/** The command line that runs vhostctl with args, in the runtime that runs the tests. */
export function vhostctl(...args: string[]): [string, string[]] {
	const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
	const main = fromSources ? "src/cli/main.ts" : "dist/src/cli/main.js";
	return [process.execPath, [...flags, join(root, main), ...args]];
}

/** The project's own folder. */
export function projectPath(...parts: string[]): string {
	return join(root, ...parts);
}

interface Answer {
	result?: unknown;
	error?: { code: number; message: string };
}

/** One JSON-RPC call over a connection of its own. */
export async function rpcCall(
	path: string,
	method: string,
	params?: object,
): Promise<unknown> {
	const answer = await new Promise<Answer>((resolve, reject) => {
		let text = "";
		const socket = createConnection(path, () => {
			socket.write(JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }));
		});
		socket.setEncoding("utf8").on("data", (data: string) => {
			text += data;
			try {
				resolve(JSON.parse(text) as Answer);
				socket.destroy();
			} catch {
				// More is to come: answers have no framing.
			}
		});
		socket.on("error", reject);
		socket.on("close", () =>
			reject(new Error(`${method}: connection closed, after "${text}"`)),
		);
	});
	if (answer.error)
		throw new RpcError(method, answer.error.code, answer.error.message);
	return answer.result;
}

/**
 * Starts `vhostctl serve` with args and waits until its control socket answers. dir: where
 * one that crashed had its sockets; default: a folder of its own.
 */
export async function startInstance(
	args: string[] = [],
	env: Record<string, string> = {},
	dir = makeTempDir(),
): Promise<Instance> {
	const rpcSocket = join(dir, "rpc.sock");
	const [command, start] = vhostctl(
		"serve",
		"-r",
		rpcSocket,
		"-S",
		dir,
		"--state-dir",
		join(dir, "state"),
		...args,
	);
	const server = startProcess(command, start, { env });
	const log = () =>
		`\n--- log of serve ---\n${server.stdout()}${server.stderr()}`;

	const rpc = (method: string, params?: object) =>
		within(rpcCall(rpcSocket, method, params), 30_000, () => method + log());

	const discard = async () => {
		await server.kill();
		removeTempDir(dir);
	};

	try {
		await waitUntil(
			async () => {
				if (!server.alive()) throw new Error(`serve ended at once${log()}`);
				return rpcCall(rpcSocket, "spdk_get_version").then(
					() => true,
					() => false,
				);
			},
			READY_MS,
			() => `serve answers${log()}`,
		);
	} catch (error) {
		await discard();
		throw error;
	}

	return {
		dir,
		rpcSocket,
		socketDir: dir,
		process: server,
		log,
		rpc,
		socket: (controller) => join(dir, controller),
		assertHealthy: async () => {
			assert(server.alive(), `serve has ended${log()}`);
			await rpc("spdk_get_version");
		},
		crash: () => server.kill(),
		stop: async () => {
			try {
				assert(server.alive(), `serve has ended${log()}`);
				const before = readdirSync(dir);
				process.kill(server.pid, "SIGTERM");
				const code = await within(
					server.exited,
					STOP_MS,
					() => `serve ends${log()}`,
				);
				assert.equal(code, 0, `exit code of serve${log()}`);
				assert(before.includes("rpc.sock"));
				const left = readdirSync(dir, { withFileTypes: true });
				assert.deepEqual(
					left.filter((entry) => entry.isSocket()).map((entry) => entry.name),
					[],
					"sockets left behind",
				);
			} finally {
				await discard();
			}
		},
	};
}
