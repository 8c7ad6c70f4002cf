// SPDX-License-Identifier: MIT
// Configurations as SPDK's save_config writes them: calls by subsystem.
import stripJsonComments from "strip-json-comments";
import * as v from "valibot";
import { messageOf, VhostctlError } from "../../errors.ts";

/** The subsystems that have a configuration, each after those it depends on, named as in SPDK. */
export const SUBSYSTEMS = [
	{ subsystem: "bdev", depends_on: [] },
	{ subsystem: "scsi", depends_on: ["bdev"] },
	{ subsystem: "vhost_blk", depends_on: ["bdev"] },
	{ subsystem: "vhost_scsi", depends_on: ["scsi"] },
	// What SPDK does not save.
	{ subsystem: "vhostctl", depends_on: [] },
] as const satisfies { subsystem: string; depends_on: string[] }[];

type Subsystem = (typeof SUBSYSTEMS)[number]["subsystem"];

/** A call of a method, which another version may have named. */
export interface AnyCall {
	readonly method: string;
	readonly params: Readonly<Record<string, unknown>>;
}

/** A call of a configuration. */
export interface Item extends AnyCall {
	/** Its subsystem and its place there, as bdev[0]. */
	readonly item: string;
}

export interface ConfigDocument {
	readonly subsystems: readonly {
		readonly subsystem: string;
		readonly config: readonly AnyCall[];
	}[];
}

const call = v.looseObject({
	method: v.string(),
	params: v.optional(v.record(v.string(), v.unknown()), {}),
});

const subsystem = v.looseObject({
	subsystem: v.string(),
	// An array in it is a batch.
	config: v.nullish(v.array(v.union([call, v.array(call)]))),
});

const document = v.looseObject({ subsystems: v.array(subsystem) });

/** Reads JSON, in which SPDK allows comments. source: for messages. Throws E_INVALID. */
export function parseConfigText(text: string, source: string): unknown {
	try {
		return JSON.parse(stripJsonComments(text));
	} catch (error) {
		throw new VhostctlError(
			"E_INVALID",
			`${source} is not JSON: ${messageOf(error)}`,
		);
	}
}

/** The calls of a configuration, in their order. Throws E_INVALID. */
export function itemsOf(config: unknown, source: string): Item[] {
	const parsed = v.safeParse(document, config);
	if (!parsed.success) {
		const [issue] = parsed.issues;
		const path = v.getDotPath(issue) ?? "it";
		throw new VhostctlError(
			"E_INVALID",
			`${source} is no configuration: ${path} must be ${issue.expected ?? "other"}, not ${issue.received}`,
		);
	}
	return parsed.output.subsystems.flatMap(({ subsystem, config }) =>
		(config ?? []).flat().map(({ method, params }, index) => ({
			item: `${subsystem}[${index}]`,
			method,
			params,
		})),
	);
}

function subsystemOf(
	{ method, params }: AnyCall,
	scsi: ReadonlySet<unknown>,
): Subsystem {
	if (method.startsWith("bdev_")) return "bdev";
	if (!method.startsWith("vhost_")) return "vhostctl";
	return scsi.has(params.ctrlr) ? "vhost_scsi" : "vhost_blk";
}

/** A configuration of calls, in their order. */
export function toDocument(calls: readonly AnyCall[]): ConfigDocument {
	const scsi = new Set(
		calls
			.filter(({ method }) => method === "vhost_create_scsi_controller")
			.map(({ params }) => params.ctrlr),
	);
	return {
		subsystems: SUBSYSTEMS.map(({ subsystem }) => ({
			subsystem,
			config: calls.filter((one) => subsystemOf(one, scsi) === subsystem),
		})),
	};
}
