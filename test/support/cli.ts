// SPDX-License-Identifier: MIT
// Running the command line to its end.
import assert from "node:assert/strict";
import process from "node:process";
import { type Instance, vhostctl } from "./instance.ts";
import { type Process, startProcess, within } from "./processes.ts";

const PATIENCE_MS = 60_000;

export interface Outcome {
	readonly code: number | string;
	readonly stdout: string;
	readonly stderr: string;
}

/** Runs `vhostctl args` and gives how it ended, whichever way. */
export async function run(...args: string[]): Promise<Outcome> {
	const [command, words] = vhostctl(...args);
	const started = startProcess(command, words);
	try {
		const code = await within(
			started.exited,
			PATIENCE_MS,
			() => `vhostctl ${args.join(" ")} ends`,
		);
		return { code, stdout: started.stdout(), stderr: started.stderr() };
	} finally {
		await started.kill();
	}
}

/** As run(), for what must succeed without a word on standard error; gives standard output. */
export async function answer(...args: string[]): Promise<string> {
	const { code, stdout, stderr } = await run(...args);
	assert.deepEqual({ code, stderr }, { code: 0, stderr: "" }, args.join(" "));
	return stdout;
}

/** As answer(), attached to an instance. */
export function attachedTo(instance: Instance) {
	return (...args: string[]) => answer(...args, "-r", instance.rpcSocket);
}

/** Runs what must fail with `code` and one line `vhostctl: …` that matches; gives that line. */
export async function failure(
	code: number,
	message: RegExp,
	...args: string[]
): Promise<string> {
	const outcome = await run(...args);
	assert.equal(outcome.code, code, `${args.join(" ")}: ${outcome.stderr}`);
	assert.equal(outcome.stdout, "");
	assert.match(outcome.stderr, /^vhostctl: [^\n]+\n$/);
	assert.match(outcome.stderr, message);
	return outcome.stderr;
}

/** Sends a signal; child.kill() has Deno tell the signal instead of the exit code later. */
export function sendSignal(to: Process, signal: NodeJS.Signals): void {
	process.kill(to.pid, signal);
}
