// SPDX-License-Identifier: MIT
/**
 * A trace as a file that chrome://tracing and ui.perfetto.dev show: the object form of
 * the Trace Event Format. A ring is a process there. Slices of one thread must nest, so
 * requests that overlap are on threads of their own.
 */
import type { Request, Trace } from "./trace-report.ts";
import { begin, outcome } from "./trace-report.ts";

/** ts and dur are in microseconds. */
export type TraceEvent =
	| {
			readonly ph: "X";
			readonly name: string;
			readonly cat: string;
			readonly pid: number;
			readonly tid: number;
			readonly ts: number;
			readonly dur: number;
			readonly args?: Readonly<Record<string, unknown>>;
	  }
	| {
			readonly ph: "M";
			readonly name: "process_name" | "process_sort_index" | "thread_name";
			readonly pid: number;
			readonly tid: number;
			readonly args: Readonly<Record<string, string | number>>;
	  };

export interface ChromeTrace {
	readonly traceEvents: readonly TraceEvent[];
	readonly displayTimeUnit: "ns";
	readonly otherData: Readonly<Record<string, string>>;
}

/** By opcode: the first name, where service actions share one. */
type Names = ReadonlyMap<number, string>;

export async function chromeTrace(trace: Trace): Promise<ChromeTrace> {
	const { OPERATIONS } = await import("../engine/scsi/opcodes.ts");
	const names: Names = new Map(
		[...OPERATIONS].reverse().map(({ opcode, name }) => [opcode, name]),
	);
	return {
		traceEvents: trace.rings.flatMap((ring, i) =>
			ringEvents(trace, ring, i + 1, names),
		),
		displayTimeUnit: "ns",
		otherData: { clock: "CLOCK_MONOTONIC", controller: trace.ctrlr },
	};
}

function ringEvents(
	{ ctrlr }: Trace,
	{ ring, session, ended, requests }: Trace["rings"][number],
	pid: number,
	names: Names,
): TraceEvent[] {
	/** When each thread is free again. */
	const free: number[] = [];
	const sorted = [...requests].sort((a, b) => begin(a) - begin(b));
	const slices = sorted.flatMap((one) => {
		const found = free.findIndex((until) => until <= begin(one));
		const thread = found < 0 ? free.length : found;
		free[thread] = end(one);
		return requestEvents(one, pid, thread + 1, names);
	});
	const gone = ended === null ? "" : ", gone";
	const name = `${ctrlr} ring ${ring}, front end ${session}${gone}`;
	return [
		meta(pid, 0, "process_name", { name }),
		meta(pid, 0, "process_sort_index", { sort_index: pid }),
		...free.map((_, i) =>
			meta(pid, i + 1, "thread_name", { name: `requests ${i + 1}` }),
		),
		...slices,
	];
}

function meta(
	pid: number,
	tid: number,
	name: "process_name" | "process_sort_index" | "thread_name",
	args: Record<string, string | number>,
): TraceEvent {
	return { ph: "M", name, pid, tid, args };
}

function end(one: Request): number {
	const { called_ns, published_ns, completed_ns, taken_ns } = one;
	return called_ns ?? published_ns ?? completed_ns ?? taken_ns;
}

function requestEvents(
	one: Request,
	pid: number,
	tid: number,
	names: Names,
): TraceEvent[] {
	const slice = (
		name: string,
		from: number | null,
		to: number | null,
		args?: Record<string, unknown>,
	): TraceEvent[] =>
		from === null || to === null
			? []
			: [
					{
						ph: "X",
						name,
						cat: args ? "request" : "step",
						pid,
						tid,
						ts: from / 1000,
						dur: (to - from) / 1000,
						...(args && { args }),
					},
				];
	const { kicked_ns, taken_ns, submitted_ns, completed_ns } = one;
	const { offset, length, number, batch, head, scsi } = one;
	const args = { offset, length, result: outcome(one), number, batch, head };
	return [
		...slice(titleOf(one, names), begin(one), end(one), {
			...args,
			...(scsi && { scsi }),
		}),
		...slice("kick", kicked_ns, taken_ns),
		...slice("read", taken_ns, submitted_ns),
		...slice(
			one.up ? "answer" : "disk",
			submitted_ns ?? taken_ns,
			completed_ns,
		),
		...slice("end", completed_ns, one.published_ns),
		...slice("call", one.published_ns, one.called_ns),
	];
}

function titleOf({ op, offset, scsi }: Request, names: Names): string {
	if (op === "flush") return op;
	if (op !== "other") return `${op.replace("_", " ")} ${offset}`;
	const opcode = scsi?.opcode;
	if (opcode === undefined || opcode === null) return op;
	return names.get(opcode) ?? `command 0x${opcode.toString(16)}`;
}
