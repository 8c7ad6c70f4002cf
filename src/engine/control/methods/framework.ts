// SPDX-License-Identifier: MIT
import { readFileSync } from "node:fs";
import process from "node:process";
import { formatCpumask, type Reactor } from "../../engine.ts";
import { nodeOf } from "../../reactors.ts";
import { version } from "../../version.ts";
import type { frameworkMethods } from "../schema/framework.ts";
import type { Method } from "../schema/types.ts";
import { METHODS } from "../schema.ts";
import { isCallable } from "../startup.ts";
import type { Context, Handlers } from "./context.ts";

/** Ticks are nanoseconds everywhere. */
export const TICK_RATE = 1e9;

function asleep(reactor: Reactor, polled: number): boolean {
	return reactor.mode !== "poll" && polled === 0;
}

/** User, system and interrupt time of a processor, in clock ticks of proc_stat(5). */
function processorTimes(cpu: number): {
	usr: number;
	sys: number;
	irq: number;
} {
	const stat = readFileSync("/proc/stat", "utf8");
	const line = new RegExp(`^cpu${cpu} (.*)$`, "m").exec(stat)?.[1] ?? "";
	const [usr = 0, , sys = 0, , , irq = 0] = line.split(" ").map(Number);
	return { usr, sys, irq };
}

function describeReactor({ engine }: Context, reactor: Reactor) {
	const stats = reactor.stats();
	return {
		lcore: reactor.cpu,
		numa_id: nodeOf(reactor.cpu),
		tid: stats.tid,
		busy: stats.busy_ns,
		idle: stats.idle_ns,
		in_interrupt: asleep(reactor, stats.polled),
		...processorTimes(reactor.cpu),
		lw_threads: [
			{
				name: `reactor_${reactor.id}`,
				id: reactor.id + 1,
				cpumask: formatCpumask([reactor.cpu]),
				elapsed: engine.uptimeNs(),
			},
		],
	};
}

function describeThread(reactor: Reactor) {
	const stats = reactor.stats();
	return {
		name: `reactor_${reactor.id}`,
		id: reactor.id + 1,
		cpumask: formatCpumask([reactor.cpu]),
		busy: stats.busy_ns,
		idle: stats.idle_ns,
		in_interrupt: asleep(reactor, stats.polled),
		active_pollers_count: stats.polled,
		timed_pollers_count: 0,
		paused_pollers_count: Math.max(0, stats.rings - stats.polled),
	};
}

export const frameworkHandlers: Handlers<keyof typeof frameworkMethods> = {
	rpc_get_methods: ({ startup }, { current }) =>
		Object.entries<Method>(METHODS)
			.filter(([, method]) => !current || isCallable(method, startup))
			.map(([name]) => name)
			.sort(),
	spdk_get_version() {
		const text = version();
		const [major = 0, minor = 0, patch = 0] = text.split(/[.-]/).map(Number);
		const suffix = /-.*$/.exec(text)?.[0] ?? "";
		return {
			version: `vhostctl v${text}`,
			fields: { major, minor, patch, suffix },
		};
	},
	spdk_kill_instance({ kill }, { sig_name }) {
		kill(sig_name);
		return true;
	},
	framework_get_reactors: (context) => ({
		tick_rate: TICK_RATE,
		pid: process.pid,
		reactors: context.engine.reactors.map((r) => describeReactor(context, r)),
	}),
	thread_get_stats: ({ engine }) => ({
		tick_rate: TICK_RATE,
		threads: engine.reactors.map(describeThread),
	}),
	framework_get_scheduler: () => ({
		scheduler_name: "static",
		scheduler_period: 0,
		isolated_core_mask: "0",
	}),
	framework_get_governor: () => ({}),
};
