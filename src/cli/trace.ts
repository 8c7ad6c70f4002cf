// SPDX-License-Identifier: MIT
/** vhostctl trace: the last requests of a controller's rings. */
import { attached } from "./attach.ts";
import {
	type CommandOption,
	type Given,
	type Group,
	JSON_OUTPUT,
	RPC_SOCKET,
} from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine } from "./output.ts";
import { count } from "./size.ts";
import type { Trace } from "./trace-report.ts";

const DEFAULT_SIZE = 256;
const MAX_SIZE = 65536;

const SIZE: CommandOption = {
	usage: "--size <n>",
	help: `Requests kept of each ring, rounded up to a power of two of 64 at least (default: ${DEFAULT_SIZE})`,
};

export const trace: Group = {
	name: "trace",
	summary: "Show the last requests of a controller, with the time of each step",
	commands: [
		{
			usage: "start <controller>",
			summary:
				"Keep the last requests of each ring from now on, and forget those kept before",
			options: [SIZE, RPC_SOCKET],
			example: "vhostctl trace start vm0",
			run: start,
		},
		{
			usage: "stop <controller>",
			summary: "Keep no requests, and forget those kept",
			options: [RPC_SOCKET],
			example: "vhostctl trace stop vm0",
			run: stop,
		},
		{
			usage: "show <controller>",
			summary: "Show the last requests of each ring, oldest first",
			options: [
				{ usage: "--ring <n>", help: "Only the ring of this index" },
				{
					usage: "--last <n>",
					help: "Most requests of each ring (default: all that are kept)",
				},
				{
					usage: "--chrome <file>",
					help: "Write a trace file for chrome://tracing or ui.perfetto.dev",
				},
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl trace show vm0 --last 20",
			run: show,
		},
	],
};

function setSize(given: Given, size: number): Promise<void> {
	const [ctrlr = ""] = given.args;
	return attached(given, async (client) => {
		await client.call("vhostctl_set_trace", { ctrlr, size });
	});
}

function start(given: Given): Promise<void> {
	return setSize(
		given,
		given.parsed("size", count(1, MAX_SIZE)) ?? DEFAULT_SIZE,
	);
}

function stop(given: Given): Promise<void> {
	return setSize(given, 0);
}

async function read(given: Given): Promise<Trace> {
	const [ctrlr = ""] = given.args;
	const params = {
		ctrlr,
		ring: given.parsed("ring", count(0, 255)),
		last: given.parsed("last", count(1, MAX_SIZE)),
	};
	return attached(given, (client) => client.call("vhostctl_get_trace", params));
}

async function show(given: Given): Promise<void> {
	const file = given.text("chrome");
	if (file !== undefined && given.flag("json"))
		throw new UsageError("--chrome and --json are two forms of one thing");
	const got = await read(given);
	if (got.size === 0)
		throw new UsageError(
			`nothing is kept of ${got.ctrlr}: vhostctl trace start ${got.ctrlr}`,
		);
	if (given.flag("json")) return printJson(got);
	if (file !== undefined) {
		const { chromeTrace } = await import("./trace-chrome.ts");
		const { writeFile } = await import("node:fs/promises");
		return writeFile(file, `${JSON.stringify(await chromeTrace(got))}\n`);
	}
	const { report } = await import("./trace-report.ts");
	printLine(await report(got));
}
