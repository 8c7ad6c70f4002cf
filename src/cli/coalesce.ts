// SPDX-License-Identifier: MIT
/** vhostctl coalesce: how often the drivers of busy rings are called. */
import {
	MAX_DELAY_BASE_US,
	MAX_IOPS_THRESHOLD,
	MIN_IOPS_THRESHOLD,
} from "../engine/coalescing.ts";
import { attached } from "./attach.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import { printJson, printLine, table } from "./output.ts";
import { parseCount } from "./size.ts";

export const coalesce: Group = {
	name: "coalesce",
	summary: "Set and show how often busy controllers call their drivers",
	commands: [
		{
			usage: "set <controller>",
			summary:
				"Keep the calls of rings apart whose requests end at a rate above a threshold",
			options: [
				{
					usage: "--delay-base <us>",
					help: "Microseconds between calls at twice the threshold; 0: never delay",
				},
				{
					usage: "--iops-threshold <n>",
					help: "Requests a second of a ring up to which calls are not delayed",
				},
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example:
				"vhostctl coalesce set vm0 --delay-base 50 --iops-threshold 60000",
			run: set,
		},
		{
			usage: "get [controller]",
			summary: "Show the settings, of all controllers or one",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl coalesce get",
			run: get,
		},
	],
};

async function set(given: Given): Promise<void> {
	const [ctrlr = ""] = given.args;
	const number = (name: string, min: number, max: number) =>
		parseCount(given.required(name), `--${name}`, min, max);
	const params = {
		ctrlr,
		delay_base_us: number("delay-base", 0, MAX_DELAY_BASE_US),
		iops_threshold: number(
			"iops-threshold",
			MIN_IOPS_THRESHOLD,
			MAX_IOPS_THRESHOLD,
		),
	};
	const done = await attached(given, (client) =>
		client.call("vhost_controller_set_coalescing", params),
	);
	if (given.flag("json")) printJson(done);
}

async function get(given: Given): Promise<void> {
	const [name] = given.args;
	const controllers = await attached(given, (client) =>
		client.call("vhost_get_controllers", name === undefined ? {} : { name }),
	);
	const settings = controllers.map(
		({ ctrlr, delay_base_us, iops_threshold }) => ({
			ctrlr,
			delay_base_us,
			iops_threshold,
		}),
	);
	if (given.flag("json")) return printJson(settings);
	const columns = [
		{ title: "name" },
		{ title: "delay base (µs)", right: true },
		{ title: "IOPS threshold", right: true },
	];
	const rows = settings.map((one) => [
		one.ctrlr,
		String(one.delay_base_us),
		String(one.iops_threshold),
	]);
	printLine(await table(columns, rows));
}
