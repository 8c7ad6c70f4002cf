// SPDX-License-Identifier: MIT
import { readdirSync } from "node:fs";
import { LAYOUTS } from "../ffi/layout.ts";
import {
	MODE_ADAPTIVE,
	MODE_INTERRUPT,
	MODE_POLL,
	native,
} from "../ffi/native.ts";
import { allowedCpus } from "./cpumask.ts";
import { fromErrno, VhostctlError } from "./errors.ts";

const MODES = {
	adaptive: MODE_ADAPTIVE,
	poll: MODE_POLL,
	interrupt: MODE_INTERRUPT,
};
/** adaptive polls while there is work, then sleeps; poll never sleeps; interrupt never spins. */
export type ReactorMode = keyof typeof MODES;

const LAYOUT = LAYOUTS.vhc_reactor_stats;
type Counter = keyof typeof LAYOUT.fields;
/** See struct vhc_reactor_stats. */
export type ReactorStats = Record<Counter, number>;

/** A thread pinned to a processor that owns rings and runs them. */
export interface Reactor {
	/** From 0 on, in the order of the processors. */
	readonly id: number;
	readonly cpu: number;
	readonly mode: ReactorMode;
	/** struct vhc_reactor *. */
	readonly handle: bigint;
	/** Rings given to it and not yet stopped. */
	rings: number;
	stats(): ReactorStats;
	/** Ends the thread; its rings must have stopped. */
	release(): void;
}

function createReactor(
	upcalls: bigint,
	id: number,
	cpu: number,
	mode: ReactorMode,
): Reactor {
	const { handle, stats } = native.reactorCreate(upcalls, {
		cpu,
		mode: MODES[mode],
		spin_ns: 0n,
		index: id,
		reserved: 0,
	});
	const view = native.pointer(stats, LAYOUT.size);
	const words = new BigUint64Array(
		view.buffer,
		view.byteOffset,
		LAYOUT.size / 8,
	);
	const started = performance.now();
	const read = (name: Counter) => Number(words[LAYOUT.offsets[name] / 8] ?? 0n);
	/** A reactor that sleeps counts that when it wakes: what is missing so far is sleep. */
	const withSleep = () => {
		const lived = (performance.now() - started) * 1e6;
		const busy_ns = read("busy_ns");
		const counted = read("idle_ns");
		const missing = mode === "poll" ? 0 : lived - busy_ns - counted;
		const asleep = Math.max(0, Math.round(missing));
		return {
			busy_ns,
			idle_ns: counted + asleep,
			sleep_ns: read("sleep_ns") + asleep,
		};
	};
	return {
		id,
		cpu,
		mode,
		handle,
		rings: 0,
		stats: () => ({
			...withSleep(),
			loops: read("loops"),
			wakeups: read("wakeups"),
			rings: read("rings"),
			polled: read("polled"),
			tid: read("tid"),
		}),
		release: () => void native.reactorRelease(handle),
	};
}

/** The processors to use: the asked ones, checked, or the first that we may run on. */
function chooseCpus(asked: readonly number[] | undefined): number[] {
	const allowed = allowedCpus();
	if (asked === undefined) return allowed.slice(0, 1);
	if (asked.length === 0) {
		throw new VhostctlError("E_INVALID", "no processor given for the reactors");
	}
	const bad = asked.filter((cpu) => !allowed.includes(cpu));
	if (bad.length > 0) {
		throw new VhostctlError(
			"E_INVALID",
			`processor ${bad.join(", ")}: this process may run on ${allowed.join(", ")}`,
		);
	}
	return [...new Set(asked)];
}

/** Starts a reactor on each processor. Throws E_INVALID, E_NO_MEMORY. */
export function createReactors(
	upcalls: bigint,
	cpus: readonly number[] | undefined,
	mode: ReactorMode,
): Reactor[] {
	const reactors: Reactor[] = [];
	for (const [id, cpu] of chooseCpus(cpus).entries()) {
		try {
			reactors.push(createReactor(upcalls, id, cpu, mode));
		} catch (error) {
			for (const reactor of reactors) reactor.release();
			throw fromErrno(error, `cannot start a reactor on processor ${cpu}`);
		}
	}
	return reactors;
}

/**
 * The reactors on `cpus`, all of them if not given. Throws E_INVALID for a
 * processor that has none.
 */
export function selectReactors(
	all: readonly Reactor[],
	cpus: readonly number[] | undefined,
): readonly Reactor[] {
	if (cpus === undefined) return all;
	const missing = cpus.filter((cpu) => !all.some((r) => r.cpu === cpu));
	if (missing.length === 0 && cpus.length > 0) {
		return all.filter((reactor) => cpus.includes(reactor.cpu));
	}
	const mask = all.map((reactor) => reactor.cpu).join(", ");
	throw new VhostctlError(
		"E_INVALID",
		`cpumask: no reactor on processor ${missing.join(", ")}; there are some on ${mask}`,
	);
}

/**
 * The one with the fewest rings, so that rings spread, among those on NUMA node
 * `node` if there are any.
 */
export function leastLoaded(reactors: readonly Reactor[], node = -1): Reactor {
	const near = reactors.filter((reactor) => nodeOf(reactor.cpu) === node);
	return (near.length > 0 ? near : reactors).reduce((best, next) =>
		next.rings < best.rings ? next : best,
	);
}

const nodes = new Map<number, number>();

/** The NUMA node of a processor, or -1. */
export function nodeOf(cpu: number): number {
	const known = nodes.get(cpu) ?? readNode(cpu);
	nodes.set(cpu, known);
	return known;
}

function readNode(cpu: number): number {
	try {
		const names = readdirSync(`/sys/devices/system/cpu/cpu${cpu}`);
		const [, node] = names.join(" ").match(/\bnode(\d+)\b/) ?? [];
		return node === undefined ? -1 : Number(node);
	} catch {
		return -1;
	}
}
