// SPDX-License-Identifier: MIT
/** What perf prints: fio's JSON, and a summary for people. */
import { type PerfOptions, type PerfResult, perfDisk } from "../engine/perf.ts";
import {
	bucketHigh,
	bucketLow,
	latencyRange,
	type OpStats,
	percentiles,
} from "../engine/stats.ts";
import { version } from "../engine/version.ts";
import { type Column, table } from "./output.ts";
import { formatNs, formatRate, formatSize } from "./size.ts";

/** fio's percentile_list when none is asked for. */
const PERCENTILES = [
	1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99,
];

/** What fio calls an error of verification: EILSEQ. */
const EILSEQ = 84;
const EIO = 5;

/** The result in the structure and with the field names of `fio --output-format=json`. */
export function fioReport(options: PerfOptions, result: PerfResult): object {
	const seconds = result.elapsedNs / 1e9;
	const failed = result.read.errors + result.write.errors > 0;
	const now = Date.now();
	return {
		"fio version": `vhostctl-${version()}`,
		timestamp: Math.floor(now / 1000),
		timestamp_ms: now,
		time: new Date(now).toString(),
		jobs: [
			{
				jobname: "vhostctl",
				groupid: 0,
				error: result.verifyErrors > 0 ? EILSEQ : failed ? EIO : 0,
				eta: 0,
				elapsed: Math.ceil(seconds),
				"job options": jobOptions(options),
				read: fioDirection(result.read, seconds),
				write: fioDirection(result.write, seconds),
				job_runtime: Math.round(seconds * 1000),
				usr_cpu: percent(result.userCpuNs, result.elapsedNs),
				sys_cpu: percent(result.systemCpuNs, result.elapsedNs),
				total_err: result.read.errors + result.write.errors,
				verified_blocks: result.verified,
				verify_errors: result.verifyErrors,
			},
		],
	};
}

function jobOptions(options: PerfOptions): Record<string, string> {
	return {
		socket: options.socket,
		...(options.unit === undefined
			? {}
			: {
					target: String(options.unit.target),
					lun: String(options.unit.lun),
				}),
		rw: options.rw,
		bs: String(options.blockSize),
		iodepth: String(options.iodepth),
		queues: String(options.queues),
		mode: options.mode,
		...(options.rate === undefined ? {} : { rate_iops: String(options.rate) }),
		...(options.size === undefined ? {} : { size: String(options.size) }),
		...(options.seconds === undefined
			? {}
			: { runtime: String(options.seconds) }),
		...(options.ios === undefined ? {} : { number_ios: String(options.ios) }),
		...(options.verify ? { verify: "crc32c" } : {}),
	};
}

function fioDirection(op: OpStats, seconds: number): object {
	const perSecond = (count: number) => (seconds > 0 ? count / seconds : 0);
	const latency = fioLatency(op);
	return {
		io_bytes: op.bytes,
		io_kbytes: Math.floor(op.bytes / 1024),
		bw_bytes: Math.floor(perSecond(op.bytes)),
		bw: Math.floor(perSecond(op.bytes) / 1024),
		iops: perSecond(op.count),
		runtime: op.count > 0 ? Math.round(seconds * 1000) : 0,
		total_ios: op.count,
		short_ios: 0,
		drop_ios: 0,
		clat_ns: latency,
		lat_ns: latency,
	};
}

/** All but mean and N are exact to a bucket of the histogram, 3.2%. */
function fioLatency(op: OpStats): object {
	const mean = op.count > 0 ? op.latencyNs / op.count : 0;
	const values = percentiles(op.hist, PERCENTILES);
	return {
		...latencyRange(op.hist),
		mean,
		stddev: deviation(op, mean),
		N: op.count,
		percentile: Object.fromEntries(
			PERCENTILES.map((percent, i) => [percent.toFixed(6), values[i]]),
		),
	};
}

function deviation({ hist, count }: OpStats, mean: number): number {
	const squares = hist.reduce((sum, n, i) => {
		const distance = (bucketLow(i) + bucketHigh(i)) / 2 - mean;
		return n === 0 ? sum : sum + n * distance ** 2;
	}, 0);
	return count > 0 ? Math.sqrt(squares / count) : 0;
}

const COLUMNS: readonly Column[] = [
	{ title: "" },
	{ title: "requests", right: true },
	{ title: "IOPS", right: true },
	{ title: "throughput", right: true },
	{ title: "mean", right: true },
	{ title: "p50", right: true },
	{ title: "p99", right: true },
	{ title: "p99.9", right: true },
	{ title: "max", right: true },
];

/** A few lines for people. */
export async function summary(
	options: PerfOptions,
	result: PerfResult,
): Promise<string> {
	const seconds = result.elapsedNs / 1e9;
	const directions: [string, OpStats][] = [
		["read", result.read],
		["write", result.write],
	];
	const rows = directions
		.filter(([, { count }]) => count > 0)
		.map(([name, op]) => row(name, op, seconds));
	const rate = options.rate === undefined ? "" : `, rate ${options.rate}`;
	const shape = `${options.rw}, ${formatSize(options.blockSize)}, depth ${options.iodepth}, ${plural(options.queues, "queue")}${rate}, ${options.mode}`;
	const lines = [
		`${perfDisk(options)}: ${shape}, ${seconds.toFixed(2)} s`,
		await table(COLUMNS, rows),
		`cpu: ${percent(result.userCpuNs, result.elapsedNs).toFixed(0)}% user, ${percent(result.systemCpuNs, result.elapsedNs).toFixed(0)}% system`,
	];
	if (options.verify)
		lines.push(
			`verified: ${plural(result.verified, "block")}, ${result.verifyErrors} bad`,
		);
	return lines.join("\n");
}

function row(name: string, op: OpStats, seconds: number): string[] {
	return [
		name,
		String(op.count),
		formatRate(op.count / seconds),
		`${formatSize(Math.round(op.bytes / seconds))}/s`,
		formatNs(op.latencyNs / op.count),
		...percentiles(op.hist, [50, 99, 99.9]).map(formatNs),
		formatNs(latencyRange(op.hist).max),
	];
}

function plural(count: number, noun: string): string {
	return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function percent(part: number, whole: number): number {
	return whole > 0 ? (part / whole) * 100 : 0;
}
