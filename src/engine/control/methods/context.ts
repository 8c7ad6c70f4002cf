// SPDX-License-Identifier: MIT
import { type Engine, parseCpumask } from "../../engine.ts";
import type { Checked, MethodName, Result } from "../schema.ts";

/** What methods work on. */
export interface Context {
	readonly engine: Engine;
	/** Sends a signal to this process. */
	kill(signal: NodeJS.Signals): void;
}

export type Handler<M extends MethodName> = (
	context: Context,
	params: Checked<M>,
) => Promise<Result<M>> | Result<M>;

/** A handler for each of some methods. */
export type Handlers<M extends MethodName> = { readonly [N in M]: Handler<N> };

/** The processors of a `cpumask`; undefined, for all, if there is none. Throws E_INVALID. */
export function parseCpus(cpumask: string | undefined): number[] | undefined {
	return cpumask === undefined ? undefined : parseCpumask(cpumask);
}
