// SPDX-License-Identifier: MIT
import {
	type Bdev,
	bucketHigh,
	type Controller,
	type Engine,
	hugepagePools,
	type Op,
	type OpStats,
	percentiles,
	type Reactor,
	type RingInfo,
	type Session,
	type Stats,
	VhostctlError,
} from "../../engine.ts";
import { metricsText } from "../../metrics/collect.ts";
import { eachOp, emptyStats } from "../../stats.ts";
import type { ownMethods } from "../schema/own.ts";
import type { Handlers } from "./context.ts";

/** The buckets that count something: see the schema. */
function describeHistogram(hist: Float64Array): number[][] {
	return Array.from(hist, (n, i) => [bucketHigh(i), n]).filter(
		([, n]) => n !== 0,
	);
}

function describeOp(op: OpStats, histograms: boolean) {
	const [p50 = 0, p99 = 0, p999 = 0] = percentiles(op.hist, [50, 99, 99.9]);
	return {
		count: op.count,
		errors: op.errors,
		bytes: op.bytes,
		latency_ns: op.latencyNs,
		p50_ns: p50,
		p99_ns: p99,
		p999_ns: p999,
		...(histograms ? { histogram: describeHistogram(op.hist) } : {}),
	};
}

function describeOps(ops: Record<Op, OpStats>, histograms: boolean) {
	return eachOp((op) => describeOp(ops[op], histograms));
}

function describeRing(
	info: RingInfo,
	{ ops, ...counters }: Stats,
	histograms: boolean,
) {
	return {
		index: info.index,
		size: info.size,
		running: info.running,
		broken: info.broken,
		reactor: info.reactor ?? null,
		...counters,
		ops: describeOps(ops, histograms),
	};
}

function describeSession(
	controller: Controller,
	session: Session,
	histograms: boolean,
) {
	return {
		id: session.id,
		rings: session.rings.map((info) =>
			describeRing(
				info,
				controller.ringStats(session, info.index)?.read() ?? emptyStats(),
				histograms,
			),
		),
	};
}

function describeLuns(controller: Controller) {
	if (controller.kind === "blk") return [];
	return controller
		.targets()
		.flatMap(({ number, luns }) =>
			luns.map(({ lun, bdev }) => ({ target: number, lun, bdev: bdev.name })),
		);
}

function describeController(controller: Controller, histograms: boolean) {
	const bdev = controller.kind === "blk" ? controller.bdev : undefined;
	return {
		ctrlr: controller.name,
		kind: controller.kind,
		started: controller.started,
		bdev: bdev?.name ?? null,
		luns: describeLuns(controller),
		sessions: controller.sessions.map((session) =>
			describeSession(controller, session, histograms),
		),
	};
}

function describeReactor(reactor: Reactor) {
	const { id, cpu, mode } = reactor;
	return { id, cpu, mode, ...reactor.stats() };
}

/** Those of that name, or all. Throws E_NOT_FOUND if nothing has it. */
function select(
	engine: Engine,
	name: string | undefined,
): { bdevs: Bdev[]; controllers: Controller[] } {
	const fits = (own: string | undefined) => name === undefined || own === name;
	const bdevs = engine.bdevs.list().filter((b) => fits(b.name) || fits(b.uuid));
	const controllers = engine.controllers().filter((c) => fits(c.name));
	if (name === undefined || bdevs.length + controllers.length > 0) {
		return { bdevs, controllers };
	}
	throw new VhostctlError("E_NOT_FOUND", `no bdev and no controller ${name}`);
}

export const ownHandlers: Handlers<keyof typeof ownMethods> = {
	vhostctl_get_stats({ engine }, { name, histograms = false }) {
		const { bdevs, controllers } = select(engine, name);
		return {
			uptime_ns: engine.uptimeNs(),
			reactors: engine.reactors.map(describeReactor),
			bdevs: bdevs.map((bdev) => ({
				name: bdev.name,
				ops: describeOps(bdev.stats().ops, histograms),
			})),
			controllers: controllers.map((controller) =>
				describeController(controller, histograms),
			),
		};
	},
	vhostctl_get_metrics: ({ engine }) => metricsText(engine),
	async vhostctl_take_over({ handover }, { format }) {
		if (!handover)
			throw new VhostctlError("E_UNSUPPORTED", "nobody can take over");
		return { socket: await handover.offer(format) };
	},
	vhostctl_get_hugepages: () =>
		hugepagePools().map(({ node, pageSize, total, free }) => ({
			node,
			page_size: pageSize,
			total,
			free,
		})),
};
