// SPDX-License-Identifier: MIT
import {
	type ControllerOptions,
	type Engine,
	parseCpumask,
} from "../../engine.ts";
import type { Keeper } from "../config/keeper.ts";
import type { Handover } from "../handover.ts";
import type { Checked, MethodName, Result } from "../schema.ts";
import type { Startup } from "../startup.ts";

/** What methods work on. */
export interface Context {
	readonly engine: Engine;
	/** Undefined: nobody can take over. */
	readonly handover?: Handover;
	/** Undefined: there is no state file. */
	readonly keeper?: Keeper | undefined;
	/** Undefined: it was not told to wait for framework_start_init. */
	readonly startup?: Startup | undefined;
	/** Sends a signal to this process. */
	kill(signal: NodeJS.Signals): void;
}

export type Handler<M extends MethodName> = (
	context: Context,
	params: Checked<M>,
) => Promise<Result<M>> | Result<M>;

/** A handler for each of some methods. */
export type Handlers<M extends MethodName> = { readonly [N in M]: Handler<N> };

/** What methods that make controllers are given. */
interface ControllerParams {
	ctrlr: string;
	cpumask?: string | undefined;
	client?: string | undefined;
	packed_ring?: boolean | undefined;
	iommu?: boolean | undefined;
	inband?: boolean | undefined;
}

/** What of it goes to the engine as it is. Throws E_INVALID. */
export function controllerOptions(params: ControllerParams): ControllerOptions {
	const { ctrlr: name, cpumask, packed_ring: packed } = params;
	const { client, iommu, inband } = params;
	return { name, cpus: parseCpus(cpumask), client, packed, iommu, inband };
}

/** The processors of a `cpumask`; undefined, for all, if there is none. Throws E_INVALID. */
function parseCpus(cpumask: string | undefined): number[] | undefined {
	return cpumask === undefined ? undefined : parseCpumask(cpumask);
}
