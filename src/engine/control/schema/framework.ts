// SPDX-License-Identifier: MIT
import {
	array,
	boolean,
	done,
	methods,
	none,
	number,
	object,
	oneOf,
	optional,
	required,
	string,
} from "./types.ts";

export const SIGNALS = [
	"SIGINT",
	"SIGTERM",
	"SIGQUIT",
	"SIGHUP",
	"SIGKILL",
	"SIGUSR1",
] as const;

export const frameworkMethods = methods({
	rpc_get_methods: {
		effect: "none",
		when: "always",
		description: "Lists the methods.",
		params: object({
			current: optional(
				boolean,
				"Only those that can be called now, before or after framework_start_init. Default: false",
			),
			include_aliases: optional(boolean, "Former names too: no method has one"),
		}),
		result: array(string),
	},
	spdk_get_version: {
		effect: "none",
		when: "always",
		description:
			"Tells the version of vhostctl, where clients of SPDK look for SPDK's.",
		params: none,
		result: object({
			version: string,
			fields: object({
				major: number,
				minor: number,
				patch: number,
				suffix: string,
			}),
		}),
	},
	spdk_kill_instance: {
		effect: "none",
		when: "always",
		description:
			"Sends a signal to the instance. SIGINT and SIGTERM end it cleanly.",
		params: object({
			sig_name: required(oneOf(...SIGNALS), "The signal's name"),
		}),
		result: done,
		example: { sig_name: "SIGTERM" },
	},
	framework_get_reactors: {
		effect: "none",
		description:
			"Lists the reactors, the threads that move the bytes. busy and idle are in ticks of 1 ns.",
		params: none,
		result: object({
			tick_rate: number,
			pid: number,
			reactors: array(
				object({
					lcore: number,
					numa_id: number,
					tid: number,
					busy: number,
					idle: number,
					in_interrupt: boolean,
					irq: number,
					sys: number,
					usr: number,
					lw_threads: array(
						object({
							name: string,
							id: number,
							cpumask: string,
							elapsed: number,
						}),
					),
				}),
			),
		}),
	},
	thread_get_stats: {
		effect: "none",
		description:
			"Tells how busy each thread is, in ticks of 1 ns. A thread's pollers are its rings: active while polled, paused while they sleep until a kick.",
		params: none,
		result: object({
			tick_rate: number,
			threads: array(
				object({
					name: string,
					id: number,
					cpumask: string,
					busy: number,
					idle: number,
					in_interrupt: boolean,
					active_pollers_count: number,
					timed_pollers_count: number,
					paused_pollers_count: number,
				}),
			),
		}),
	},
	framework_get_scheduler: {
		effect: "none",
		when: "always",
		description:
			"Tells what moves threads between processors: nothing. Reactors stay where they are, which SPDK calls the static scheduler.",
		params: none,
		result: object({
			scheduler_name: string,
			scheduler_period: number,
			isolated_core_mask: string,
		}),
	},
	framework_get_governor: {
		effect: "none",
		description:
			"Tells what sets the processors' frequencies: nothing here does, so that the answer is empty, as SPDK's without a governor.",
		params: none,
		result: object({}),
	},
});
