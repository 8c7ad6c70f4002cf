// SPDX-License-Identifier: MIT
import { bdevHandlers } from "./methods/bdev.ts";
import type { Context, Handlers } from "./methods/context.ts";
import { frameworkHandlers } from "./methods/framework.ts";
import { ignoredHandlers } from "./methods/ignored.ts";
import { logHandlers } from "./methods/log.ts";
import { notifyHandlers } from "./methods/notify.ts";
import { ownHandlers } from "./methods/own.ts";
import { qosHandlers } from "./methods/qos.ts";
import { scsiHandlers } from "./methods/scsi.ts";
import { vhostHandlers } from "./methods/vhost.ts";
import type { Effect } from "./schema/types.ts";
import {
	checkParams,
	METHODS,
	type MethodName,
	type Result,
} from "./schema.ts";

/** A handler for every method of the schema. */
export const HANDLERS: Handlers<MethodName> = {
	...frameworkHandlers,
	...bdevHandlers,
	...qosHandlers,
	...vhostHandlers,
	...scsiHandlers,
	...notifyHandlers,
	...logHandlers,
	...ignoredHandlers,
	...ownHandlers,
};

/** Of methods that change what a configuration describes. */
const CHANGING: readonly Effect[] = ["makes", "sets", "alters"];

/** Checks the parameters and carries a method out. Throws VhostctlError. */
export async function callMethod<M extends MethodName>(
	context: Context,
	method: M,
	params: unknown,
): Promise<Result<M>> {
	const checked = checkParams(method, params);
	const work = async () => HANDLERS[method](context, checked);
	const { handover } = context;
	const changes = CHANGING.includes(METHODS[method].effect);
	return handover && changes ? handover.change(work) : work();
}
