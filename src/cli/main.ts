#!/usr/bin/env node
// SPDX-License-Identifier: MIT
/** The command line's entry: finds the group of commands and loads nothing else. */
import process from "node:process";
import type { Group } from "./command.ts";
import { describe, exitCode, UsageError } from "./errors.ts";
import { endWithReader, printLine } from "./output.ts";

interface GroupEntry {
	readonly summary: string;
	load(): Promise<Group>;
}

const GROUPS: Readonly<Record<string, GroupEntry>> = {
	serve: {
		summary: "Run an instance: serve disks to virtual machines",
		load: async () => (await import("./serve.ts")).serve,
	},
	bdev: {
		summary: "Create, list, delete, resize and limit block devices",
		load: async () => (await import("./bdev.ts")).bdev,
	},
	blk: {
		summary: "Create, list and delete vhost-user-blk controllers",
		load: async () => (await import("./blk.ts")).blk,
	},
	scsi: {
		summary:
			"Create, list and delete vhost-user-scsi controllers; add and remove targets",
		load: async () => (await import("./scsi.ts")).scsi,
	},
	coalesce: {
		summary: "Set and show how often busy controllers call their drivers",
		load: async () => (await import("./coalesce.ts")).coalesce,
	},
	config: {
		summary: "Save what an instance has to a file; load such a file, or SPDK's",
		load: async () => (await import("./config.ts")).config,
	},
	stats: {
		summary: "Show what an instance does, once or live",
		load: async () => (await import("./stats.ts")).stats,
	},
	trace: {
		summary:
			"Show the last requests of a controller, with the time of each step",
		load: async () => (await import("./trace.ts")).trace,
	},
	rpc: {
		summary: "Call a method of the control socket",
		load: async () => (await import("./rpc.ts")).rpc,
	},
	perf: {
		summary:
			"Drive a vhost-user-blk or -scsi socket: load, latency, verification",
		load: async () => (await import("./perf.ts")).perf,
	},
};

const OPTIONS: readonly [usage: string, help: string][] = [
	["-h, --help", "Show this and exit"],
	["-v, --version", "Show the version and exit"],
];

function help(): string {
	const line = ([name, text]: readonly [string, string]) =>
		`  ${name.padEnd(15)}${text}`;
	return [
		"vhost-user block devices for virtual machines",
		"",
		"Usage:",
		"  $ vhostctl <command> [options]",
		"",
		"Commands:",
		...Object.entries(GROUPS).map(([name, { summary }]) =>
			line([name, summary]),
		),
		"",
		"Options:",
		...OPTIONS.map(line),
		"",
		"Examples:",
		"  $ vhostctl serve --bdev malloc:name=disk0,size=1G --blk vm0=disk0",
		"  $ vhostctl bdev create --help",
	].join("\n");
}

async function version(): Promise<string> {
	return `vhostctl ${(await import("../engine/version.ts")).version()}`;
}

async function main(words: readonly string[]): Promise<void> {
	const [name = "", ...rest] = words;
	const entry = Object.hasOwn(GROUPS, name) ? GROUPS[name] : undefined;
	if (entry) {
		const [group, { runGroup }] = await Promise.all([
			entry.load(),
			import("./command.ts"),
		]);
		return runGroup(group, rest);
	}
	if (name === "-h" || name === "--help") return printLine(help());
	if (name === "-v" || name === "--version") return printLine(await version());
	if (name === "")
		throw new UsageError("a command is needed; see vhostctl --help");
	const known = name.startsWith("-")
		? OPTIONS.flatMap(([usage]) => usage.split(", "))
		: Object.keys(GROUPS);
	const kind = name.startsWith("-") ? "option" : "command";
	throw new UsageError(`unknown ${kind} ${name}`, { given: name, known });
}

endWithReader();
try {
	await main(process.argv.slice(2));
} catch (error) {
	process.stderr.write(`${await describe(error)}\n`);
	process.exitCode = exitCode(error);
}
