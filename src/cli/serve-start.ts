// SPDX-License-Identifier: MIT
/** How an instance begins and ends. */
import process from "node:process";
import {
	begin,
	makeWanted,
	type Wanted,
} from "../engine/control/config/begin.ts";
import { createKeeper, type Keeper } from "../engine/control/config/keeper.ts";
import { openStateFile } from "../engine/control/config/state-file.ts";
import { succeedInState } from "../engine/control/config/succeed.ts";
import { createMaker } from "../engine/control/methods.ts";
import { startControl } from "../engine/control/server.ts";
import { createStartup } from "../engine/control/startup.ts";
import { type Instance, takeOver } from "../engine/control/takeover.ts";
import {
	createLogger,
	type Engine,
	parseCpumask,
	startEngine,
} from "../engine/engine.ts";
import { leaveEngine } from "../engine/takeover/give.ts";
import { rpcSocket } from "./attach.ts";
import type { Call } from "./bdev-kinds.ts";
import type { Given } from "./command.ts";
import { readConfig } from "./config-file.ts";
import { cpumask } from "./cpus.ts";
import { defaultRpcSocket, defaultStateDir, makeRuntimeDir } from "./paths.ts";
import { parseChoice } from "./size.ts";

const MODES = ["adaptive", "poll", "interrupt"] as const;
const LEVELS = ["error", "warning", "notice", "info", "debug"] as const;
const FORMATS = ["text", "json"] as const;

/** What runs, with its state file, if it has one. */
export interface Running extends Instance {
	readonly state: { close(): Promise<void> } | undefined;
}

function wantedOf(given: Given, calls: readonly Call[]): Wanted {
	return { config: given.parsed("config", readConfig), calls };
}

/** Starts an instance. What it is asked to make is there before the first client is heard. */
export async function startInstance(
	given: Given,
	calls: readonly Call[],
): Promise<Running> {
	const wanted = wantedOf(given, calls);
	const state = given.parsed("state", openStateFile);
	let engine: Engine | undefined;
	try {
		engine = await startEngine({
			...engineOptions(given),
			socketDir: given.text("socket-dir") ?? makeRuntimeDir(),
			stateDir: given.text("state-dir") ?? defaultStateDir(),
		});
		const keeper = state && createKeeper(engine);
		const maker = createMaker({ engine, kill });
		const kept = state && keeper && { keeper, file: state };
		const init = () => begin(maker, wanted, kept);
		const startup = given.flag("wait-for-rpc")
			? createStartup(init)
			: undefined;
		if (!startup) await init();
		const path = controlPath(given);
		const control = await startControl(engine, { path, keeper, startup });
		return { engine, control, state };
	} catch (error) {
		await state?.close();
		await engine?.close();
		throw error;
	}
}

/** Starts an instance that has what the one at the control socket had. */
export async function takeOverInstance(
	given: Given,
	calls: readonly Call[],
): Promise<Running> {
	const wanted = wantedOf(given, calls);
	const state = given.parsed("state", succeedInState);
	let keeper: Keeper | undefined;
	try {
		const instance = await takeOver({
			path: rpcSocket(given),
			anew: {
				...engineOptions(given),
				socketDir: given.text("socket-dir"),
				stateDir: given.text("state-dir"),
			},
			said: new Set(given.text("log-level") ? ["log_set_level"] : []),
			kill,
			async extend(context, predecessor) {
				state?.claim(predecessor);
				await makeWanted(createMaker(context), wanted);
			},
			keep:
				state &&
				((engine) => {
					keeper = createKeeper(engine);
					return keeper;
				}),
		});
		if (keeper) await state?.start(instance.engine, keeper);
		return { ...instance, state };
	} catch (error) {
		await state?.close();
		throw error;
	}
}

/** Ends it, by a signal or because a successor serves: then that has the sockets. */
export async function endInstance(running: Running): Promise<void> {
	const { engine, control, state } = running;
	let left = false;
	void control.handedOver.then(() => {
		left = true;
	});
	try {
		await control.close();
		await state?.close();
	} finally {
		await (left ? leaveEngine(engine) : engine.close());
	}
}

function kill(signal: NodeJS.Signals): void {
	process.kill(process.pid, signal);
}

function engineOptions(given: Given) {
	const cpus = given.text("cpumask");
	const choice = <T extends string>(option: string, choices: readonly T[]) =>
		given.parsed(option, (text, name) => parseChoice(text, name, choices));
	return {
		cpus: cpus === undefined ? undefined : parseCpumask(cpumask(cpus)),
		mode: choice("mode", MODES),
		postcopy: given.flag("postcopy"),
		log: createLogger({
			level: choice("log-level", LEVELS),
			format: choice("log-format", FORMATS),
		}),
	};
}

function controlPath(given: Given): string {
	const path = given.text("rpc-socket") ?? process.env.VHOSTCTL_SOCKET;
	if (path) return path;
	makeRuntimeDir();
	return defaultRpcSocket();
}
