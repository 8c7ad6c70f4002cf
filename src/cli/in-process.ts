// SPDX-License-Identifier: MIT
/** blk create --in-process: one controller, served by this process. */
import process from "node:process";
import { callMethod } from "../engine/control/methods.ts";
import { createLogger, parseCpumask, startEngine } from "../engine/engine.ts";
import { parseBdevSpec } from "./bdev-kinds.ts";
import type { Given } from "./command.ts";
import { printJson, printLine } from "./output.ts";
import { makeRuntimeDir } from "./paths.ts";
import { onSignal } from "./signals.ts";

interface Controller {
	readonly ctrlr: string;
	readonly readonly?: boolean;
	readonly cpumask?: string;
}

/** Serves the bdev of `spec` until a signal. Prints the socket's path when it listens. */
export async function serveOne(
	given: Given,
	spec: string,
	controller: Controller,
): Promise<void> {
	const { method, params } = parseBdevSpec(spec);
	const { cpumask } = controller;
	const ending = onSignal();
	const engine = await startEngine({
		socketDir: given.text("socket-dir") ?? makeRuntimeDir(),
		cpus: cpumask === undefined ? undefined : parseCpumask(cpumask),
		log: createLogger("warning"),
	});
	const kill = (signal: NodeJS.Signals) =>
		void process.kill(process.pid, signal);
	const context = { engine, kill };
	try {
		const dev_name = String(await callMethod(context, method, params));
		await callMethod(context, "vhost_create_blk_controller", {
			...controller,
			dev_name,
		});
		const name = controller.ctrlr;
		if (given.flag("json"))
			printJson(
				(await callMethod(context, "vhost_get_controllers", { name }))[0],
			);
		else printLine(engine.socketPath(name));
		await ending.asked;
	} finally {
		await engine.close();
		ending.release();
	}
}
