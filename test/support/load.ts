// SPDX-License-Identifier: MIT
// Verifying loads that run beside a test.
import assert from "node:assert/strict";
import { vhostctl } from "./instance.ts";
import { type Process, startProcess, within } from "./processes.ts";

const PATIENCE_MS = 60_000;

export interface Load {
	readonly process: Process;
	/** Lets it end by its own, and fails unless every request did and every block was right. */
	finish(): Promise<{ ios: number; maxMs: number }>;
}

interface Direction {
	total_ios: number;
	clat_ns: { max: number };
}

/** A load of random reads and writes, each block checked in the end. */
export function startLoad(
	socket: string,
	seconds: number,
	...more: string[]
): Load {
	const [command, args] = vhostctl(
		...["perf", "--socket", socket, "--rw", "randrw", "--verify", "crc32c"],
		...["--time", `${seconds}`, "--mode", "interrupt", "--json", ...more],
	);
	const load = startProcess(command, args);
	return {
		process: load,
		async finish() {
			const log = () => `\n--- perf ---\n${load.stdout()}${load.stderr()}`;
			const code = await within(load.exited, PATIENCE_MS, () => `ends${log()}`);
			assert.equal(code, 0, log());
			const { jobs } = JSON.parse(load.stdout()) as {
				jobs: [{ error: number; read: Direction; write: Direction }];
			};
			const [{ error, read, write }] = jobs;
			assert.equal(error, 0, log());
			assert(read.total_ios > 0 && write.total_ios > 0, log());
			return {
				ios: read.total_ios + write.total_ios,
				maxMs: Math.max(read.clat_ns.max, write.clat_ns.max) / 1e6,
			};
		},
	};
}
