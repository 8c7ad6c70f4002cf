// SPDX-License-Identifier: MIT
// QEMU's monitor (QMP): commands, their answers and events, over one connection.
import { createConnection, type Socket } from "node:net";
import { waitUntil, within } from "./processes.ts";

const ANSWER_MS = 30_000;

export interface Qmp {
	/** Gives what the command returns; fails with QEMU's description of an error. */
	execute<T = unknown>(command: string, args?: object): Promise<T>;
	/** Waits until an event of that name has come since the connection was made. */
	event(name: string, timeoutMs: number): Promise<void>;
	close(): void;
}

interface Answer {
	id?: number;
	return?: unknown;
	error?: { desc: string };
	event?: string;
}

async function connect(path: string): Promise<Socket> {
	let socket: Socket | undefined;
	await waitUntil(
		async () => {
			socket = await new Promise<Socket | undefined>((resolve) => {
				const trying = createConnection(path, () => resolve(trying));
				trying.once("error", () => resolve(undefined));
			});
			return socket !== undefined;
		},
		10_000,
		() => `QEMU listens at ${path}`,
	);
	return socket as Socket;
}

export async function openQmp(path: string): Promise<Qmp> {
	const socket = await connect(path);
	const waiting = new Map<number, (answer: Answer) => void>();
	const events = new Set<string>();
	let lastId = 0;
	let text = "";

	const take = (answer: Answer) => {
		if (answer.event) events.add(answer.event);
		if (answer.id === undefined) return;
		waiting.get(answer.id)?.(answer);
		waiting.delete(answer.id);
	};
	socket.setEncoding("utf8").on("data", (data: string) => {
		text += data;
		const lines = text.split("\n");
		text = lines.pop() ?? "";
		for (const line of lines) if (line.trim()) take(JSON.parse(line) as Answer);
	});
	socket.on("error", () => {}); // whoever waits is told by its time limit
	socket.on("close", () => {
		for (const answer of waiting.values())
			answer({ error: { desc: "QEMU has gone" } });
	});

	const qmp: Qmp = {
		async execute<T>(command: string, args?: object) {
			const id = ++lastId;
			const answer = await within(
				new Promise<Answer>((resolve) => {
					waiting.set(id, resolve);
					socket.write(
						`${JSON.stringify({ execute: command, arguments: args, id })}\n`,
					);
				}),
				ANSWER_MS,
				() => `answer to ${command}`,
			);
			if (answer.error) throw new Error(`${command}: ${answer.error.desc}`);
			return answer.return as T;
		},
		event: (name, timeoutMs) =>
			waitUntil(
				() => events.has(name),
				timeoutMs,
				() => `event ${name}`,
			),
		close: () => socket.destroy(),
	};
	await qmp.execute("qmp_capabilities");
	return qmp;
}
