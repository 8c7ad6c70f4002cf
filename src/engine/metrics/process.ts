// SPDX-License-Identifier: MIT
// What Prometheus' client libraries tell of the process, under the names that they give it.
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import type { Family } from "./exposition.ts";

const STARTED = Date.now() / 1000 - process.uptime();

function single(
	name: string,
	type: "counter" | "gauge",
	help: string,
	value: number | undefined,
): Family {
	const samples = value === undefined ? [] : [{ labels: {}, value }];
	return { name, type, help, samples };
}

/** Soft limit of open descriptors (proc_pid_limits(5)); undefined: none. */
function maxDescriptors(): number | undefined {
	const limits = readFileSync("/proc/self/limits", "utf8");
	const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
	return soft === undefined ? undefined : Number(soft);
}

/** Processor time, memory and descriptors of this process, all its threads together. */
export function processFamilies(): Family[] {
	const { user, system } = process.cpuUsage();
	return [
		single(
			"process_cpu_seconds_total",
			"counter",
			"User and system processor time, reactors included.",
			(user + system) / 1e6,
		),
		single(
			"process_resident_memory_bytes",
			"gauge",
			"Resident memory, without hugepages.",
			process.memoryUsage.rss(),
		),
		single(
			"process_open_fds",
			"gauge",
			"Open file descriptors.",
			readdirSync("/proc/self/fd").length,
		),
		single(
			"process_max_fds",
			"gauge",
			"Most file descriptors that may be open.",
			maxDescriptors(),
		),
		single(
			"process_start_time_seconds",
			"gauge",
			"When the process started, since the epoch.",
			STARTED,
		),
	];
}
