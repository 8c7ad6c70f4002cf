// SPDX-License-Identifier: MIT
/** vhostctl stats: what an instance does, once or live. */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../engine/control/client.ts";
import { attached } from "./attach.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import { printJson, printLine } from "./output.ts";
import type { Snapshot } from "./stats-report.ts";

const PERIOD_MS = 1000;

export const stats: Group = {
	name: "stats",
	summary: "Show what an instance does, once or live",
	commands: [
		{
			usage: "",
			summary:
				"Show what an instance does: reactors, bdevs, controllers and their rings",
			options: [
				{
					usage: "--watch",
					help: "Show rates, once a second, until SIGINT",
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
	await attached(given, async (client) => {
		if (given.flag("watch")) return watch(client, given.flag("json"));
		const snapshot = await take(client);
		if (given.flag("json")) return printJson(snapshot);
		const { report } = await import("./stats-report.ts");
		printLine(await report(snapshot, undefined));
	});
}

function take(client: Client): Promise<Snapshot> {
	return client.call("vhostctl_get_stats", {});
}

async function watch(client: Client, json: boolean): Promise<void> {
	const { onSignal } = await import("./signals.ts");
	const { report } = await import("./stats-report.ts");
	const { fullScreen } = await import("./screen.ts");
	const stopped = new AbortController();
	const ending = onSignal();
	void ending.asked.then(() => stopped.abort());
	const screen = json ? undefined : fullScreen(process.stdout);
	try {
		let before: Snapshot | undefined;
		while (!stopped.signal.aborted) {
			const now = await take(client);
			if (screen) screen.show(await report(now, before));
			else process.stdout.write(`${JSON.stringify(now)}\n`);
			before = now;
			await sleep(PERIOD_MS, undefined, { signal: stopped.signal }).catch(
				() => {},
			);
		}
	} finally {
		screen?.restore();
		ending.release();
	}
}
