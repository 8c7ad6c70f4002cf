// SPDX-License-Identifier: MIT
// The state file of an instance that takes over.
import type { Engine } from "../../engine.ts";
import { messageOf, VhostctlError } from "../../errors.ts";
import { describeRunning } from "../describe.ts";
import { readState } from "./begin.ts";
import type { Keeper } from "./keeper.ts";
import { pendingOf } from "./pending.ts";
import { holderOf, openStateFile, type StateFile } from "./state-file.ts";

/** How long a predecessor may take to give its state file back once it is taken over from. */
const GIVE_BACK_MS = 15_000;

async function openLate(path: string): Promise<StateFile> {
	const end = performance.now() + GIVE_BACK_MS;
	for (;;)
		try {
			return openStateFile(path);
		} catch (error) {
			const busy = error instanceof VhostctlError && error.code === "E_BUSY";
			if (!busy || performance.now() > end) throw error;
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
}

/** The state file of an instance that takes over. */
export interface SucceedingState {
	/** Throws E_BUSY if neither this process nor the predecessor can have the file. */
	claim(predecessor: number): void;
	/** Waits for the file, which then has what was taken over. What fails is logged, and told by changes. */
	start(engine: Engine, keeper: Keeper): Promise<void>;
	close(): Promise<void>;
}

export function succeedInState(path: string): SucceedingState {
	let file: StateFile | undefined;
	let inherited = false;
	return {
		claim(predecessor) {
			inherited = holderOf(path) === predecessor;
			if (!inherited) file = openStateFile(path);
		},
		async start(engine, keeper) {
			try {
				file ??= await openLate(path);
				// What the predecessor could not make is waited for on.
				const kept = inherited ? readState(file) : [];
				await keeper.start(file, pendingOf(kept, describeRunning(engine)));
			} catch (error) {
				engine.log.error(`changes are refused: ${messageOf(error)}`);
				keeper.fail(error);
			}
		},
		close: async () => file?.close(),
	};
}
