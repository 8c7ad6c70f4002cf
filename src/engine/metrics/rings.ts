// SPDX-License-Identifier: MIT
import type { Controller, RingInfo, Session, Stats } from "../engine.ts";
import { OPS } from "../stats.ts";
import type { Family } from "./exposition.ts";
import { counter, families, gauge, NS } from "./families.ts";

interface RingReading {
	readonly controller: string;
	readonly connection: number;
	readonly info: RingInfo;
	readonly stats: Stats;
}

function requests(stats: Stats, key: "count" | "errors" | "bytes"): number {
	return OPS.reduce((sum, op) => sum + stats.ops[op][key], 0);
}

type Counter = Exclude<keyof Stats, "ops">;

function counted(name: string, help: string, key: Counter, scale = 1) {
	return counter<RingReading>(name, help, ({ stats }) => stats[key] * scale);
}

const RING = [
	counter<RingReading>(
		"requests_total",
		"Requests completed, failed ones included.",
		({ stats }) => requests(stats, "count"),
	),
	counter<RingReading>(
		"request_errors_total",
		"Requests that failed.",
		({ stats }) => requests(stats, "errors"),
	),
	counter<RingReading>(
		"bytes_total",
		"Bytes of data in requests that succeeded.",
		({ stats }) => requests(stats, "bytes"),
	),
	counted("kicks_total", "Notifications that the driver sent.", "kicks"),
	counted(
		"kicks_suppressed_total",
		"Batches that were found without a kick.",
		"kicks_suppressed",
	),
	counted("calls_total", "Notifications sent to the driver.", "calls"),
	counted(
		"calls_suppressed_total",
		"Batches that the driver wanted no call for.",
		"calls_suppressed",
	),
	counted(
		"calls_delayed_total",
		"Batches whose call coalescing put off, or sent with another's.",
		"calls_delayed",
	),
	counted(
		"malformed_requests_total",
		"Requests of which the device could make nothing.",
		"malformed",
	),
	counted("batches_total", "Batches of requests taken.", "batches"),
	counted("busy_seconds_total", "Time in batches.", "busy_ns", NS),
	gauge<RingReading>(
		"inflight_requests",
		"Requests taken and not yet completed.",
		({ stats }) => stats.inflight,
	),
	gauge<RingReading>("size", "Entries.", ({ info }) => info.size),
	gauge<RingReading>("running", "1 while it is served.", ({ info }) =>
		Number(info.running),
	),
	gauge<RingReading>(
		"broken",
		"1 once the driver corrupted it, until it is set up again.",
		({ info }) => Number(info.broken),
	),
];

const slots = new WeakMap<Session, number>();

/**
 * The number that a connection keeps as a label: the least that no other one of its controller has,
 * so that front ends which come and go make no new series without end, and no counter goes on
 * from another's.
 */
function slotOf(session: Session, all: readonly Session[]): number {
	const known = slots.get(session);
	if (known !== undefined) return known;
	const taken = new Set(all.map((other) => slots.get(other)));
	let slot = 0;
	while (taken.has(slot)) slot++;
	slots.set(session, slot);
	return slot;
}

function readRings(controller: Controller): RingReading[] {
	const { name, sessions } = controller;
	return sessions.flatMap((session) => {
		const connection = slotOf(session, sessions);
		return session.rings.flatMap((info) => {
			const stats = controller.ringStats(session, info.index)?.read();
			return stats ? [{ controller: name, connection, info, stats }] : [];
		});
	});
}

/** The rings of all connections. */
export function ringFamilies(controllers: readonly Controller[]): Family[] {
	return families(
		"vhostctl_ring",
		RING,
		controllers.flatMap(readRings),
		({ controller, connection, info }) => ({
			controller,
			connection,
			ring: info.index,
		}),
	);
}
