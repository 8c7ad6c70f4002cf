// SPDX-License-Identifier: MIT
/** Instructions of the device's side for each request: a figure that repeats. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { program } from "./machine.ts";

const execute = promisify(execFile);

/** What a request is with: words of io_path. */
const KINDS = {
	blk: ["blk"],
	scsi: ["scsi"],
	blkPacked: ["blk", "packed"],
	scsiPacked: ["scsi", "packed"],
	blkInflight: ["blk", "inflight"],
	blkPackedInflight: ["blk", "packed", "inflight"],
	blkTrace: ["blk", "trace"],
	scsiTrace: ["scsi", "trace"],
	blkLog: ["blk", "log"],
	blkPackedLog: ["blk", "packed", "log"],
} as const;

type Kind = keyof typeof KINDS;

/** By kind of controller, ring and what is on. */
export type Instructions = Readonly<Record<Kind, number>>;

/** Counts the device's poll function over `ios` 4 KiB reads of a null disk. */
async function collected(kind: Kind, ios: number): Promise<number> {
	const { stderr } = await execute("valgrind", [
		"--tool=callgrind",
		"--toggle-collect=queue_poll",
		"--callgrind-out-file=/dev/null",
		program("io_path"),
		...["null", "direct", "32", String(ios), ...KINDS[kind]],
	]);
	const count = /Collected : (\d+)/.exec(stderr)?.[1];
	if (count === undefined) throw new Error(`callgrind said: ${stderr}`);
	return Number(count);
}

/** Instructions per request. The difference of two runs leaves out what happens once. */
async function perIo(kind: Kind): Promise<number> {
	const few = 32_000;
	const many = 96_000;
	const more = (await collected(kind, many)) - (await collected(kind, few));
	return more / (many - few);
}

export async function instructionsPerIo(): Promise<Instructions> {
	const counts: [string, number][] = [];
	for (const kind of Object.keys(KINDS) as Kind[])
		counts.push([kind, await perIo(kind)]);
	return Object.fromEntries(counts) as Instructions;
}
