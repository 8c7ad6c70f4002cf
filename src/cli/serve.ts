// SPDX-License-Identifier: MIT
/** vhostctl serve: an instance, in the foreground. */
import { parseBdevSpec } from "./bdev-kinds.ts";
import type { Given, Group } from "./command.ts";
import { parseBlkSpec, parseScsiSpecs } from "./controller-specs.ts";
import { UsageError } from "./errors.ts";
import { printLine } from "./output.ts";
import { metricsOptions, startMetrics } from "./serve-metrics.ts";
import { onSignal } from "./signals.ts";

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
					usage: "-c, --config <file>",
					help: "Make what a configuration has, SPDK's or of config save: all or nothing",
				},
				{
					usage: "--state <file>",
					help: "Keep all that the instance has in a file, and make what it has at the next start",
				},
				{
					usage: "--wait-for-rpc",
					help: "Make nothing, and allow few methods, before framework_start_init is called",
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
					usage: "--metrics <address>",
					help: "Answer Prometheus at host:port, [v6]:port, :port (this host only), or a Unix socket's path with a slash in it",
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
	if (given.flag("takeover") && given.flag("wait-for-rpc"))
		throw new UsageError("--takeover and --wait-for-rpc exclude each other");
	const calls = [
		...given.list("bdev").map(parseBdevSpec),
		...given.list("blk").map(parseBlkSpec),
		...parseScsiSpecs(given.list("scsi")),
	];
	const metrics = metricsOptions(given);
	const ending = onSignal();
	try {
		const start = await import("./serve-start.ts");
		const { flushLog } = await import("../engine/engine.ts");
		const running = given.flag("takeover")
			? await start.takeOverInstance(given, calls)
			: await start.startInstance(given, calls);
		const { engine, control } = running;
		try {
			const exporter = metrics && (await startMetrics(engine, metrics));
			printLine(`ready: ${control.path}`);
			const gone = control.handedOver.then(() => undefined);
			const signal = await Promise.race([ending.asked, gone]);
			if (signal) engine.log.notice(`ending on ${signal}`);
			await exporter?.close();
		} finally {
			await start.endInstance(running);
			flushLog(engine.log);
		}
	} finally {
		ending.release();
	}
}
