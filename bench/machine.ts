// SPDX-License-Identifier: MIT
/** What the bench runs on: processors, places for files, programs. */
import { existsSync, readFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The project, from its sources as well as from dist. */
function findRoot(): string {
	let at = dirname(fileURLToPath(import.meta.url));
	while (!existsSync(join(at, "package.json"))) at = dirname(at);
	return at;
}

const root = findRoot();

/** The command line, run as an operator does. */
export function vhostctl(...args: string[]): string[] {
	const suffix = import.meta.url.endsWith(".ts") ? "ts" : "js";
	const main = fileURLToPath(
		new URL(`../src/cli/main.${suffix}`, import.meta.url),
	);
	return [process.execPath, main, ...args];
}

/** A program of c/bench. */
export function program(name: string): string {
	return join(root, "build/bench", name);
}

/** A list of processors as the kernel writes it: 0-3,8. */
export function parseCpuList(text: string): number[] {
	return text.split(",").flatMap((range) => {
		const [first = 0, last = first] = range.split("-").map(Number);
		return Array.from({ length: last - first + 1 }, (_, i) => first + i);
	});
}

function allowedCpus(): number[] {
	const status = readFileSync("/proc/self/status", "utf8");
	return parseCpuList(/^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? "0");
}

const [first = 0, second = first] = allowedCpus();

/** One core for whatever serves, one for whatever drives. */
export const TARGET_CPU = first;
export const DRIVER_CPU = second;

/** What is pinned to one processor. */
export function pinned(cpu: number, command: readonly string[]): string[] {
	return ["taskset", "-c", String(cpu), ...command];
}

export function describeMachine(): string {
	const model = cpus()[0]?.model.trim() ?? "unknown processor";
	return `${model}, target on processor ${TARGET_CPU}, driver on ${DRIVER_CPU}`;
}

/** Memory that looks like a disk, and a disk: O_DIRECT works on the second. */
export const MEMORY_DIR = "/dev/shm";
export const DISK_DIR = existsSync(join(root, "build"))
	? join(root, "build")
	: tmpdir();
