// SPDX-License-Identifier: MIT
/** The tables of vhostctl stats. */
import kleur from "kleur";
import type { Result } from "../engine/control/schema.ts";
import { type Column, table } from "./output.ts";
import { formatNs, formatRate, formatSize } from "./size.ts";

export type Snapshot = Result<"vhostctl_get_stats">;

type Operations = Snapshot["bdevs"][number]["ops"];
type Operation = Operations["read"];

/** Without `before` counts and shares since the start; with it rates since then. */
export async function report(
	now: Snapshot,
	before: Snapshot | undefined,
): Promise<string> {
	const seconds = before && (now.uptime_ns - before.uptime_ns) / 1e9;
	const tables = [
		await reactors(now, before),
		await bdevs(now, before, seconds),
		await logicalUnits(now),
		await rings(now, before, seconds),
	];
	return tables.filter((text) => text !== "").join("\n\n");
}

const left = (title: string): Column => ({ title });
const right = (title: string): Column => ({ title, right: true });

function heading(title: string, body: string): string {
	return `${kleur.bold().underline(title)}\n${body}`;
}

async function reactors(
	now: Snapshot,
	before: Snapshot | undefined,
): Promise<string> {
	const columns = [
		left("reactor"),
		right("cpu"),
		left("mode"),
		right("busy"),
		right("asleep"),
		right("rings"),
		right("polled"),
	];
	const rows = now.reactors.map((one) => {
		const old = before?.reactors.find(({ id }) => id === one.id);
		const busy = one.busy_ns - (old?.busy_ns ?? 0);
		const idle = one.idle_ns - (old?.idle_ns ?? 0);
		const asleep = one.sleep_ns - (old?.sleep_ns ?? 0);
		return [
			String(one.id),
			String(one.cpu),
			one.mode,
			share(busy, busy + idle),
			share(asleep, busy + idle),
			String(one.rings),
			String(one.polled),
		];
	});
	return heading("Reactors", await table(columns, rows));
}

async function bdevs(
	now: Snapshot,
	before: Snapshot | undefined,
	seconds: number | undefined,
): Promise<string> {
	if (now.bdevs.length === 0) return "";
	const rows = now.bdevs.flatMap(({ name, ops }) => {
		const old = before?.bdevs.find((one) => one.name === name)?.ops;
		return operationRows([name], ops, old, seconds);
	});
	const columns = [left("bdev"), ...operationColumns(seconds)];
	return heading("Bdevs", await table(columns, rows));
}

async function logicalUnits(now: Snapshot): Promise<string> {
	const rows = now.controllers.flatMap(({ ctrlr, luns }) =>
		luns.map(({ target, lun, bdev }) => [
			ctrlr,
			String(target),
			String(lun),
			bdev,
		]),
	);
	if (rows.length === 0) return "";
	const columns = [
		left("controller"),
		right("target"),
		right("lun"),
		left("bdev"),
	];
	return heading("Logical units", await table(columns, rows));
}

async function rings(
	now: Snapshot,
	before: Snapshot | undefined,
	seconds: number | undefined,
): Promise<string> {
	if (now.controllers.length === 0) return "";
	const rows = now.controllers.flatMap((controller) => {
		const old = before?.controllers.find(
			({ ctrlr }) => ctrlr === controller.ctrlr,
		);
		return controllerRows(controller, old, seconds);
	});
	const columns = [
		left("controller"),
		left("serves"),
		right("front end"),
		left("ring"),
		right("reactor"),
		left("state"),
		right(seconds === undefined ? "kicks" : "kicks/s"),
		right(seconds === undefined ? "calls" : "calls/s"),
		right("in flight"),
	];
	return heading("Controllers", await table(columns, rows));
}

type Controller = Snapshot["controllers"][number];
type Ring = Controller["sessions"][number]["rings"][number];

function controllerRows(
	controller: Controller,
	before: Controller | undefined,
	seconds: number | undefined,
): string[][] {
	const who = [controller.ctrlr, served(controller)];
	const rows = controller.sessions.flatMap(({ id, rings }) => {
		const old = before?.sessions.find((session) => session.id === id);
		return rings.map((ring) => {
			const was = old?.rings.find(({ index }) => index === ring.index);
			const name = ringName(controller, ring.index);
			return [...who, String(id), name, ...ringCells(ring, was, seconds)];
		});
	});
	return rows.length > 0
		? rows
		: [[...who, "-", "-", "-", idleState(controller), "", "", ""]];
}

function idleState({ started }: Controller): string {
	return started ? "not connected" : "not started";
}

/** The bdev of a blk controller; of a scsi controller how many it has. */
function served({ kind, bdev, luns }: Controller): string {
	if (kind !== "scsi") return bdev ?? "(gone)";
	return `${luns.length} ${luns.length === 1 ? "unit" : "units"}`;
}

/** Two rings of a scsi controller have no I/O requests (virtio 5.6.2). */
function ringName({ kind }: Controller, index: number): string {
	const names = kind === "scsi" ? ["control", "event"] : [];
	const name = names[index];
	return name === undefined ? String(index) : `${index} ${name}`;
}

function ringCells(
	ring: Ring,
	before: Ring | undefined,
	seconds: number | undefined,
): string[] {
	const state = ring.broken ? "broken" : ring.running ? "running" : "stopped";
	return [
		ring.reactor === null ? "-" : String(ring.reactor),
		state,
		counted(ring.kicks, before?.kicks, seconds),
		counted(ring.calls, before?.calls, seconds),
		String(ring.inflight),
	];
}

function operationColumns(seconds: number | undefined): Column[] {
	const live = seconds !== undefined;
	return [
		left("operation"),
		right(live ? "IOPS" : "requests"),
		right(live ? "throughput" : "bytes"),
		right("errors"),
		right("mean"),
		right("p50"),
		right("p99"),
	];
}

/** A row for each kind of request that occurred; one at least. */
function operationRows(
	names: string[],
	ops: Operations,
	before: Operations | undefined,
	seconds: number | undefined,
): string[][] {
	const kinds = Object.entries(ops) as [keyof Operations, Operation][];
	const rows = kinds
		.filter(([, { count }]) => count > 0)
		.map(([kind, op]) => [
			...names,
			kind.replace("_", " "),
			...operationCells(op, before?.[kind], seconds),
		]);
	return rows.length > 0
		? rows
		: [[...names, "-", "0", "0 B", "0", "", "", ""]];
}

function operationCells(
	op: Operation,
	before: Operation | undefined,
	seconds: number | undefined,
): string[] {
	const count = op.count - (before?.count ?? 0);
	const bytes = op.bytes - (before?.bytes ?? 0);
	const latency = op.latency_ns - (before?.latency_ns ?? 0);
	return [
		seconds === undefined ? String(op.count) : formatRate(count / seconds),
		seconds === undefined
			? formatSize(op.bytes)
			: `${formatSize(Math.round(bytes / seconds))}/s`,
		String(op.errors),
		count > 0 ? formatNs(latency / count) : "-",
		formatNs(op.p50_ns),
		formatNs(op.p99_ns),
	];
}

function counted(
	now: number,
	before: number | undefined,
	seconds: number | undefined,
): string {
	return seconds === undefined
		? String(now)
		: formatRate((now - (before ?? 0)) / seconds);
}

function share(part: number, whole: number): string {
	return whole > 0 ? `${((part / whole) * 100).toFixed(1)}%` : "-";
}
