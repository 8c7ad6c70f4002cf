// SPDX-License-Identifier: MIT
/** How long `vhostctl serve` takes until its control socket answers, and what it takes. */
import { connect } from "node:net";
import { join } from "node:path";
import { vhostctl } from "./machine.ts";
import { residentBytes, startDaemon } from "./process.ts";

export interface Start {
	readonly seconds: number;
	readonly bytes: number;
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

async function startOnce(dir: string): Promise<Start> {
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
	return { seconds, bytes };
}

/** The best of several starts: the first one also reads the files from disk. */
export async function measureStart(dir: string): Promise<Start> {
	let best: Start = { seconds: Number.POSITIVE_INFINITY, bytes: 0 };
	for (let i = 0; i < 5; i++) {
		const start = await startOnce(dir);
		if (start.seconds < best.seconds) best = start;
	}
	return best;
}
