// SPDX-License-Identifier: MIT
/** How settings of bdevs become parameters of calls. */
import type { MethodName } from "../engine/control/schema.ts";

/** Settings by name, as an option or in a SPEC: `block-size` is `4K`; flags are empty. */
export type Settings = ReadonlyMap<string, string>;

/** A method of the control socket and its parameters. */
export interface Call {
	readonly method: MethodName;
	readonly params: Record<string, unknown>;
}

/** How a setting becomes parameters; `undefined` when it was not given. */
export type Translate = (
	value: string,
	name: string,
	settings: Settings,
) => Record<string, unknown>;

export interface Kind {
	readonly method: MethodName;
	readonly required: readonly string[];
	readonly settings: Readonly<Record<string, Translate>>;
	/** What bdev_get_bdevs calls it. */
	readonly products: readonly string[];
	/** Start of the names of its other methods. */
	readonly methods: (product: string) => string;
}

/** A setting that is a parameter as it is. */
export const as =
	(parameter: string): Translate =>
	(value) => ({ [parameter]: value });

/** What a bdev of any kind tells of itself. */
export const identity = {
	uuid: as("uuid"),
	vendor: as("vendor"),
	product: as("product"),
	serial: as("serial"),
};
