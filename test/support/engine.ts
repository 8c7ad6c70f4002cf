// SPDX-License-Identifier: MIT
// An engine in the test's own process, with its control socket, and what it must leave behind.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type Client, connect } from "../../src/engine/control/client.ts";
import {
	type ControlServer,
	startControl,
} from "../../src/engine/control/server.ts";
import {
	type Engine,
	type EngineOptions,
	startEngine,
} from "../../src/engine/engine.ts";
import { VhostctlError } from "../../src/engine/errors.ts";
import { makeTempDir, removeTempDir, waitUntil } from "./processes.ts";

export interface TestEngine {
	readonly engine: Engine;
	readonly control: ControlServer;
	readonly client: Client;
	/** Private; the sockets are in it. */
	readonly dir: string;
	/** Signals that spdk_kill_instance would have sent. */
	readonly signals: string[];
	close(): Promise<void>;
}

export async function startTestEngine(
	options: Partial<EngineOptions> = {},
): Promise<TestEngine> {
	const dir = makeTempDir();
	const signals: string[] = [];
	const engine = await startEngine({ socketDir: dir, ...options });
	const control = await startControl(engine, {
		path: join(dir, "rpc.sock"),
		kill: (signal) => signals.push(signal),
	});
	const client = await connect(control.path);
	return {
		engine,
		control,
		client,
		dir,
		signals,
		async close() {
			client.close();
			await control.close();
			await engine.close();
			const left = readdirSync(dir, { withFileTypes: true });
			removeTempDir(dir);
			assert.deepEqual(
				left.filter((entry) => entry.isSocket()).map((entry) => entry.name),
				[],
				"sockets left behind",
			);
		},
	};
}

/** Checks that work fails with that code and a message that fits. */
export async function fails(
	work: Promise<unknown>,
	code: string,
	message: RegExp = /./,
): Promise<void> {
	await assert.rejects(work, (error) => {
		assert(error instanceof VhostctlError, String(error));
		assert.equal(error.code, code, error.message);
		assert.match(error.message, message);
		return true;
	});
}

/** How many descriptors and threads this process has. */
export function footprint(): { fds: number; threads: number } {
	return {
		fds: readdirSync("/proc/self/fd").length,
		threads: readdirSync("/proc/self/task").length,
	};
}

/** Waits until there are no more of them than before. */
export async function assertNoLeak(
	before: ReturnType<typeof footprint>,
): Promise<void> {
	const now = () => footprint();
	await waitUntil(
		() => now().fds <= before.fds && now().threads <= before.threads,
		5000,
		() => `from ${JSON.stringify(before)} to ${JSON.stringify(now())}`,
	);
}
