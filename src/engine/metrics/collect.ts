// SPDX-License-Identifier: MIT
// What an engine did, as Prometheus' families of figures. docs/metrics.md lists them.
import type { Bdev, Controller, Engine, OpStats, Reactor } from "../engine.ts";
import { OPS, type Op } from "../stats.ts";
import { version } from "../version.ts";
import { expose, type Family, type Sample } from "./exposition.ts";
import { counter, distribution, families, gauge, NS } from "./families.ts";
import { processFamilies } from "./process.ts";
import { ringFamilies } from "./rings.ts";

const REACTOR = [
	counter<ReactorReading>(
		"busy_seconds_total",
		"Time in loops that found work.",
		({ stats }) => stats.busy_ns * NS,
	),
	counter<ReactorReading>(
		"idle_seconds_total",
		"Time in loops that found none, and asleep.",
		({ stats }) => stats.idle_ns * NS,
	),
	counter<ReactorReading>(
		"sleep_seconds_total",
		"The part of the idle time that it was asleep.",
		({ stats }) => stats.sleep_ns * NS,
	),
	counter<ReactorReading>(
		"loops_total",
		"Times round its loop.",
		({ stats }) => stats.loops,
	),
	counter<ReactorReading>(
		"wakeups_total",
		"Sleeps that ended.",
		({ stats }) => stats.wakeups,
	),
	gauge<ReactorReading>(
		"rings",
		"Rings that it serves.",
		({ stats }) => stats.rings,
	),
	gauge<ReactorReading>(
		"polled_rings",
		"Rings of these that it polls, instead of waiting for a kick.",
		({ stats }) => stats.polled,
	),
];

interface ReactorReading {
	readonly reactor: Reactor;
	readonly stats: ReturnType<Reactor["stats"]>;
}

function reactorFamilies(engine: Engine): Family[] {
	const readings = engine.reactors.map((reactor) => ({
		reactor,
		stats: reactor.stats(),
	}));
	return families(
		"vhostctl_reactor",
		REACTOR,
		readings,
		({ reactor: { id, cpu } }) => ({ reactor: id, cpu }),
	);
}

interface OpReading {
	readonly bdev: Bdev;
	readonly op: Op;
	readonly stats: OpStats;
}

const BDEV_OP = [
	counter<OpReading>(
		"requests_total",
		"Requests completed, failed ones included.",
		({ stats }) => stats.count,
	),
	counter<OpReading>(
		"request_errors_total",
		"Requests that failed.",
		({ stats }) => stats.errors,
	),
	counter<OpReading>(
		"bytes_total",
		"Bytes of data in requests that succeeded.",
		({ stats }) => stats.bytes,
	),
];

function bdevFamilies(engine: Engine): Family[] {
	const bdevs = engine.bdevs.list();
	const readings = bdevs.flatMap((bdev) => {
		const { ops } = bdev.stats();
		return OPS.map((op) => ({ bdev, op, stats: ops[op] }));
	});
	const labels = ({ bdev, op }: OpReading) => ({ bdev: bdev.name, op });
	const size = gauge<Bdev>(
		"size_bytes",
		"Size.",
		({ backend }) => backend.numBlocks * backend.blockSize,
	);
	return [
		...families("vhostctl_bdev", [size], bdevs, ({ name }) => ({ bdev: name })),
		...families("vhostctl_bdev", BDEV_OP, readings, labels),
		{
			name: "vhostctl_bdev_request_duration_seconds",
			type: "histogram",
			help: "Time from when a request is found until its end can be seen by the driver.",
			// 25 lines each: what never occurred is left out.
			samples: readings
				.filter(({ stats }) => stats.count > 0)
				.map((reading) => distribution(labels(reading), reading.stats)),
		},
	];
}

function controllerFamilies(controllers: readonly Controller[]): Family[] {
	const connections = gauge<Controller>(
		"connections",
		"Front ends that are connected.",
		({ sessions }) => sessions.length,
	);
	return [
		...families("vhostctl_controller", [connections], controllers, (one) => ({
			controller: one.name,
			kind: one.kind,
		})),
		...unitFamilies(controllers),
	];
}

/** Which bdev is behind what, to join other figures with. */
function unitFamilies(controllers: readonly Controller[]): Family[] {
	const units = controllers.flatMap((controller): Sample[] => {
		const { name } = controller;
		if (controller.kind === "scsi")
			return controller.targets().flatMap(({ number: target, luns }) =>
				luns.map(({ lun, bdev }) => ({
					labels: { controller: name, target, lun, bdev: bdev.name },
					value: 1,
				})),
			);
		const { bdev } = controller;
		const labels = { controller: name, target: "", lun: "" };
		return bdev ? [{ labels: { ...labels, bdev: bdev.name }, value: 1 }] : [];
	});
	return [
		{
			name: "vhostctl_controller_bdev_info",
			type: "gauge",
			help: "1 for each bdev that a controller serves; target and lun of SCSI controllers.",
			samples: units,
		},
	];
}

function instanceFamilies(engine: Engine): Family[] {
	return [
		{
			name: "vhostctl_build_info",
			type: "gauge",
			help: "1, with the version.",
			samples: [{ labels: { version: version() }, value: 1 }],
		},
		{
			name: "vhostctl_uptime_seconds",
			type: "gauge",
			help: "Time since the engine started.",
			samples: [{ labels: {}, value: engine.uptimeNs() * NS }],
		},
	];
}

/** All that there is to tell. */
export function collect(engine: Engine): Family[] {
	const controllers = engine.controllers();
	return [
		...instanceFamilies(engine),
		...reactorFamilies(engine),
		...bdevFamilies(engine),
		...controllerFamilies(controllers),
		...ringFamilies(controllers),
		...processFamilies(),
	];
}

/** The text that a scraper gets. */
export function metricsText(engine: Engine): string {
	return expose(collect(engine));
}
