// SPDX-License-Identifier: MIT

import { VhostctlError } from "../errors.ts";
import type { Maker } from "./config/maker.ts";
import { absentHandlers } from "./methods/absent.ts";
import { bdevHandlers } from "./methods/bdev.ts";
import { configHandlers } from "./methods/config.ts";
import type { Context, Handlers } from "./methods/context.ts";
import { frameworkHandlers } from "./methods/framework.ts";
import { ignoredHandlers } from "./methods/ignored.ts";
import { iostatHandlers } from "./methods/iostat.ts";
import { logHandlers } from "./methods/log.ts";
import { notifyHandlers } from "./methods/notify.ts";
import { ownHandlers } from "./methods/own.ts";
import { qosHandlers } from "./methods/qos.ts";
import { scsiHandlers } from "./methods/scsi.ts";
import { stackedHandlers } from "./methods/stacked.ts";
import { traceHandlers } from "./methods/trace.ts";
import { vhostHandlers } from "./methods/vhost.ts";
import type { Effect, Method } from "./schema/types.ts";
import {
	checkParams,
	isMethod,
	METHODS,
	type MethodName,
	type Result,
} from "./schema.ts";
import { checkCallable } from "./startup.ts";

/** A handler for every method of the schema. */
export const HANDLERS: Handlers<MethodName> = {
	...frameworkHandlers,
	...bdevHandlers,
	...iostatHandlers,
	...qosHandlers,
	...stackedHandlers,
	...vhostHandlers,
	...scsiHandlers,
	...notifyHandlers,
	...logHandlers,
	...configHandlers(createMaker),
	...ignoredHandlers,
	...absentHandlers,
	...ownHandlers,
	...traceHandlers,
};

/** Of methods that change what a configuration describes. */
const CHANGING: readonly Effect[] = ["makes", "sets", "alters"];

/** Carries out what changes something: kept, and not while it is handed over. */
function change<T>(
	{ handover, keeper, startup }: Context,
	call: { method: string; params: Record<string, unknown> },
	work: () => Promise<T>,
): Promise<T | true> {
	// What is there after framework_start_init is kept then.
	const keep =
		keeper && !startup?.waiting ? () => keeper.change(call, work) : work;
	return handover ? handover.change(keep) : keep();
}

/** Checks the parameters and carries a method out. Throws VhostctlError. */
export async function callMethod<M extends MethodName>(
	context: Context,
	method: M,
	params: unknown,
): Promise<Result<M>> {
	const described: Method = METHODS[method];
	checkCallable(described, context.startup);
	const checked = checkParams(method, params);
	const work = async () => HANDLERS[method](context, checked);
	if (!CHANGING.includes(described.effect)) return work();
	const call = { method, params: checked as Record<string, unknown> };
	return change(context, call, work) as Promise<Result<M>>;
}

/** What carries calls out on an engine, each checked and no more. */
export function createMaker({ engine, kill }: Context): Maker {
	return {
		engine,
		async call({ method, params }) {
			if (isMethod(method)) return callMethod({ engine, kill }, method, params);
			throw new VhostctlError(
				"E_UNSUPPORTED",
				`there is no method '${method}'`,
			);
		},
	};
}
