// SPDX-License-Identifier: MIT
// Talks to test/guest/scripts/agent.sh in a guest: runs scripts there, gives their output.
import { Buffer } from "node:buffer";
import type { Readable, Writable } from "node:stream";
import { within } from "./processes.ts";

export const BOOT_MS = 90_000;
const RUN_MS = 60_000;

/** A vhost-user device of a guest. */
export interface Device {
	kind: "blk" | "scsi";
	/** The vhost-user socket. */
	socket: string;
	/** Request queues the guest's driver may use. */
	queues: number;
	/** QEMU: properties of the device, as packed: "on". */
	properties?: Record<string, string | number>;
	/** QEMU: connects again after so many seconds when the instance is gone. */
	reconnect?: number;
}

export interface Result {
	status: number;
	output: string;
}

/** A booted Linux guest. Its blk devices are vda, vdb, ... in the order they were given. */
export interface Guest {
	/** Runs a script and gives its output; fails if its status is not 0. */
	run(script: string, timeoutMs?: number): Promise<string>;
	/** Runs a script and gives its status and output. */
	try(script: string, timeoutMs?: number): Promise<Result>;
	/** Restarts the guest's kernel from within, in good order. */
	reboot(): Promise<void>;
	/** Restarts the machine under the guest's feet. */
	reset(): Promise<void>;
	/** Shuts the guest down and waits for its process to end. */
	powerOff(): Promise<void>;
	/** Ends the guest for certain. */
	kill(): Promise<void>;
	/** What the guest's kernel wrote to its console. */
	console(): string;
}

/** One line between the host and the agent. Requests may run beside each other. */
export interface Line {
	/** Resolves at the agent's next start, counted from the call. */
	ready(): Promise<void>;
	request(script: string, timeoutMs?: number): Promise<Result>;
	/** Fails everything that waits, and all that is asked later. */
	fail(reason: string): void;
}

interface Waiting {
	resolve(result: Result): void;
	reject(error: Error): void;
}

/** Speaks to the agent over two streams. context() is added to every failure. */
export function openLine(
	input: Readable,
	output: Writable,
	context: () => string,
): Line {
	const waiting = new Map<number, Waiting>();
	let starts: { resolve(): void; reject(error: Error): void }[] = [];
	let nextId = 1;
	let text = "";

	let ended: Error | undefined;

	const fail = (reason: string) => {
		const error = new Error(`${reason}${context()}`);
		ended = error;
		for (const request of waiting.values()) request.reject(error);
		waiting.clear();
		for (const start of starts) start.reject(error);
		starts = [];
	};

	const started = () => {
		const now = starts;
		starts = [];
		for (const request of waiting.values())
			request.reject(new Error(`the guest started again${context()}`));
		waiting.clear();
		for (const start of now) start.resolve();
	};

	const line = (words: string[]) => {
		// A boot loader may have left something before the first word.
		if (words[0]?.endsWith("ready")) return started();
		const request = waiting.get(Number(words[0]));
		if (!request) return;
		waiting.delete(Number(words[0]));
		request.resolve({
			status: Number(words[1]),
			output: Buffer.from(words[2] ?? "", "base64").toString(),
		});
	};

	input.setEncoding("utf8").on("data", (data: string) => {
		text += data;
		const lines = text.split("\n");
		text = lines.pop() ?? "";
		for (const each of lines) line(each.trim().split(" "));
	});
	// A guest that has gone is noticed by its process.
	output.on("error", () => {});

	return {
		ready: () =>
			within(
				new Promise((resolve, reject) => {
					if (ended) reject(ended);
					else starts.push({ resolve, reject });
				}),
				BOOT_MS,
				() => `the guest starts${context()}`,
			),
		request: (script, timeoutMs = RUN_MS) => {
			if (ended) return Promise.reject(ended);
			const id = nextId++;
			const encoded = Buffer.from(script).toString("base64");
			output.write(`${id} ${encoded}\n`);
			return within(
				new Promise<Result>((resolve, reject) => {
					waiting.set(id, { resolve, reject });
				}),
				timeoutMs,
				() => `in the guest: ${script}${context()}`,
			);
		},
		fail,
	};
}

/** run() and try() over the line that is in use at the time. */
export function runner(
	line: () => Line,
	context: () => string,
): Pick<Guest, "run" | "try"> {
	return {
		try: (script, timeoutMs) => line().request(script, timeoutMs),
		run: async (script, timeoutMs) => {
			const { status, output } = await line().request(script, timeoutMs);
			if (status !== 0)
				throw new Error(
					`in the guest: ${script}\nstatus ${status}: ${output}${context()}`,
				);
			return output;
		},
	};
}

/** The end of a console log, as an addition to a failure message. */
export function consoleTail(log: string): string {
	const lines = log.replaceAll("\r", "").trimEnd().split("\n");
	return `\n--- console of the guest ---\n${lines.slice(-60).join("\n")}`;
}
