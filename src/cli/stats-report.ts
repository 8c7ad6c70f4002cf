// SPDX-License-Identifier: MIT
/** The tables of vhostctl stats. */
import kleur from "kleur";
import { type Column, table } from "./output.ts";
import { formatNs, formatSize } from "./size.ts";
import type {
	Controller,
	Operation,
	Operations,
	Ring,
	Snapshot,
} from "./stats-interval.ts";
import { isCoalesced, ringName } from "./stats-rows.ts";

/** Counts and shares since the start. */
export async function report(now: Snapshot): Promise<string> {
	const tables = [
		await reactors(now),
		await bdevs(now),
		await logicalUnits(now),
		await rings(now),
	];
	return tables.filter((text) => text !== "").join("\n\n");
}

const left = (title: string): Column => ({ title });
const right = (title: string): Column => ({ title, right: true });

function heading(title: string, body: string): string {
	return `${kleur.bold().underline(title)}\n${body}`;
}

async function reactors(now: Snapshot): Promise<string> {
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
		const lived = one.busy_ns + one.idle_ns;
		return [
			String(one.id),
			String(one.cpu),
			one.mode,
			share(one.busy_ns, lived),
			share(one.sleep_ns, lived),
			String(one.rings),
			String(one.polled),
		];
	});
	return heading("Reactors", await table(columns, rows));
}

async function bdevs(now: Snapshot): Promise<string> {
	if (now.bdevs.length === 0) return "";
	const rows = now.bdevs.flatMap(({ name, ops }) => operationRows(name, ops));
	const columns = [
		left("bdev"),
		left("operation"),
		right("requests"),
		right("bytes"),
		right("errors"),
		right("mean"),
		right("p50"),
		right("p99"),
		right("p99.9"),
	];
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

async function rings(now: Snapshot): Promise<string> {
	if (now.controllers.length === 0) return "";
	const coalesced = isCoalesced(now);
	const rows = now.controllers.flatMap((one) => controllerRows(one, coalesced));
	const columns = [
		left("controller"),
		left("serves"),
		right("front end"),
		left("ring"),
		right("reactor"),
		left("state"),
		right("requests"),
		right("kicks"),
		right("calls"),
		...(coalesced ? [right("late")] : []),
		right("in flight"),
	];
	return heading("Controllers", await table(columns, rows));
}

/** coalesced: there is a column of calls that were put off. */
function controllerRows(
	controller: Controller,
	coalesced: boolean,
): string[][] {
	const who = [controller.ctrlr, served(controller)];
	const rows = controller.sessions.flatMap(({ id, rings }) =>
		rings.map((ring) => {
			const name = ringName(controller.kind, ring.index);
			return [...who, String(id), name, ...ringCells(ring, coalesced)];
		}),
	);
	return rows.length > 0
		? rows
		: [
				[
					...who,
					"-",
					"-",
					"-",
					idleState(controller),
					"",
					"",
					"",
					"",
					...(coalesced ? [""] : []),
				],
			];
}

function idleState({ started }: Controller): string {
	return started ? "not connected" : "not started";
}

/** The bdev of a blk controller; of a scsi controller how many it has. */
function served({ kind, bdev, luns }: Controller): string {
	if (kind !== "scsi") return bdev ?? "(gone)";
	return `${luns.length} ${luns.length === 1 ? "unit" : "units"}`;
}

function ringCells(ring: Ring, coalesced: boolean): string[] {
	const state = ring.broken ? "broken" : ring.running ? "running" : "stopped";
	const requests = Object.values(ring.ops).reduce(
		(sum, { count }) => sum + count,
		0,
	);
	return [
		ring.reactor === null ? "-" : String(ring.reactor),
		state,
		String(requests),
		String(ring.kicks),
		String(ring.calls),
		...(coalesced ? [String(ring.calls_delayed)] : []),
		String(ring.inflight),
	];
}

/** A row for each kind of request that occurred; one at least. */
function operationRows(name: string, ops: Operations): string[][] {
	const kinds = Object.entries(ops) as [keyof Operations, Operation][];
	const rows = kinds
		.filter(([, { count }]) => count > 0)
		.map(([kind, op]) => [name, kind.replace("_", " "), ...operationCells(op)]);
	return rows.length > 0
		? rows
		: [[name, "-", "0", "0 B", "0", "", "", "", ""]];
}

function operationCells(op: Operation): string[] {
	return [
		String(op.count),
		formatSize(op.bytes),
		String(op.errors),
		op.count > 0 ? formatNs(op.latency_ns / op.count) : "-",
		formatNs(op.p50_ns),
		formatNs(op.p99_ns),
		formatNs(op.p999_ns),
	];
}

function share(part: number, whole: number): string {
	return whole > 0 ? `${((part / whole) * 100).toFixed(1)}%` : "-";
}
