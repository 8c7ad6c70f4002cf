// SPDX-License-Identifier: MIT
// What tests start and make outside their own process: child processes and temporary
// folders. None outlives the test process, whichever way it ends.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

export interface Process {
	readonly pid: number;
	readonly child: ChildProcess;
	/** Resolves with the exit code, or the name of the signal that ended it. */
	readonly exited: Promise<number | string>;
	/** True until it has ended. */
	alive(): boolean;
	/** What it has written to standard error so far. */
	stderr(): string;
	/** What it has written to standard output so far, unless stdout was asked for raw. */
	stdout(): string;
	/** Ends it, and all that it started, for certain. */
	kill(): Promise<void>;
}

export interface ProcessOptions {
	env?: Record<string, string>;
	cwd?: string;
	/** Leaves standard input and output to the caller, for talking over them. */
	interactive?: boolean;
}

const groups = new Set<number>();
const folders = new Set<string>();

// The sweeper keeps the last line it was told, a list of what is there. When its input ends,
// which it does however the test process ends, it removes what that line names.
const SWEEPER = `
while read -r line; do last=$line; done
set -f
IFS=$(printf '\\t')
for each in $last; do
	case $each in
	/*) rm -rf "$each" ;;
	*) kill -KILL "-$each" ;;
	esac
done 2>/dev/null`;
let sweeper: ChildProcess | undefined;

function tellSweeper(): void {
	if (!sweeper) {
		sweeper = spawn("sh", ["-c", SWEEPER], {
			detached: true,
			stdio: ["pipe", "ignore", "ignore"],
		});
		sweeper.unref();
		// The test process need not wait for it.
		if (sweeper.stdin instanceof Socket) sweeper.stdin.unref();
	}
	sweeper.stdin?.write(`${[...groups, ...folders].join("\t")}\n`);
}

/** Starts a program in a process group of its own. */
export function startProcess(
	command: string,
	args: string[],
	options: ProcessOptions = {},
): Process {
	const interactive = options.interactive ?? false;
	const child = spawn(command, args, {
		detached: true,
		cwd: options.cwd,
		env: { ...process.env, ...options.env },
		stdio: [interactive ? "pipe" : "ignore", "pipe", "pipe"],
	});
	const pid = child.pid;
	const text = { out: "", err: "" };
	child.stderr?.setEncoding("utf8").on("data", (data: string) => {
		text.err += data;
	});
	if (!interactive)
		child.stdout?.setEncoding("utf8").on("data", (data: string) => {
			text.out += data;
		});
	let alive = pid !== undefined;
	if (pid !== undefined) groups.add(pid);
	tellSweeper();
	const exited = new Promise<number | string>((resolve) => {
		child.once("error", (error) => {
			text.err += String(error);
			alive = false;
			resolve("error");
		});
		child.once("close", (code, signal) => {
			alive = false;
			if (pid !== undefined) groups.delete(pid);
			tellSweeper();
			resolve(code ?? signal ?? "unknown");
		});
	});
	return {
		pid: pid ?? -1,
		child,
		exited,
		alive: () => alive,
		stderr: () => text.err,
		stdout: () => text.out,
		kill: async () => {
			try {
				if (pid !== undefined && alive) process.kill(-pid, "SIGKILL");
			} catch {
				// It has ended already.
			}
			await exited;
		},
	};
}

/** Makes a private folder, with a path short enough for sockets in it. */
export function makeTempDir(): string {
	const folder = mkdtempSync(join(tmpdir(), "vhc-"));
	folders.add(folder);
	tellSweeper();
	return folder;
}

export function removeTempDir(folder: string): void {
	rmSync(folder, { recursive: true, force: true });
	folders.delete(folder);
	tellSweeper();
}

/** Waits for a condition that nothing announces; fails with what() after timeoutMs. */
export async function waitUntil(
	condition: () => boolean | Promise<boolean>,
	timeoutMs: number,
	what: () => string,
): Promise<void> {
	const end = Date.now() + timeoutMs;
	while (!(await condition())) {
		if (Date.now() > end)
			throw new Error(`not within ${timeoutMs} ms: ${what()}`);
		await sleep(10);
	}
}

/** Gives a promise at most timeoutMs; then fails with what(). */
export async function within<T>(
	promise: Promise<T>,
	timeoutMs: number,
	what: () => string,
): Promise<T> {
	const timer = new AbortController();
	const late = sleep(timeoutMs, undefined, { signal: timer.signal }).then(
		() => {
			throw new Error(`not within ${timeoutMs} ms: ${what()}`);
		},
	);
	late.catch(() => {});
	try {
		return await Promise.race([promise, late]);
	} finally {
		timer.abort();
	}
}
