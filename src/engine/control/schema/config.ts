// SPDX-License-Identifier: MIT
import * as v from "valibot";
import {
	array,
	boolean,
	done,
	methods,
	name,
	none,
	number,
	object,
	optional,
	required,
	string,
	unknown,
} from "./types.ts";

const subsystems = array(unknown);

export const configMethods = methods({
	framework_get_subsystems: {
		description:
			"Lists the subsystems that have a configuration, each after those it depends on.",
		effect: "none",
		params: none,
		result: array(object({ subsystem: string, depends_on: array(string) })),
	},
	framework_get_config: {
		description:
			"Gives the calls that make what a subsystem has, in an order in which they succeed.",
		effect: "none",
		params: object({
			name: required(name, "Name of the subsystem"),
			with_batches: optional(
				boolean,
				"Calls that may be made at once in arrays of their own: there are none. Default: false",
			),
		}),
		result: array(
			object({ method: string, params: v.record(v.string(), unknown) }),
		),
		example: { name: "bdev" },
	},
	framework_start_init: {
		description:
			"Ends the state in which `vhostctl serve --wait-for-rpc` starts: makes what the command line and the state file ask for, and allows all methods.",
		effect: "none",
		when: "startup",
		params: none,
		result: done,
	},
	framework_wait_init: {
		description: "Waits for the end of framework_start_init.",
		effect: "none",
		when: "always",
		params: none,
		result: done,
	},
	vhostctl_load_config: {
		description:
			"Carries out the calls of a configuration, in the form of SPDK's save_config, all or none: what cannot be is told, item by item, in the error's message. An item is called by its subsystem and its place there, as bdev[0]. The result tells those that have no effect.",
		effect: "alters",
		params: object({
			subsystems: required(
				subsystems,
				'The subsystems: {"subsystem": name, "config": [{"method": name, "params": {...}}, ...]}',
			),
		}),
		result: object({
			/** Calls carried out. */
			applied: number,
			ignored: array(object({ item: string, method: string })),
		}),
		example: {
			subsystems: [
				{
					subsystem: "bdev",
					config: [
						{
							method: "bdev_null_create",
							params: { name: "Null0", block_size: 512, num_blocks: 2048 },
						},
					],
				},
			],
		},
		own: true,
	},
});
