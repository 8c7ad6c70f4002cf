// SPDX-License-Identifier: MIT
/** vhostctl serve: an instance, in the foreground. */
import process from "node:process";
import { parseBdevSpec } from "./bdev-kinds.ts";
import type { Given, Group } from "./command.ts";
import { parseBlkSpec, parseScsiSpecs } from "./controller-specs.ts";
import { cpumask } from "./cpus.ts";
import { printLine } from "./output.ts";
import { defaultRpcSocket, defaultStateDir, makeRuntimeDir } from "./paths.ts";
import { onSignal } from "./signals.ts";
import { parseChoice } from "./size.ts";

const MODES = ["adaptive", "poll", "interrupt"] as const;
const LEVELS = ["error", "warning", "info", "debug"] as const;

export const serve: Group = {
	name: "serve",
	summary: "Run an instance: serve disks to virtual machines",
	commands: [
		{
			usage: "",
			summary:
				"Run an instance in the foreground: serve disks to virtual machines",
			options: [
				{
					usage: "-S, --socket-dir <dir>",
					help: "Directory of the controllers' sockets (default: see vhostctl(1))",
				},
				{
					usage: "-r, --rpc-socket <path>",
					help: "Control socket (default: $VHOSTCTL_SOCKET, or see vhostctl(1))",
				},
				{
					usage: "-m, --cpumask <cpus>",
					help: "Processors to run on, as 0x3, [0,2-3] or 0,2-3 (default: the first allowed)",
				},
				{
					usage: "--mode <mode>",
					help: "Without work: adaptive polls a moment, then sleeps; poll never sleeps; interrupt never polls (default: adaptive)",
				},
				{
					usage: "--state-dir <dir>",
					help: "Directory of what outlives the instance: persistent reservations (default: see vhostctl(1))",
				},
				{
					usage: "--log-level <level>",
					help: "error, warning, info or debug (default: info)",
				},
				{
					usage: "--bdev <spec>",
					help: "Create a bdev: malloc:name=disk0,size=1G or file:name=disk1,path=/srv/disk1.img; repeatable",
					repeats: true,
				},
				{
					usage: "--blk <spec>",
					help: "Create a vhost-user-blk controller: vm0=disk0 or vm0=disk0,readonly,cpumask=0x1; repeatable",
					repeats: true,
				},
				{
					usage: "--scsi <spec>",
					help: "Create a vhost-user-scsi controller, or add a target to it: vm0=disk0 or vm0=disk1,target=3,lun=1; repeatable",
					repeats: true,
				},
			],
			example:
				"vhostctl serve --bdev malloc:name=disk0,size=1G --blk vm0=disk0",
			run,
		},
	],
};

async function run(given: Given): Promise<void> {
	const calls = [
		...given.list("bdev").map(parseBdevSpec),
		...given.list("blk").map(parseBlkSpec),
		...parseScsiSpecs(given.list("scsi")),
	];
	const { createLogger, parseCpumask, startEngine } = await import(
		"../engine/engine.ts"
	);
	const { startControl } = await import("../engine/control/server.ts");
	const { callMethod } = await import("../engine/control/methods.ts");
	const level = parseChoice(
		given.text("log-level") ?? "info",
		"--log-level",
		LEVELS,
	);
	const log = createLogger(level);
	const cpus = given.text("cpumask");
	const ending = onSignal();
	const engine = await startEngine({
		socketDir: given.text("socket-dir") ?? makeRuntimeDir(),
		stateDir: given.text("state-dir") ?? defaultStateDir(),
		cpus: cpus === undefined ? undefined : parseCpumask(cpumask(cpus)),
		mode: parseChoice(given.text("mode") ?? "adaptive", "--mode", MODES),
		log,
	});
	try {
		const kill = (signal: NodeJS.Signals) =>
			void process.kill(process.pid, signal);
		// What the command line asks for is there before the first client is heard.
		for (const { method, params } of calls)
			await callMethod({ engine, kill }, method, params);
		const control = await startControl(engine, { path: controlPath(given) });
		printLine(`ready: ${control.path}`);
		log.info(`ending on ${await ending.asked}`);
		await control.close();
	} finally {
		await engine.close();
		ending.release();
	}
}

function controlPath(given: Given): string {
	const path = given.text("rpc-socket") ?? process.env.VHOSTCTL_SOCKET;
	if (path) return path;
	makeRuntimeDir();
	return defaultRpcSocket();
}
