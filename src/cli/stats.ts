// SPDX-License-Identifier: MIT
/** vhostctl stats: what an instance does, once or live. */
import { attached, rpcSocket } from "./attach.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine } from "./output.ts";

export const stats: Group = {
	name: "stats",
	summary: "Show what an instance does, once or live",
	commands: [
		{
			usage: "[name]",
			summary:
				"Show what an instance does, or one controller or bdev: rates, latencies, queue depths",
			options: [
				{
					usage: "--watch",
					help: "Show rates, once a second, until q or SIGINT; keys sort and scroll",
				},
				{
					usage: "--prometheus",
					help: "Print all figures in Prometheus' text format",
				},
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl stats --watch",
			run,
		},
	],
};

async function run(given: Given): Promise<void> {
	const [name] = given.args;
	if (given.flag("prometheus")) return prometheus(given);
	if (given.flag("watch")) {
		const { watch } = await import("./stats-watch.ts");
		return watch({ path: rpcSocket(given), name, json: given.flag("json") });
	}
	await attached(given, async (client) => {
		const snapshot = await client.call("vhostctl_get_stats", { name });
		if (given.flag("json")) return printJson(snapshot);
		const { report } = await import("./stats-report.ts");
		printLine(await report(snapshot));
	});
}

async function prometheus(given: Given): Promise<void> {
	const other = ["watch", "json"].find((option) => given.flag(option));
	if (other !== undefined)
		throw new UsageError(`--prometheus and --${other} exclude each other`);
	if (given.args.length > 0)
		throw new UsageError("--prometheus is of everything: give no name");
	await attached(given, async (client) => {
		const text = await client.call("vhostctl_get_metrics", {});
		printLine(text.trimEnd());
	});
}
