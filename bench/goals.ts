// SPDX-License-Identifier: MIT
/** What the figures must come to, as ratios within one run. */
import { type Coalesced, callsOff, callsUnder } from "./coalescing.ts";
import type { Idle } from "./idle.ts";
import type { Feature, Instructions, Ring } from "./instructions.ts";
import { PACKED, type Pair } from "./pairs.ts";
import { type Limited, offBy } from "./qos.ts";
import type { Start } from "./start.ts";
import type { Measurement } from "./workloads.ts";

export interface Results {
	/** By target, then by workload. */
	readonly measured: Map<string, Map<string, Measurement>>;
	/** Of the device's side for each request, by the kind of controller. */
	readonly instructions?: Instructions;
	readonly idle?: Idle;
	/** What features cost. */
	readonly pairs?: readonly Pair[];
	readonly start?: Start;
	readonly coalesced?: readonly Coalesced[];
	readonly limited?: readonly Limited[];
}

export interface Goal {
	readonly name: string;
	/** NaN: not measured. */
	readonly value: number;
	readonly limit: number;
	/** Whether the value is to be the limit or more, or the limit or less. */
	readonly sense: "at least" | "at most";
	readonly unit: string;
}

export function isMet({ value, limit, sense }: Goal): boolean {
	return sense === "at least" ? value >= limit : value <= limit;
}

/** How far a value is from its limit, in percent of the limit. */
export function missedBy({ value, limit }: Goal): number {
	return (Math.abs(value - limit) / limit) * 100;
}

export const OURS = {
	nothing: "null",
	nothingScsi: "null, scsi",
	malloc: "malloc",
	mallocScsi: "malloc, scsi",
	memoryFile: "file, tmpfs",
	diskFile: "file, disk, O_DIRECT",
} as const;

export const THEIRS = {
	nothing: "qemu null-co",
	memoryFile: "qemu file, tmpfs",
	diskFile: "fio io_uring, disk",
	copy: "copy loop",
	pingPong: "ping-pong",
} as const;

function iops(results: Results, target: string, workload: string): number {
	return results.measured.get(target)?.get(workload)?.iops ?? Number.NaN;
}

function ratio(
	results: Results,
	ours: string,
	theirs: string,
	workload: string,
): number {
	return iops(results, ours, workload) / iops(results, theirs, workload);
}

const atLeast = (name: string, value: number, limit: number): Goal => ({
	name,
	value,
	limit,
	sense: "at least",
	unit: "×",
});

const atMost = (
	name: string,
	value: number,
	limit: number,
	unit: string,
): Goal => ({ name, value, limit, sense: "at most", unit });

/** Of blk's rate on the same kind of disk, for what SCSI has more in a request. */
const SCSI_SHARE = 0.85;
const SCSI_INSTRUCTIONS = 220;

/** Packed rings are no slower than the noise. */
const PACKED_SHARE = 0.95;

function packedGoals({ pairs = [] }: Results): Goal[] {
	return pairs
		.filter(({ contrast }) => contrast === PACKED)
		.map(({ disk, contrast, ratio }) =>
			atLeast(`${disk}: ${contrast}`, ratio, PACKED_SHARE),
		);
}

/** Tracking requests in flight costs under 5%, a trace what docs/architecture.md says. */
const INFLIGHT_COST = 1.05;
const TRACE_MORE: readonly [Ring, number][] = [
	["split", 38],
	["split, scsi", 46],
];

function instructionGoals({ instructions }: Results): Goal[] {
	const count = (ring: Ring, what: "plain" | Feature) =>
		instructions?.[ring][what] ?? Number.NaN;
	const goal = (what: string, value: number, limit: number, unit: string) =>
		atMost(`instructions an I/O: ${what}`, value, limit, unit);
	const tracked: readonly Ring[] = ["split", "packed"];
	return [
		goal("split", count("split", "plain"), 180, ""),
		goal("split, scsi", count("split, scsi", "plain"), SCSI_INSTRUCTIONS, ""),
		...tracked.map((ring) => {
			const ratio = count(ring, "inflight") / count(ring, "plain");
			return goal(`${ring}, in-flight on / off`, ratio, INFLIGHT_COST, "×");
		}),
		...TRACE_MORE.map(([ring, most]) => {
			const more = count(ring, "trace") - count(ring, "plain");
			return goal(`${ring}, more for a trace`, more, most, "");
		}),
	];
}

/** Of calls: under a threshold as without, above it what the rule's delay leaves. */
const CALLS_UNDER = 0.9;
const CALLS_OFF = 20;

function coalescingGoals({ coalesced = [] }: Results): Goal[] {
	const off = callsOff(coalesced);
	return [
		atLeast(
			"coalescing: calls an I/O under the threshold, by those without",
			callsUnder(coalesced),
			CALLS_UNDER,
		),
		atMost("coalescing: calls above it, off the rule by", off, CALLS_OFF, "%"),
	];
}

/** What a limit says, to so many percent over a second. */
const LIMIT_OFF_BY = 2;

function limitGoals({ limited = [] }: Results): Goal[] {
	return limited.map((one) => {
		const name = `limit of ${one.limit} ${one.unit}: off by`;
		return atMost(name, offBy(one), LIMIT_OFF_BY, "%");
	});
}

export function goals(results: Results): Goal[] {
	const against = (ours: string, theirs: string, load: string, limit: number) =>
		atLeast(
			`${ours} / ${theirs}, ${load}`,
			ratio(results, ours, theirs, load),
			limit,
		);
	const { idle, start } = results;
	const trip = (target: string) =>
		results.measured.get(target)?.get("4K randread 1")?.p50 ?? Number.NaN;
	const lost = idle ? (1 - idle.busyBeside / idle.busyAlone) * 100 : Number.NaN;
	return [
		against(OURS.malloc, THEIRS.copy, "4K randread 32", 1),
		against(OURS.malloc, THEIRS.copy, "4K randread 128", 1),
		...["4K randread 32", "4K randread 128"].flatMap((load) => [
			against(OURS.nothingScsi, OURS.nothing, load, SCSI_SHARE),
			against(OURS.mallocScsi, OURS.malloc, load, SCSI_SHARE),
		]),
		...instructionGoals(results),
		...packedGoals(results),
		...coalescingGoals(results),
		...limitGoals(results),
		against(OURS.nothing, THEIRS.nothing, "4K randread 128", 6),
		atMost(
			"null / ping-pong: median round trip at depth 1",
			trip(OURS.nothing) / trip(THEIRS.pingPong),
			2.5,
			"×",
		),
		against(OURS.memoryFile, THEIRS.memoryFile, "4K randread 32", 3),
		against(OURS.diskFile, THEIRS.diskFile, "4K randread 32", 1),
		against(OURS.diskFile, THEIRS.diskFile, "4K randread 128", 1),
		atMost(
			"processor time, 64 controllers idle",
			idle ? idle.cpuPerSecond / 1e7 : Number.NaN,
			0.1,
			"%",
		),
		atMost("busy controller's loss beside 64 idle ones", lost, 5, "%"),
		atMost(
			"serve: ready after",
			start ? start.seconds * 1000 : Number.NaN,
			300,
			" ms",
		),
		atMost(
			"serve: ready after, by a start of Node alone",
			start ? start.seconds / start.nodeSeconds : Number.NaN,
			3,
			"×",
		),
		atMost(
			"serve: resident memory",
			start ? start.bytes / 1e6 : Number.NaN,
			120,
			" MB",
		),
	];
}
