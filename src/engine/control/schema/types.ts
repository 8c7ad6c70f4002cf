// SPDX-License-Identifier: MIT
import * as v from "valibot";

/**
 * What a method does to what there is, which a configuration describes:
 *
 * - `none`: nothing; or nothing that a configuration has, as statistics;
 * - `makes`: makes an object that a method of `alters` deletes;
 * - `sets`: sets something; called again, it sets it anew;
 * - `alters`: deletes, resizes and the like: the rest;
 * - `ignored`: nothing, as what it sets for SPDK we have not; taken for its clients' sake.
 *
 * Configurations are made of calls of `makes`, `sets` and `ignored`.
 */
export type Effect = "none" | "makes" | "sets" | "alters" | "ignored";

/** A method of the control socket: what it takes, what it gives, what it is for. */
export interface Method {
	readonly description: string;
	readonly effect: Effect;
	/**
	 * When it may be called: only before framework_start_init (`startup`), or also before it.
	 * Default: only after it.
	 */
	readonly when?: "startup" | "always";
	readonly params: ParamsSchema;
	readonly result: v.GenericSchema;
	/** Parameters of a call that works, for the reference page. */
	readonly example?: Readonly<Record<string, unknown>>;
	/** True for a method that SPDK has not. */
	readonly own?: true;
}

type Entries = Readonly<Record<string, v.GenericSchema>>;

/** Loose where parameters are not looked at. */
type ParamsSchema =
	| v.StrictObjectSchema<Entries, undefined>
	| v.LooseObjectSchema<Entries, undefined>;

/** Keeps the exact type of a table of methods. */
export function methods<const T extends Record<string, Method>>(table: T): T {
	return table;
}

/** A whole number, both ends included. */
export function integer(min: number, max: number) {
	const range = `must be an integer from ${min} to ${max}`;
	return v.pipe(
		v.number(range),
		v.integer(range),
		v.minValue(min, range),
		v.maxValue(max, range),
	);
}

export const uint8 = integer(0, 0xff);
export const int32 = integer(-0x80000000, 0x7fffffff);
export const uint32 = integer(0, 0xffffffff);
/** As large as a JSON number can be without losing digits. */
export const uint64 = integer(0, Number.MAX_SAFE_INTEGER);
/** A bound, which clients set to 2^64 - 1 for none: that has lost digits already. */
export const unlimited64 = integer(0, 2 ** 64);
export const boolean = v.boolean("must be true or false");
export const string = v.string("must be a string");

/** A name that a caller chooses or refers to. */
export const name = v.pipe(
	string,
	v.nonEmpty("must not be empty"),
	v.maxBytes(255, "must have at most 255 bytes"),
	v.check((s) => !/\p{Cc}/u.test(s), "must not have control characters"),
);

/** Of a socket of somebody else. */
export const absolutePath = v.pipe(
	name,
	v.startsWith("/", "must be an absolute path"),
);

export const uuid = v.pipe(
	string,
	v.regex(
		/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i,
		"must be a UUID, as in 01234567-89ab-cdef-0123-456789abcdef",
	),
);

/** Text that goes into SCSI fields of so many bytes (SPC-4 4.3.1). */
export function ascii(maxBytes: number) {
	return v.pipe(
		string,
		v.regex(/^[ -~]*$/, "must be printable ASCII"),
		v.maxLength(maxBytes, `must have at most ${maxBytes} characters`),
	);
}

/** One of a few words. */
export function oneOf<const T extends readonly [string, ...string[]]>(
	...words: T
) {
	return v.picklist(words, `must be one of ${words.join(", ")}`);
}

/** An optional parameter with its line in the reference page. */
export function optional<S extends v.GenericSchema>(schema: S, text: string) {
	return v.optional(v.pipe(schema, v.description(text)));
}

/** A required parameter with its line in the reference page. */
export function required<S extends v.GenericSchema>(schema: S, text: string) {
	return v.pipe(schema, v.description(text));
}

/** A parameter of SPDK's that we have no use for: only the value that asks for nothing is taken. */
export function only<const T extends number | boolean>(value: T, what: string) {
	return v.optional(
		v.pipe(
			v.literal(value, `must be ${value}: ${what} is not supported`),
			v.description(`Only ${value}: ${what} is not supported`),
		),
	);
}

/** No parameters. */
export const none = v.strictObject({});
/** The name that a bdev got. */
export const bdevName = string;
/** SPDK answers true where there is nothing to say. */
export const done = v.literal(true);
export const array = v.array;
export const object = v.strictObject;
export const nullable = v.nullable;
/** Of a result: it may be missing. */
export const maybe = v.optional;
export const record = v.record;
export const union = v.union;
export const unknown = v.unknown();
/** A counter or a measure in a result. */
export const number = v.number();
