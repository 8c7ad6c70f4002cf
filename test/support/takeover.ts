// SPDX-License-Identifier: MIT
// Instances that take over one from the other, in one folder.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { rpcCall, vhostctl } from "./instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "./processes.ts";

const PATIENCE_MS = 30_000;

export interface Dynasty {
	readonly dir: string;
	readonly rpcSocket: string;
	/** The one that serves, as far as is known. */
	readonly ruler: Process;
	/** The socket of a controller, or another file. */
	path(name: string): string;
	rpc(method: string, params?: object): Promise<unknown>;
	/** Starts the first one and waits until it is ready. */
	start(...args: string[]): Promise<void>;
	/** Starts one that takes over, with words of a shell before it if need be. */
	heir(args?: readonly string[], shell?: string): Process;
	/** One takes over; the old one must end well. Resolves to how long guests stood still, ms. */
	succeed(...args: string[]): Promise<number>;
	/** From now on this one is the ruler. */
	crown(heir: Process): void;
	/** Fails unless the ruler lives, answers, and is the one that was started as such. */
	assertRules(): Promise<void>;
	/** Ends the ruler, which must take its sockets along, and removes the folder. */
	end(): Promise<void>;
}

export function logOf(server: Process): string {
	return `\n--- ${server.pid} ---\n${server.stdout()}${server.stderr()}`;
}

/** Waits for an end with any code. */
export function exitOf(server: Process): Promise<number | string> {
	return within(server.exited, PATIENCE_MS, () => `it ends${logOf(server)}`);
}

/** Waits until a server says that it is ready. False: it has ended instead. */
export async function isReady(
	server: Process,
	rpcSocket: string,
): Promise<boolean> {
	const ready = () => server.stdout().includes(`ready: ${rpcSocket}\n`);
	await waitUntil(
		() => ready() || !server.alive(),
		PATIENCE_MS,
		() => `it is ready${logOf(server)}`,
	);
	return ready();
}

/** How long guests stood still, as the log of a successor tells. */
export function pauseOf(server: Process): number {
	const [, ms] = /stood still for ([\d.]+) ms/.exec(server.stderr()) ?? [];
	assert(ms !== undefined, `the pause is told${logOf(server)}`);
	return Number(ms);
}

/** Runs `work` with instances in a folder of their own; nothing outlives it. */
export async function withDynasty(
	work: (dynasty: Dynasty) => Promise<void>,
): Promise<void> {
	const dir = makeTempDir();
	const rpcSocket = join(dir, "rpc.sock");
	const started: Process[] = [];
	let ruler: Process | undefined;
	const run = (words: readonly string[], shell?: string): Process => {
		const [command, args] = vhostctl("serve", ...words);
		const line = shell === undefined ? undefined : `${shell}; exec "$@"`;
		const server = line
			? startProcess("bash", ["-c", line, "-", command, ...args])
			: startProcess(command, args);
		started.push(server);
		return server;
	};
	const ruling = (): Process => {
		assert(ruler, "one rules");
		return ruler;
	};
	const dynasty: Dynasty = {
		dir,
		rpcSocket,
		get ruler() {
			return ruling();
		},
		path: (name) => join(dir, name),
		rpc: (method, params) =>
			within(
				rpcCall(rpcSocket, method, params),
				PATIENCE_MS,
				() => `${method}${logOf(ruling())}`,
			),
		async start(...args) {
			const state = ["--state-dir", join(dir, "state")];
			ruler = run(["-S", dir, "-r", rpcSocket, ...state, ...args]);
			assert(await isReady(ruler, rpcSocket), logOf(ruler));
		},
		heir: (args = [], shell) =>
			run(["--takeover", "-r", rpcSocket, ...args], shell),
		async succeed(...args) {
			const heir = dynasty.heir(args);
			const old = ruling();
			assert(await isReady(heir, rpcSocket), `${logOf(heir)}${logOf(old)}`);
			assert.equal(await exitOf(old), 0, logOf(old));
			ruler = heir;
			return pauseOf(heir);
		},
		crown(heir) {
			ruler = heir;
		},
		async assertRules() {
			assert(ruling().alive(), `it lives${logOf(ruling())}`);
			const { pid } = (await dynasty.rpc("framework_get_reactors")) as {
				pid: number;
			};
			assert.equal(pid, ruling().pid);
		},
		async end() {
			process.kill(ruling().pid, "SIGTERM");
			assert.equal(await exitOf(ruling()), 0, logOf(ruling()));
			const left = readdirSync(dir, { withFileTypes: true });
			const names = left.filter((one) => one.isSocket()).map((one) => one.name);
			assert.deepEqual(names, [], "sockets left behind");
			assert(!existsSync(`${rpcSocket}.lock`));
		},
	};
	try {
		await work(dynasty);
	} catch (error) {
		const logs = started.map(logOf).join("");
		throw new Error(`${String(error)}${logs}`, { cause: error });
	} finally {
		await Promise.all(started.map((server) => server.kill()));
		removeTempDir(dir);
	}
}
