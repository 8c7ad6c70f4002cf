// SPDX-License-Identifier: MIT
/**
 * make bench: our disks beside others' and beside what the machine can do at most, all in one run.
 *
 *	bench [--quick] [--json] [--peer NAME=PATH]…
 */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import kleur from "kleur";
import { measureCoalescing } from "./coalescing.ts";
import { goals, isMet, OURS, type Results, THEIRS } from "./goals.ts";
import { measureIdle } from "./idle.ts";
import { instructionsPerIo } from "./instructions.ts";
import { describeMachine } from "./machine.ts";
import { measurePairs } from "./pairs.ts";
import { killAll } from "./process.ts";
import { measureQos } from "./qos.ts";
import {
	coalescingTable,
	goalTable,
	instructionTable,
	measurementTable,
	pairTable,
	qosTable,
} from "./report.ts";
import { measureStart } from "./start.ts";
import {
	copyLoop,
	type Files,
	filesFor,
	fillFile,
	fioTarget,
	type OurOptions,
	ourTarget,
	peerTarget,
	pingPong,
	qemuTarget,
	type Shape,
	type Target,
} from "./targets.ts";
import { type Measurement, WORKLOADS } from "./workloads.ts";

function say(text: string): void {
	process.stderr.write(`${kleur.dim(text)}\n`);
}

/** A part that cannot be measured here is told and left out. */
async function attempt<T>(
	what: string,
	run: () => Promise<T>,
): Promise<T | undefined> {
	say(what);
	try {
		return await run();
	} catch (error) {
		const text = error instanceof Error ? error.message : String(error);
		process.stderr.write(kleur.yellow(`${what}: ${text}\n`));
		return undefined;
	}
}

function makers(
	shape: Shape,
	files: Files,
	peers: ReadonlyMap<string, string>,
): [string, () => Promise<Target>][] {
	const { size } = shape;
	const ours = (
		name: string,
		bdev: string,
		options?: OurOptions,
	): [string, () => Promise<Target>] => [
		name,
		() => ourTarget(name, bdev, shape, options),
	];
	const nothing = `null:name=bench,size=${size}`;
	const malloc = `malloc:name=bench,size=${size}`;
	return [
		ours(OURS.nothing, nothing),
		ours(OURS.nothingScsi, nothing, { scsi: true }),
		[
			THEIRS.nothing,
			() =>
				qemuTarget(
					THEIRS.nothing,
					`driver=null-co,read-zeroes=off,size=${size}`,
					shape,
				),
		],
		[THEIRS.pingPong, async () => pingPong(shape)],
		ours(OURS.malloc, malloc, { fill: true }),
		ours(OURS.mallocScsi, malloc, { fill: true, scsi: true }),
		[THEIRS.copy, async () => copyLoop(shape)],
		[
			OURS.memoryFile,
			async () => {
				await fillFile(files.memory, size);
				const bdev = `file:name=bench,path=${files.memory}`;
				return ourTarget(OURS.memoryFile, bdev, shape);
			},
		],
		[
			THEIRS.memoryFile,
			() =>
				qemuTarget(
					THEIRS.memoryFile,
					`driver=file,aio=io_uring,filename=${files.memory}`,
					shape,
				),
		],
		[
			OURS.diskFile,
			async () => {
				await fillFile(files.disk, size);
				const bdev = `file:name=bench,path=${files.disk}`;
				return ourTarget(OURS.diskFile, bdev, shape);
			},
		],
		[THEIRS.diskFile, async () => fioTarget(files.disk, shape)],
		...[...peers].map(([name, socket]): [string, () => Promise<Target>] => [
			name,
			async () => peerTarget(name, socket, shape),
		]),
	];
}

async function makeTargets(
	shape: Shape,
	files: Files,
	peers: ReadonlyMap<string, string>,
): Promise<Target[]> {
	const targets: Target[] = [];
	for (const [name, make] of makers(shape, files, peers)) {
		const target = await attempt(`start ${name}`, make);
		if (target) targets.push(target);
	}
	return targets;
}

function keepBest(
	of: Map<string, Measurement> | undefined,
	name: string,
	result: Measurement,
): void {
	const before = of?.get(name);
	if (!before || result.iops > before.iops) of?.set(name, result);
}

