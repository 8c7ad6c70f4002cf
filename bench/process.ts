// SPDX-License-Identifier: MIT
/** Processes: run to their end, or kept until the bench ends. */
import {
	type ChildProcess,
	type ChildProcessByStdio,
	execFile,
	spawn,
} from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Runs a command and resolves with its standard output; rejects if it fails. */
export async function output(command: readonly string[]): Promise<string> {
	const [file = "", ...args] = command;
	const { stdout } = await execute(file, args, { maxBuffer: 64 << 20 });
	return stdout;
}

/** A process that serves until it is stopped. */
export interface Daemon {
	readonly pid: number;
	stop(): Promise<void>;
}

const children = new Set<ChildProcess>();

/** Ends what still runs, at once: for the end of the bench itself. */
export function killAll(): void {
	for (const child of children) child.kill("SIGKILL");
}

type Child = ChildProcessByStdio<null, null, Readable>;

async function untilReady(
	child: Child,
	ready: () => boolean | Promise<boolean>,
	pollMs: number,
): Promise<void> {
	let errors = "";
	child.stderr.on("data", (data) => {
		errors += data;
	});
	while (!(await ready())) {
		if (child.exitCode !== null || child.signalCode !== null)
			throw new Error(`${child.spawnargs.join(" ")} ended: ${errors.trim()}`);
		await sleep(pollMs);
	}
}

/** Starts a command and waits until `ready` says that it serves. */
export async function startDaemon(
	command: readonly string[],
	ready: () => boolean | Promise<boolean>,
	pollMs = 10,
): Promise<Daemon> {
	const [file = "", ...args] = command;
	const child: Child = spawn(file, args, {
		stdio: ["ignore", "ignore", "pipe"],
	});
	children.add(child);
	const ended = new Promise<void>((resolve, reject) => {
		child.once("exit", () => {
			children.delete(child);
			resolve();
		});
		child.once("error", reject);
	});
	ended.catch(() => {});
	const stop = async () => {
		child.kill("SIGTERM");
		await ended;
	};
	try {
		await Promise.race([
			untilReady(child, ready, pollMs),
			ended.then(() => sleep(50)),
		]);
		if (child.pid === undefined || child.exitCode !== null)
			throw new Error(`${command.join(" ")} did not start`);
	} catch (error) {
		await stop().catch(() => {});
		throw error;
	}
	return { pid: child.pid, stop };
}

/** Processor time of all threads of a process, in nanoseconds. */
export function cpuTime(pid: number): number {
	const tasks = `/proc/${pid}/task`;
	if (!existsSync(tasks)) return Number.NaN;
	return readdirSync(tasks)
		.map((task) => readFileSync(`${tasks}/${task}/schedstat`, "utf8"))
		.reduce((sum, text) => sum + Number(text.split(" ")[0]), 0);
}

/** Memory of a process, in bytes. */
export function residentBytes(pid: number): number {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	return Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1]) * 1024;
}
