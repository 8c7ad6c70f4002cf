// SPDX-License-Identifier: MIT
/** vhostctl serve: an instance, in the foreground. */
import process from "node:process";
import type { Context } from "../engine/control/methods/context.ts";
import type { Instance } from "../engine/control/takeover.ts";
import { rpcSocket } from "./attach.ts";
import { type Call, parseBdevSpec } from "./bdev-kinds.ts";
import type { Given, Group } from "./command.ts";
import { parseBlkSpec, parseScsiSpecs } from "./controller-specs.ts";
import { cpumask } from "./cpus.ts";
import { printLine } from "./output.ts";
import { defaultRpcSocket, defaultStateDir, makeRuntimeDir } from "./paths.ts";
import { onSignal } from "./signals.ts";
import { parseChoice } from "./size.ts";

const MODES = ["adaptive", "poll", "interrupt"] as const;
const LEVELS = ["error", "warning", "notice", "info", "debug"] as const;
const FORMATS = ["text", "json"] as const;

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
					usage: "--takeover",
					help: "Take over from the instance that has the control socket: all that it has, and its machines, which notice nothing",
				},
				{
					usage: "--postcopy",
					help: "Offer post-copy migration, with which a front end can make a reactor wait for ever",
				},
				{
					usage: "--log-level <level>",
					help: "error, warning, notice, info or debug (default: info)",
				},
				{
					usage: "--log-format <format>",
					help: "text for people, or json: an object on each line (default: text)",
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
	const { flushLog } = await import("../engine/engine.ts");
	const calls = [
		...given.list("bdev").map(parseBdevSpec),
		...given.list("blk").map(parseBlkSpec),
		...parseScsiSpecs(given.list("scsi")),
	];
	const ending = onSignal();
	try {
		const { engine, control } = given.flag("takeover")
			? await takeOverInstance(given, calls)
			: await startInstance(given, calls);
		printLine(`ready: ${control.path}`);
		const gone = control.handedOver.then(() => undefined);
		const signal = await Promise.race([ending.asked, gone]);
		if (signal) engine.log.notice(`ending on ${signal}`);
		await endInstance({ engine, control });
		flushLog(engine.log);
	} finally {
		ending.release();
	}
}

async function startInstance(
	given: Given,
	calls: readonly Call[],
): Promise<Instance> {
	const { startEngine } = await import("../engine/engine.ts");
	const { startControl } = await import("../engine/control/server.ts");
	const engine = await startEngine({
		...(await engineOptions(given)),
		socketDir: given.text("socket-dir") ?? makeRuntimeDir(),
		stateDir: given.text("state-dir") ?? defaultStateDir(),
	});
	try {
		// What the command line asks for is there before the first client is heard.
		await makeAll({ engine, kill }, calls);
		const control = await startControl(engine, { path: controlPath(given) });
		return { engine, control };
	} catch (error) {
		await engine.close();
		throw error;
	}
}

async function takeOverInstance(
	given: Given,
	calls: readonly Call[],
): Promise<Instance> {
	const { takeOver } = await import("../engine/control/takeover.ts");
	return takeOver({
		path: rpcSocket(given),
		anew: {
			...(await engineOptions(given)),
			socketDir: given.text("socket-dir"),
			stateDir: given.text("state-dir"),
		},
		kill,
		extend: (context) => makeAll(context, calls),
	});
}

/** Ends it, by a signal or because a successor serves: then that has the sockets. */
async function endInstance({ engine, control }: Instance): Promise<void> {
	const { leaveEngine } = await import("../engine/takeover/give.ts");
	let left = false;
	void control.handedOver.then(() => {
		left = true;
	});
	try {
		await control.close();
	} finally {
		await (left ? leaveEngine(engine) : engine.close());
	}
}

function kill(signal: NodeJS.Signals): void {
	process.kill(process.pid, signal);
}

async function makeAll(
	context: Context,
	calls: readonly Call[],
): Promise<void> {
	const { callMethod } = await import("../engine/control/methods.ts");
	for (const { method, params } of calls)
		await callMethod(context, method, params);
}

async function engineOptions(given: Given) {
	const { createLogger, parseCpumask } = await import("../engine/engine.ts");
	const cpus = given.text("cpumask");
	const choice = <T extends string>(option: string, choices: readonly T[]) =>
		given.parsed(option, (text, name) => parseChoice(text, name, choices));
	return {
		cpus: cpus === undefined ? undefined : parseCpumask(cpumask(cpus)),
		mode: choice("mode", MODES),
		postcopy: given.flag("postcopy"),
		log: createLogger({
			level: choice("log-level", LEVELS),
			format: choice("log-format", FORMATS),
		}),
	};
}

function controlPath(given: Given): string {
	const path = given.text("rpc-socket") ?? process.env.VHOSTCTL_SOCKET;
	if (path) return path;
	makeRuntimeDir();
	return defaultRpcSocket();
}
