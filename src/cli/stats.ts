// SPDX-License-Identifier: MIT
/** vhostctl stats: what an instance does, once or live. */
import { attached, rpcSocket } from "./attach.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
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
