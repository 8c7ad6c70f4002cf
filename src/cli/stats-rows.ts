// SPDX-License-Identifier: MIT
/** The rows of the live screen: what each object did in an interval. */
import {
	type Activity,
	activity,
	bdevIn,
	type Controller,
	type Operations,
	type Reactor,
	type Ring,
	ringIn,
	type Snapshot,
} from "./stats-interval.ts";

export interface ReactorRow {
	readonly key: string;
	readonly reactor: Reactor;
	/** Shares of the interval. */
	readonly busy: number;
	readonly asleep: number;
}

export interface BdevRow extends Activity {
	readonly key: string;
	readonly name: string;
	/** Bytes a second. */
	readonly reading: number;
	readonly writing: number;
}

/** A ring, or a controller with all its rings. */
export interface RingRow extends Activity {
	readonly key: string;
	readonly name: string;
	/** Of a ring that runs. */
	readonly reactor: number | undefined;
	/** A second. */
	readonly kicks: number;
	readonly calls: number;
	/** Calls that coalescing put off, or sent with another. */
	readonly delayed: number;
}

export interface ControllerRow extends RingRow {
	readonly rings: readonly RingRow[];
}

export interface Rows {
	readonly uptimeNs: number;
	readonly total: Activity;
	readonly reactors: readonly ReactorRow[];
	readonly bdevs: readonly BdevRow[];
	readonly controllers: readonly ControllerRow[];
	/** See isCoalesced. */
	readonly coalesced: boolean;
}

const all = (ops: Operations | undefined) => (ops ? Object.values(ops) : []);

function reactorRow(reactor: Reactor, before: Reactor | undefined): ReactorRow {
	const busy = reactor.busy_ns - (before?.busy_ns ?? 0);
	const idle = reactor.idle_ns - (before?.idle_ns ?? 0);
	const asleep = reactor.sleep_ns - (before?.sleep_ns ?? 0);
	const whole = Math.max(1, busy + idle);
	return {
		key: `reactor ${reactor.id}`,
		reactor,
		busy: busy / whole,
		asleep: asleep / whole,
	};
}

/** Two rings of a scsi controller have no I/O requests (virtio 5.6.2). */
export function ringName(kind: string, index: number): string {
	const name = kind === "scsi" ? ["control", "event"][index] : undefined;
	return name === undefined ? String(index) : `${index} ${name}`;
}

function state({ broken, running }: Ring): string {
	return broken ? " broken" : running ? "" : " stopped";
}

interface RingReading {
	readonly session: number;
	readonly ring: Ring;
	readonly before: Ring | undefined;
}

function together(
	key: string,
	name: string,
	readings: readonly RingReading[],
	seconds: number,
): RingRow {
	const rate = (of: "kicks" | "calls" | "calls_delayed") =>
		readings.reduce(
			(sum, { ring, before }) =>
				sum + Math.max(0, ring[of] - (before?.[of] ?? 0)),
			0,
		) / seconds;
	return {
		...activity(
			readings.flatMap(({ ring }) => all(ring.ops)),
			readings.flatMap(({ before }) => all(before?.ops)),
			seconds,
		),
		key,
		name,
		reactor: undefined,
		kicks: rate("kicks"),
		calls: rate("calls"),
		delayed: rate("calls_delayed"),
	};
}

function served({ bdev, kind, luns, started, sessions }: Controller): string {
	const what =
		kind === "scsi"
			? `${luns.length} ${luns.length === 1 ? "unit" : "units"}`
			: (bdev ?? "gone");
	if (sessions.length > 0) return what;
	return `${what}, ${started ? "not connected" : "not started"}`;
}

function controllerRow(
	controller: Controller,
	before: Snapshot | undefined,
	seconds: number,
): ControllerRow {
	const { ctrlr, kind, sessions } = controller;
	const readings = sessions.flatMap(({ id, rings }) =>
		rings.map((ring) => ({
			session: id,
			ring,
			before: ringIn(before, ctrlr, id, ring.index),
		})),
	);
	const key = `controller ${ctrlr}`;
	const several = sessions.length > 1;
	const rings = readings.map((reading) => {
		const { session, ring } = reading;
		const whose = several ? `${session}/` : "";
		const name = `${whose}${ringName(kind, ring.index)}${state(ring)}`;
		return {
			...together(`${key} ${session} ${ring.index}`, name, [reading], seconds),
			reactor: ring.reactor ?? undefined,
		};
	});
	const name = `${ctrlr} (${served(controller)})`;
	return { ...together(key, name, readings, seconds), rings };
}

/** Whether coalescing has put any call off, as it does where it is asked for. */
export function isCoalesced({ controllers }: Snapshot): boolean {
	return controllers.some(({ sessions }) =>
		sessions.some(({ rings }) =>
			rings.some(({ calls_delayed }) => calls_delayed > 0),
		),
	);
}

/** What happened between two readings; without `before` since everything was made. */
export function rowsOf(now: Snapshot, before: Snapshot | undefined): Rows {
	const since = now.uptime_ns - (before?.uptime_ns ?? 0);
	const seconds = Math.max(1e-3, since / 1e9);
	const bdevs = now.bdevs.map(({ name, ops }) => {
		const old = bdevIn(before, name)?.ops;
		const of = (kinds: (keyof Operations)[]) =>
			activity(
				kinds.map((kind) => ops[kind]),
				old ? kinds.map((kind) => old[kind]) : [],
				seconds,
			).throughput;
		return {
			...activity(all(ops), all(old), seconds),
			key: `bdev ${name}`,
			name,
			reading: of(["read"]),
			writing: of(["write", "write_zeroes"]),
		};
	});
	return {
		uptimeNs: now.uptime_ns,
		total: activity(
			now.bdevs.flatMap(({ ops }) => all(ops)),
			now.bdevs.flatMap(({ name }) => all(bdevIn(before, name)?.ops)),
			seconds,
		),
		reactors: now.reactors.map((reactor) =>
			reactorRow(
				reactor,
				before?.reactors.find(({ id }) => id === reactor.id),
			),
		),
		bdevs,
		controllers: now.controllers.map((controller) =>
			controllerRow(controller, before, seconds),
		),
		coalesced: isCoalesced(now),
	};
}

/** The curve of each row: the busy share of reactors, requests a second of the rest. */
export function curvesOf(rows: Rows): Map<string, number> {
	return new Map([
		...rows.reactors.map(({ key, busy }): [string, number] => [key, busy]),
		...[
			...rows.bdevs,
			...rows.controllers,
			...rows.controllers.flatMap(({ rings }) => rings),
		].map(({ key, iops }): [string, number] => [key, iops]),
	]);
}
