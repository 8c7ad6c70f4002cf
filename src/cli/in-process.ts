// SPDX-License-Identifier: MIT
/** create --in-process: one controller, served by this process. */
import process from "node:process";
import { callMethod } from "../engine/control/methods.ts";
import { createLogger, parseCpumask, startEngine } from "../engine/engine.ts";
import { type Call, parseBdevSpec } from "./bdev-kinds.ts";
import type { Given } from "./command.ts";
import { printJson, printLine } from "./output.ts";
import { defaultStateDir, makeRuntimeDir } from "./paths.ts";
import { onSignal } from "./signals.ts";

/**
 * Makes the bdevs of `specs` and, with `calls`, which gets their names, the controller; serves it
 * until a signal. Prints the socket's path when it listens.
 */
export async function serveOne(
	given: Given,
	{ ctrlr: name, cpumask }: { ctrlr: string; cpumask?: string | undefined },
	specs: readonly string[],
	calls: (bdevs: readonly string[]) => readonly Call[],
): Promise<void> {
	const bdevCalls = specs.map(parseBdevSpec);
	const ending = onSignal();
	const engine = await startEngine({
		socketDir: given.text("socket-dir") ?? makeRuntimeDir(),
		stateDir: defaultStateDir(),
		cpus: cpumask === undefined ? undefined : parseCpumask(cpumask),
		log: createLogger({ level: "warning" }),
	});
	const kill = (signal: NodeJS.Signals) =>
		void process.kill(process.pid, signal);
	const call = ({ method, params }: Call) =>
		callMethod({ engine, kill }, method, params);
	try {
		const bdevs: string[] = [];
		for (const each of bdevCalls) bdevs.push(String(await call(each)));
		for (const each of calls(bdevs)) await call(each);
		if (given.flag("json"))
			printJson(
				(
					await callMethod({ engine, kill }, "vhost_get_controllers", { name })
				)[0],
			);
		else printLine(engine.socketPath(name));
		await ending.asked;
	} finally {
		await engine.close();
		ending.release();
	}
}
