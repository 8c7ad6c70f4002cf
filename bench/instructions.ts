// SPDX-License-Identifier: MIT
/** Instructions of the device's side for each request: figures that repeat. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { program } from "./machine.ts";

const execute = promisify(execFile);

/** Kinds of controller and ring, as words of io_path. */
const RINGS = {
	split: ["blk"],
	packed: ["blk", "packed"],
	"split, scsi": ["scsi"],
	"packed, scsi": ["scsi", "packed"],
} as const;

/** What may be on, as words of io_path. */
export const FEATURES = ["trace", "inflight", "log"] as const;

export type Ring = keyof typeof RINGS;
export type Feature = (typeof FEATURES)[number];

/** Of a ring with nothing on, and with each feature. */
export type Counts = Readonly<Record<"plain" | Feature, number>>;
export type Instructions = Readonly<Record<Ring, Counts>>;

/** Counts the device's poll function over `ios` 4 KiB reads of a null disk. */
async function collected(words: string[], ios: number): Promise<number> {
	const { stderr } = await execute("valgrind", [
		"--tool=callgrind",
		"--toggle-collect=queue_poll",
		"--callgrind-out-file=/dev/null",
		program("io_path"),
		...["null", "direct", "32", String(ios), ...words],
	]);
	const count = /Collected : (\d+)/.exec(stderr)?.[1];
	if (count === undefined) throw new Error(`callgrind said: ${stderr}`);
	return Number(count);
}

/** Instructions per request. The difference of two runs leaves out what happens once. */
async function perIo(...words: string[]): Promise<number> {
	const few = 16_000;
	const many = 48_000;
	const counts = [collected(words, few), collected(words, many)];
	const [less = Number.NaN, more = Number.NaN] = await Promise.all(counts);
	return (more - less) / (many - few);
}

async function countsOf(words: readonly string[]): Promise<Counts> {
	return {
		plain: await perIo(...words),
		trace: await perIo(...words, "trace"),
		inflight: await perIo(...words, "inflight"),
		log: await perIo(...words, "log"),
	};
}

export async function instructionsPerIo(): Promise<Instructions> {
	return {
		split: await countsOf(RINGS.split),
		packed: await countsOf(RINGS.packed),
		"split, scsi": await countsOf(RINGS["split, scsi"]),
		"packed, scsi": await countsOf(RINGS["packed, scsi"]),
	};
}
