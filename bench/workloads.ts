// SPDX-License-Identifier: MIT
/** What is asked of each target, and what a measurement says. */

export interface Workload {
	readonly name: string;
	readonly rw: "randread" | "randwrite" | "read";
	readonly blockSize: number;
	readonly depth: number;
}

const random = (rw: "randread" | "randwrite", depth: number): Workload => ({
	name: `4K ${rw} ${depth}`,
	rw,
	blockSize: 4096,
	depth,
});

export const DEPTHS = [1, 32, 128] as const;

export const WORKLOADS: readonly Workload[] = [
	...DEPTHS.map((depth) => random("randread", depth)),
	...DEPTHS.map((depth) => random("randwrite", depth)),
	{ name: "128K read 32", rw: "read", blockSize: 128 * 1024, depth: 32 },
];

/** Times are in nanoseconds; what cannot be known is undefined. */
export interface Measurement {
	readonly iops: number;
	readonly bytesPerSecond: number;
	readonly mean?: number;
	readonly p50?: number;
	readonly p99?: number;
	readonly p999?: number;
	/** Processor time of the target for each request. */
	readonly cpuPerIo?: number;
}

interface FioDirection {
	readonly iops: number;
	readonly bw_bytes: number;
	readonly total_ios: number;
	readonly clat_ns: {
		readonly mean: number;
		readonly percentile?: Record<string, number>;
	};
}

interface FioReport {
	readonly jobs: readonly {
		readonly read: FioDirection;
		readonly write: FioDirection;
	}[];
}

/** Reads what fio, and perf with --json, print. cpu: the target's, over the whole run. */
export function parseFio(
	text: string,
	workload: Workload,
	cpu?: number,
): Measurement {
	const report: FioReport = JSON.parse(text);
	const job = report.jobs[0];
	const of = workload.rw === "randwrite" ? job?.write : job?.read;
	if (!of || of.total_ios === 0)
		throw new Error(`no requests: ${workload.name}`);
	const at = (percent: string) => of.clat_ns.percentile?.[percent];
	const percentiles = {
		p50: at("50.000000"),
		p99: at("99.000000"),
		p999: at("99.900000"),
	};
	return {
		iops: of.iops,
		bytesPerSecond: of.bw_bytes,
		mean: of.clat_ns.mean,
		...Object.fromEntries(
			Object.entries(percentiles).filter(([, value]) => value !== undefined),
		),
		...(cpu === undefined || Number.isNaN(cpu)
			? {}
			: { cpuPerIo: cpu / of.total_ios }),
	};
}
