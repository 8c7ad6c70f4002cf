// SPDX-License-Identifier: MIT
import * as v from "valibot";
import { VhostctlError } from "../errors.ts";
import { absentMethods } from "./schema/absent.ts";
import { bdevMethods } from "./schema/bdev.ts";
import { configMethods } from "./schema/config.ts";
import { frameworkMethods } from "./schema/framework.ts";
import { ignoredMethods } from "./schema/ignored.ts";
import { iostatMethods } from "./schema/iostat.ts";
import { logMethods } from "./schema/log.ts";
import { notifyMethods } from "./schema/notify.ts";
import { ownMethods } from "./schema/own.ts";
import { qosMethods } from "./schema/qos.ts";
import { scsiMethods } from "./schema/scsi.ts";
import { stackedMethods } from "./schema/stacked.ts";
import { traceMethods } from "./schema/trace.ts";
import type { Method } from "./schema/types.ts";
import { vhostMethods } from "./schema/vhost.ts";

/**
 * Every method of the control socket. The parameter check, the types, the
 * reference page and the command line's options come from here.
 */
export const METHODS = {
	...frameworkMethods,
	...bdevMethods,
	...iostatMethods,
	...qosMethods,
	...stackedMethods,
	...vhostMethods,
	...scsiMethods,
	...notifyMethods,
	...logMethods,
	...configMethods,
	...ignoredMethods,
	...absentMethods,
	...ownMethods,
	...traceMethods,
} as const satisfies Record<string, Method>;

export type MethodName = keyof typeof METHODS;
/** What a caller may pass. */
export type Params<M extends MethodName> = v.InferInput<
	(typeof METHODS)[M]["params"]
>;
/** What a handler gets, checked. */
export type Checked<M extends MethodName> = v.InferOutput<
	(typeof METHODS)[M]["params"]
>;
/** What a call gives. */
export type Result<M extends MethodName> = v.InferOutput<
	(typeof METHODS)[M]["result"]
>;

export function isMethod(name: string): name is MethodName {
	return Object.hasOwn(METHODS, name);
}

/** Says what is wrong with which parameter. */
function explain(issue: v.BaseIssue<unknown>): string {
	const path = v.getDotPath(issue);
	if (path === null) return "the parameters must be an object";
	if (issue.expected === "never") return `there is no parameter '${path}'`;
	const missing = issue.kind === "schema" && issue.received === "undefined";
	return `parameter '${path}' ${missing ? "is required" : issue.message}`;
}

/** Checks parameters as they came. Throws E_INVALID, naming each bad parameter. */
export function checkParams<M extends MethodName>(
	method: M,
	params: unknown,
): Checked<M> {
	if (Array.isArray(params)) {
		throw new VhostctlError(
			"E_INVALID",
			`${method}: the parameters must be an object`,
		);
	}
	const result = v.safeParse(METHODS[method].params, params ?? {});
	if (result.success) return result.output as Checked<M>;
	const wrong = new Set(result.issues.map(explain));
	throw new VhostctlError("E_INVALID", `${method}: ${[...wrong].join("; ")}`);
}
