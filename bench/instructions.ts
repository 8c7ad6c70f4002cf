// SPDX-License-Identifier: MIT
/** Instructions of the device's side for each request: a figure that repeats. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { program } from "./machine.ts";

const execute = promisify(execFile);

/** Counts the device's poll function over `ios` 4 KiB reads of a null disk. */
async function collected(ios: number): Promise<number> {
	const { stderr } = await execute("valgrind", [
		"--tool=callgrind",
		"--toggle-collect=queue_poll",
		"--callgrind-out-file=/dev/null",
		program("io_path"),
		...["null", "direct", "32", String(ios)],
	]);
	const count = /Collected : (\d+)/.exec(stderr)?.[1];
	if (count === undefined) throw new Error(`callgrind said: ${stderr}`);
	return Number(count);
}

/** Instructions per request. The difference of two runs leaves out what happens once. */
export async function instructionsPerIo(): Promise<number> {
	const few = 32_000;
	const many = 96_000;
	return ((await collected(many)) - (await collected(few))) / (many - few);
}
