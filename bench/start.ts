// SPDX-License-Identifier: MIT
/** How long `vhostctl serve` takes until its control socket answers, and what it takes. */
import { connect } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { vhostctl } from "./machine.ts";
import { output, residentBytes, startDaemon } from "./process.ts";

export interface Start {
	readonly seconds: number;
	readonly bytes: number;
	/** Until Node alone has started and ended: what the machine makes of either. */
	readonly nodeSeconds: number;
}

/** Whether a control socket answers a request. */
function answers(path: string): Promise<boolean> {
	return new Promise((resolve) => {
		const socket = connect(path, () => {
			const request = { jsonrpc: "2.0", id: 1, method: "spdk_get_version" };
			socket.write(JSON.stringify(request));
		});
		const end = (answered: boolean) => {
			socket.destroy();
			resolve(answered);
		};
		socket.once("data", () => end(true));
		socket.once("error", () => end(false));
		socket.once("close", () => end(false));
	});
}

async function startNode(): Promise<number> {
	const started = performance.now();
	await output([process.execPath, "-e", "0"]);
	return (performance.now() - started) / 1000;
}

async function startOnce(dir: string): Promise<Start> {
	const nodeSeconds = await startNode();

	const rpc = join(dir, "start.rpc");
	const started = performance.now();
	const daemon = await startDaemon(
		vhostctl("serve", "-S", join(dir, "start"), "-r", rpc),
		() => answers(rpc),
		1,
	);
	const seconds = (performance.now() - started) / 1000;
	const bytes = residentBytes(daemon.pid);
	await daemon.stop();
	return { seconds, bytes, nodeSeconds };
}

/** The best of several starts: the first one also reads the files from disk. */
export async function measureStart(dir: string): Promise<Start> {
	const starts: Start[] = [];
	for (let i = 0; i < 5; i++) starts.push(await startOnce(dir));
	const least = (of: (start: Start) => number) => Math.min(...starts.map(of));
	return {
		seconds: least(({ seconds }) => seconds),
		bytes: least(({ bytes }) => bytes),
		nodeSeconds: least(({ nodeSeconds }) => nodeSeconds),
	};
}
