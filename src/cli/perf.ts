// SPDX-License-Identifier: MIT
/** vhostctl perf: drives any vhost-user-blk or vhost-user-scsi socket. */
import process from "node:process";
import { VhostctlError } from "../engine/errors.ts";
import type { PerfMode, PerfOptions, PerfRw } from "../engine/perf.ts";
import { MAX_LUN, MAX_TARGET } from "../engine/virtio/scsi-address.ts";
import { type Given, type Group, JSON_OUTPUT } from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine } from "./output.ts";
import { progressLine } from "./progress.ts";
import { count, parseChoice, parseSeconds, parseSize, quoted } from "./size.ts";

const RW: readonly PerfRw[] = [
	"read",
	"write",
	"randread",
	"randwrite",
	"randrw",
];
const MAX_RATE = 1_000_000_000;
const MODES: readonly PerfMode[] = ["poll", "interrupt"];

export const perf: Group = {
	name: "perf",
	summary: "Drive a vhost-user-blk or vhost-user-scsi socket",
	commands: [
		{
			usage: "",
			summary:
				"Drive a vhost-user-blk or vhost-user-scsi socket: throughput, latency percentiles, verification",
			options: [
				{ usage: "--socket <path>", help: "The device's vhost-user socket" },
				{
					usage: "--target <n>",
					help: `The socket is a vhost-user-scsi one: drive this target, 0 to ${MAX_TARGET}`,
				},
				{
					usage: "--lun <n>",
					help: `With --target: logical unit, 0 to ${MAX_LUN} (default: 0)`,
				},
				{
					usage: "--rw <pattern>",
					help: "read, write, randread, randwrite or randrw (default: randread)",
				},
				{ usage: "--bs <size>", help: "Bytes a request (default: 4K)" },
				{
					usage: "--iodepth <n>",
					help: "Requests in flight on each queue (default: 32)",
				},
				{ usage: "--queues <n>", help: "Queues to drive (default: 1)" },
				{
					usage: "--rate <n>",
					help: "Requests a second of all queues, evenly spaced (default: as many as go)",
				},
				{
					usage: "--size <size>",
					help: "Bytes of the device to use, from its start (default: all)",
				},
				{
					usage: "--time <time>",
					help: "Stop after this long, as 10, 10s, 500ms or 2m",
				},
				{
					usage: "--ios <n>",
					help: "Stop after so many requests (default without --time: once over --size)",
				},
				{
					usage: "--verify <kind>",
					help: "crc32c: write checksummed blocks, read them back and check",
				},
				{
					usage: "--mode <mode>",
					help: "poll or interrupt: how to wait for completions (default: poll)",
				},
				{
					usage: "--split",
					help: "Split rings (default: packed, if the device offers them)",
				},
				{
					usage: "--inflight",
					help: "Have the device keep what it works on in memory that outlives it",
				},
				{
					usage: "--log-dirty",
					help: "Have the device mark the memory that it writes, as in a migration",
				},
				{
					usage: "--reconnect <time>",
					help: "With --inflight: wait so long for a device that went away, and go on",
				},
				{ usage: "--cpu <n>", help: "Processor to pin the load's thread to" },
				{ ...JSON_OUTPUT, help: "Print JSON with fio's field names" },
			],
			example:
				"vhostctl perf --socket /run/vhostctl/vm0 --rw randread --bs 4K --iodepth 32 --time 10",
			run,
		},
	],
};

async function run(given: Given): Promise<void> {
	const options = read(given);
	const { perfDisk, runPerf } = await import("../engine/perf.ts");
	const { fioReport, summary } = await import("./perf-report.ts");
	const stopped = new AbortController();
	const stop = () => stopped.abort();
	process.once("SIGINT", stop);
	process.once("SIGTERM", stop);
	const progress = progressLine(process.stderr);
	try {
		const result = await runPerf(
			{ ...options, signal: stopped.signal },
			progress.show,
		);
		progress.clear();
		if (given.flag("json")) printJson(fioReport(options, result));
		else printLine(await summary(options, result));
		if (result.verifyErrors > 0)
			throw new VhostctlError(
				"E_VERIFY",
				`${perfDisk(options)}: ${result.verifyErrors} of ${result.verified} blocks differ, the first at byte ${result.firstBad}`,
			);
		if (result.read.errors + result.write.errors > 0)
			throw new VhostctlError(
				"E_IO",
				`${perfDisk(options)}: ${result.read.errors} reads and ${result.write.errors} writes failed`,
			);
	} finally {
		progress.clear();
		process.off("SIGINT", stop);
		process.off("SIGTERM", stop);
	}
}

function read(given: Given): PerfOptions {
	const verify = given.text("verify");
	if (verify !== undefined && verify !== "crc32c")
		throw new UsageError(`--verify is ${quoted(verify)}: there is crc32c`);
	const size = given.parsed("size", parseSize);
	const rate = given.parsed("rate", count(1, MAX_RATE));
	const seconds = given.parsed("time", parseSeconds);
	const ios = given.parsed("ios", count(1));
	const cpu = given.parsed("cpu", count(0, 4095));
	const reconnectSeconds = given.parsed("reconnect", parseSeconds);
	const inflight = given.flag("inflight");
	if (reconnectSeconds !== undefined && !inflight)
		throw new UsageError("--reconnect goes with --inflight");
	const target = given.parsed("target", count(0, MAX_TARGET));
	const lun = given.parsed("lun", count(0, MAX_LUN));
	if (target === undefined && lun !== undefined)
		throw new UsageError("--lun goes with --target");
	return {
		socket: given.required("socket"),
		rw:
			given.parsed("rw", (text, name) => parseChoice(text, name, RW)) ??
			"randread",
		blockSize: given.parsed("bs", parseSize) ?? 4096,
		iodepth: given.parsed("iodepth", count(1, 1024)) ?? 32,
		queues: given.parsed("queues", count(1, 256)) ?? 1,
		verify: verify !== undefined,
		split: given.flag("split"),
		inflight,
		logDirty: given.flag("log-dirty"),
		...(reconnectSeconds === undefined ? {} : { reconnectSeconds }),
		mode:
			given.parsed("mode", (text, name) => parseChoice(text, name, MODES)) ??
			"poll",
		...(target === undefined ? {} : { unit: { target, lun: lun ?? 0 } }),
		...(rate === undefined ? {} : { rate }),
		...(size === undefined ? {} : { size }),
		...(seconds === undefined ? {} : { seconds }),
		...(ios === undefined ? {} : { ios }),
		...(cpu === undefined ? {} : { cpu }),
	};
}
