// SPDX-License-Identifier: MIT
/** vhostctl perf: drives any vhost-user-blk socket. */
import process from "node:process";
import { VhostctlError } from "../engine/errors.ts";
import type { PerfMode, PerfOptions, PerfRw } from "../engine/perf.ts";
import { type Given, type Group, JSON_OUTPUT } from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine } from "./output.ts";
import { progressLine } from "./progress.ts";
import {
	parseChoice,
	parseCount,
	parseSeconds,
	parseSize,
	quoted,
} from "./size.ts";

const RW: readonly PerfRw[] = [
	"read",
	"write",
	"randread",
	"randwrite",
	"randrw",
];
const MODES: readonly PerfMode[] = ["poll", "interrupt"];

export const perf: Group = {
	name: "perf",
	summary: "Drive a vhost-user-blk socket",
	commands: [
		{
			usage: "",
			summary:
				"Drive a vhost-user-blk socket: throughput, latency percentiles, verification",
			options: [
				{ usage: "--socket <path>", help: "The device's vhost-user socket" },
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
	const { runPerf } = await import("../engine/perf.ts");
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
				`${options.socket}: ${result.verifyErrors} of ${result.verified} blocks differ, the first at byte ${result.firstBad}`,
			);
		if (result.read.errors + result.write.errors > 0)
			throw new VhostctlError(
				"E_IO",
				`${options.socket}: ${result.read.errors} reads and ${result.write.errors} writes failed`,
			);
	} finally {
		progress.clear();
		process.off("SIGINT", stop);
		process.off("SIGTERM", stop);
	}
}

function read(given: Given): PerfOptions {
	const optional = <T>(
		name: string,
		parse: (text: string, name: string) => T,
	): T | undefined => {
		const text = given.text(name);
		return text === undefined ? undefined : parse(text, `--${name}`);
	};
	const count = (min: number, max?: number) => (text: string, name: string) =>
		parseCount(text, name, min, max);
	const verify = given.text("verify");
	if (verify !== undefined && verify !== "crc32c")
		throw new UsageError(`--verify is ${quoted(verify)}: there is crc32c`);
	const size = optional("size", parseSize);
	const seconds = optional("time", parseSeconds);
	const ios = optional("ios", count(1));
	const cpu = optional("cpu", count(0, 4095));
	return {
		socket: given.required("socket"),
		rw:
			optional("rw", (text, name) => parseChoice(text, name, RW)) ?? "randread",
		blockSize: optional("bs", parseSize) ?? 4096,
		iodepth: optional("iodepth", count(1, 1024)) ?? 32,
		queues: optional("queues", count(1, 256)) ?? 1,
		verify: verify !== undefined,
		mode:
			optional("mode", (text, name) => parseChoice(text, name, MODES)) ??
			"poll",
		...(size === undefined ? {} : { size }),
		...(seconds === undefined ? {} : { seconds }),
		...(ios === undefined ? {} : { ios }),
		...(cpu === undefined ? {} : { cpu }),
	};
}
