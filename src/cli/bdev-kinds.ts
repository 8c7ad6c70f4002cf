// SPDX-License-Identifier: MIT
/**
 * The kinds of block device and their settings, shared by `bdev create KIND …` and
 * `serve --bdev KIND:…`: both become the same call.
 */
import {
	as,
	type Call,
	identity,
	type Kind,
	type Settings,
	type Translate,
} from "./bdev-settings.ts";
import { STACKED_KINDS } from "./bdev-stacked.ts";
import { UsageError } from "./errors.ts";
import { parseCount, parseSize, quoted } from "./size.ts";

export type { Call, Settings } from "./bdev-settings.ts";

/** Settings that are given without a value. */
const FLAGS: readonly string[] = ["readonly", "no-packed", "iommu", "inband"];

const DEFAULT_BLOCK_SIZE = "512";

const blockSize: Translate = (value, name) => ({
	block_size: parseSize(value, name),
});

/** A size is given in bytes and told in blocks. */
const size: Translate = (value, name, settings) => {
	const bytes = parseSize(value, name);
	const block = parseSize(
		settings.get("block-size") ?? DEFAULT_BLOCK_SIZE,
		"block-size",
	);
	if (bytes === 0 || bytes % block !== 0)
		throw new UsageError(
			`${name} is ${quoted(value)}: want a multiple of the block size, ${block}`,
		);
	return { block_size: block, num_blocks: bytes / block };
};

export const KINDS: Readonly<Record<string, Kind>> = {
	malloc: {
		method: "bdev_malloc_create",
		required: ["size"],
		settings: {
			name: as("name"),
			"block-size": blockSize,
			size,
			...identity,
			pages: as("page_size"),
			node: (value, name) => ({ numa_id: parseCount(value, name, 0, 1023) }),
		},
		products: ["Malloc disk"],
		methods: () => "bdev_malloc",
	},
	null: {
		method: "bdev_null_create",
		required: ["name", "size"],
		settings: {
			name: as("name"),
			"block-size": blockSize,
			size,
			...identity,
		},
		products: ["Null disk"],
		methods: () => "bdev_null",
	},
	file: {
		method: "bdev_aio_create",
		required: ["name", "path"],
		settings: {
			name: as("name"),
			path: as("filename"),
			"block-size": blockSize,
			...identity,
			readonly: () => ({ readonly: true }),
		},
		products: ["AIO disk", "URING bdev"],
		methods: (product) => (product === "AIO disk" ? "bdev_aio" : "bdev_uring"),
	},
	...STACKED_KINDS,
};

/** The name of a kind from what bdev_get_bdevs calls it; what that says if it is none of ours. */
export function kindOf(product: string): string {
	return (
		Object.entries(KINDS).find(([, { products }]) =>
			products.includes(product),
		)?.[0] ?? product
	);
}

/** The method that does `verb` (delete, resize, rescan) to a bdev of that product name. */
export function methodFor(product: string, verb: string): string {
	const kind = KINDS[kindOf(product)];
	return `${kind?.methods(product) ?? "bdev"}_${verb}`;
}

/** How a setting's name is shown to who typed it, and what else to say where. */
export interface Wording {
	readonly label: (setting: string) => string;
	/** In front of messages: `--bdev malloc:…: `, or nothing. */
	readonly prefix: string;
}

/** The call that makes a bdev of `kind`. */
export function createCall(
	kind: string,
	settings: Settings,
	{ label, prefix }: Wording,
): Call {
	const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
	if (!known)
		throw new UsageError(`${prefix}unknown kind of bdev ${quoted(kind)}`, {
			given: kind,
			known: Object.keys(KINDS),
		});
	for (const name of settings.keys())
		if (!Object.hasOwn(known.settings, name))
			throw new UsageError(`${prefix}a ${kind} bdev has no ${label(name)}`, {
				given: label(name),
				known: Object.keys(known.settings).map(label),
			});
	for (const name of known.required)
		if (!settings.has(name))
			throw new UsageError(`${prefix}a ${kind} bdev needs ${label(name)}`);
	const params: Record<string, unknown> = {};
	for (const [name, translate] of Object.entries(known.settings)) {
		const value = settings.get(name);
		if (value !== undefined)
			Object.assign(params, translate(value, prefix + label(name), settings));
	}
	return { method: known.method, params };
}

/** Reads `KIND:name=value,flag,…` as serve's --bdev takes it. */
export function parseBdevSpec(spec: string): Call {
	const [, kind, text] = /^([^:]*):(.*)$/.exec(spec) ?? [];
	if (kind === undefined || text === undefined)
		throw new UsageError(
			`--bdev is ${quoted(spec)}: want KIND:SETTINGS, as malloc:name=disk0,size=1G`,
		);
	const owner = `--bdev ${spec}`;
	return createCall(kind, parseSettings(text, owner), {
		label: (setting) => setting,
		prefix: `${owner}: `,
	});
}

/** Reads `name=value,flag,…`. `owner` is whose they are, for messages. */
export function parseSettings(text: string, owner: string): Settings {
	const settings = new Map<string, string>();
	// Commas in brackets belong to a list of processors.
	for (const part of text.split(/,(?![^[]*\])/)) {
		const equals = part.indexOf("=");
		const name = equals < 0 ? part : part.slice(0, equals);
		const flag = FLAGS.includes(name);
		if (name === "" || flag === equals >= 0)
			throw new UsageError(
				`${owner}: ${quoted(part)} is no setting: want name=value${flag ? `, but ${name} alone` : ""}`,
			);
		if (settings.has(name))
			throw new UsageError(`${owner}: ${name} is given twice`);
		settings.set(name, equals < 0 ? "" : part.slice(equals + 1));
	}
	return settings;
}
