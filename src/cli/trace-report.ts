// SPDX-License-Identifier: MIT
/** The tables of vhostctl trace. */
import kleur from "kleur";
import type { Result } from "../engine/control/schema.ts";
import { type Column, table } from "./output.ts";

export type Trace = Result<"vhostctl_get_trace">;
type Ring = Trace["rings"][number];
export type Request = Ring["requests"][number];

const CHECK_CONDITION = 2;

/** A table for each ring that has requests. */
export async function report(trace: Trace): Promise<string> {
	const tables = await Promise.all(
		trace.rings
			.filter(({ requests }) => requests.length > 0)
			.map((ring) => ringTable(trace, ring)),
	);
	return tables.length > 0 ? tables.join("\n\n") : "no requests yet";
}

const left = (title: string): Column => ({ title });
const right = (title: string): Column => ({ title, right: true });

async function ringTable(trace: Trace, ring: Ring): Promise<string> {
	const { requests } = ring;
	const first = Math.min(...requests.map(begin));
	const scsi = requests.some((one) => one.scsi !== null);
	const columns = [
		right("seconds"),
		...(scsi ? [left("unit")] : []),
		left("op"),
		right("offset"),
		right("len"),
		left("result"),
		...["kick", "read", "disk", "end", "call"].map(right),
	];
	const rows = requests.map((one) => [
		((begin(one) - first) / 1e9).toFixed(6),
		...(scsi ? [unit(one)] : []),
		operation(one),
		one.op === "flush" || one.op === "other" ? "-" : String(one.offset),
		one.length > 0 ? length(one.length) : "-",
		outcome(one),
		...steps(one).map(micros),
	]);
	const gone = ring.ended === null ? "" : ", which is gone";
	const heading = `${trace.ctrlr}: ring ${ring.ring} of front end ${ring.session}${gone}, from ${wallClock(ring, first)}; steps in µs`;
	return `${kleur.bold().underline(heading)}\n${await table(columns, rows)}`;
}

/** When it was heard of first. */
export function begin(one: Request): number {
	return one.kicked_ns ?? one.taken_ns;
}

/** Of a moment, in ISO 8601 and UTC, with microseconds. */
function wallClock({ now, now_ns }: Ring, ns: number): string {
	const micros = Math.round(now * 1000 - (now_ns - ns) / 1000);
	const text = new Date(Math.floor(micros / 1000)).toISOString();
	return text.replace("Z", `${String(micros % 1000).padStart(3, "0")}Z`);
}

function unit({ scsi }: Request): string {
	return scsi === null || scsi.target === null
		? "-"
		: `${scsi.target}:${scsi.lun}`;
}

function operation({ op, scsi }: Request): string {
	if (op === "write_zeroes") return "zeroes";
	if (op !== "other" || scsi === null || scsi.opcode === null) return op;
	return `0x${scsi.opcode.toString(16).padStart(2, "0")}`;
}

/** Exact, with a unit if it is a multiple of one. */
function length(bytes: number): string {
	if (bytes % 1048576 === 0) return `${bytes / 1048576}M`;
	return bytes % 1024 === 0 ? `${bytes / 1024}K` : String(bytes);
}

const hex = (byte: number) => byte.toString(16).padStart(2, "0");

/** What the driver was told: of a SCSI command status and sense, else what went wrong. */
export function outcome({ result, scsi }: Request): string {
	if (scsi === null) return result;
	if (scsi.response !== 0) return `response ${scsi.response}`;
	if (scsi.status === CHECK_CONDITION)
		return `${hex(scsi.sense_key)}/${hex(scsi.asc)}/${hex(scsi.ascq)}`;
	return scsi.status === 0 ? result : `status ${hex(scsi.status)}`;
}

function between(from: number | null, to: number | null): number | undefined {
	return from === null || to === null ? undefined : to - from;
}

/** Nanoseconds of each; undefined: it did not happen, or is yet to. */
function steps(one: Request): (number | undefined)[] {
	const handed = one.submitted_ns ?? one.taken_ns;
	return [
		between(one.kicked_ns, one.taken_ns),
		between(one.taken_ns, one.submitted_ns),
		between(handed, one.completed_ns),
		between(one.completed_ns, one.published_ns),
		between(one.published_ns, one.called_ns),
	];
}

/** Four figures at least where there are that many. */
function micros(ns: number | undefined): string {
	if (ns === undefined) return "-";
	return (ns / 1000).toFixed(ns < 1e6 ? 1 : 0);
}