/**
 * All targets take each workload one after the other, in several rounds of which the best counts:
 * what is compared is measured together, and what else the machine does falls on all alike.
 */
async function measureAll(
	targets: readonly Target[],
	rounds: number,
): Promise<Results["measured"]> {
	const measured: Results["measured"] = new Map(
		targets.map(({ name }) => [name, new Map<string, Measurement>()]),
	);
	for (const workload of WORKLOADS) {
		for (let round = 0; round < rounds; round++) {
			for (const target of targets) {
				if (!target.takes(workload)) continue;
				const what = `${workload.name}: ${target.name}`;
				const result = await attempt(what, () => target.measure(workload));
				if (result) keepBest(measured.get(target.name), workload.name, result);
			}
		}
	}
	return measured;
}

async function measureTargets(
	shape: Shape,
	files: Files,
	peers: ReadonlyMap<string, string>,
): Promise<Results["measured"]> {
	const targets = await makeTargets(shape, files, peers);
	try {
		return await measureAll(targets, shape.rounds);
	} finally {
		await Promise.all(targets.map((target) => target.stop()));
	}
}

async function measure(
	shape: Shape,
	files: Files,
	peers: ReadonlyMap<string, string>,
): Promise<Results> {
	const start = await attempt("serve: start", () => measureStart(shape.dir));
	const idle = await attempt("64 idle controllers", () =>
		measureIdle(shape.dir, shape.seconds),
	);
	const instructions = await attempt("instructions", instructionsPerIo);
	const pairs = await attempt("features", () => measurePairs(shape, say));
	const coalesced = await attempt("coalescing", () => measureCoalescing(shape));
	const limited = await attempt("limits", () => measureQos(shape));
	const measured = await measureTargets(shape, files, peers);
	return {
		measured,
		...(coalesced ? { coalesced } : {}),
		...(limited ? { limited } : {}),
		...(pairs ? { pairs } : {}),
		...(start ? { start } : {}),
		...(idle ? { idle } : {}),
		...(instructions ? { instructions } : {}),
	};
}

function parsePeers(given: readonly string[]): Map<string, string> {
	return new Map(
		given.map((text): [string, string] => {
			const [, name, path] = /^([^=]+)=(.+)$/.exec(text) ?? [];
			if (!name || !path) throw new Error(`--peer ${text}: want NAME=PATH`);
			return [name, path];
		}),
	);
}

function jsonOf(results: Results): object {
	return {
		machine: describeMachine(),
		...results,
		measured: Object.fromEntries(
			[...results.measured].map(([name, of]) => [name, Object.fromEntries(of)]),
		),
		goals: goals(results).map((goal) => ({ ...goal, met: isMet(goal) })),
	};
}

/** However the bench ends, no process and no file stays. */
function leaveNothing(paths: readonly string[]): void {
	process.on("exit", () => {
		killAll();
		for (const path of paths) rmSync(path, { recursive: true, force: true });
	});
	process.once("SIGINT", () => process.exit(130));
	process.once("SIGTERM", () => process.exit(143));
}

async function main(): Promise<void> {
	const { values } = parseArgs({
		options: {
			quick: { type: "boolean", default: false },
			json: { type: "boolean", default: false },
			peer: { type: "string", multiple: true, default: [] },
		},
	});
	const peers = parsePeers(values.peer);
	const dir = await mkdtemp(join(tmpdir(), "vhostctl-bench-"));
	const shape: Shape = values.quick
		? { dir, size: 256 << 20, seconds: 0.5, rounds: 1 }
		: { dir, size: 1 << 30, seconds: 1, rounds: 3 };
	const files = filesFor(String(process.pid));
	leaveNothing([dir, files.memory, files.disk]);
	const results = await measure(shape, files, peers);
	const text = values.json
		? JSON.stringify(jsonOf(results), null, 2)
		: [
				describeMachine(),
				measurementTable(results),
				instructionTable(results),
				pairTable(results),
				coalescingTable(results),
				qosTable(results),
				goalTable(goals(results)),
			].join("\n");
	process.stdout.write(`${text}\n`);
}

await main();
