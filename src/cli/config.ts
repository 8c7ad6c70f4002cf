// SPDX-License-Identifier: MIT
/** vhostctl config: what an instance has, as a file. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import type { Client } from "../engine/control/client.ts";
import { fromErrno } from "../engine/errors.ts";
import { attached } from "./attach.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import { readConfig } from "./config-file.ts";
import { printJson, printLine } from "./output.ts";

export const config: Group = {
	name: "config",
	summary: "Save what an instance has to a file; load such a file, or SPDK's",
	commands: [
		{
			usage: "save [file]",
			summary:
				"Save what the instance has, as SPDK's save_config does (default: to standard output)",
			options: [RPC_SOCKET],
			example: "vhostctl config save vhost.json",
			run: save,
		},
		{
			usage: "load <file>",
			summary:
				"Make what a configuration has, vhostctl's or SPDK's, all or nothing (-: standard input)",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl config load vhost.json",
			run: load,
		},
	],
};

async function gather(client: Client) {
	const names = await client.call("framework_get_subsystems", {});
	// Asked for at once: nothing is to change in between.
	const subsystems = await Promise.all(
		names.map(async ({ subsystem }) => ({
			subsystem,
			config: await client.call("framework_get_config", { name: subsystem }),
		})),
	);
	return { subsystems };
}

/** A crash leaves the file that was there, or the new one. */
function replaceFile(path: string, text: string): void {
	const draft = `${path}.${process.pid}.new`;
	try {
		writeFileSync(draft, text, { flush: true });
		renameSync(draft, path);
	} catch (error) {
		rmSync(draft, { force: true });
		throw fromErrno(error, path);
	}
}

async function save(given: Given): Promise<void> {
	const text = JSON.stringify(await attached(given, gather), undefined, 2);
	const [path] = given.args;
	if (path === undefined) printLine(text);
	else replaceFile(path, `${text}\n`);
}

async function load(given: Given): Promise<void> {
	const [path = "-"] = given.args;
	const { subsystems } = readConfig(path);
	const report = await attached(given, (client) =>
		client.call("vhostctl_load_config", { subsystems }),
	);
	if (given.flag("json")) return printJson(report);
	for (const { item, method } of report.ignored)
		process.stderr.write(`vhostctl: ${item} ${method} has no effect here\n`);
}
