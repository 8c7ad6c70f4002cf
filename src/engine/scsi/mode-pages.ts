// SPDX-License-Identifier: MIT
// The mode pages (SPC-4 7.5, SBC-3 6.4) and their values: current, changeable, default, saved.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Host, Medium } from "./task.ts";

/** PAGE CONTROL of MODE SENSE. */
export const PAGE_CONTROL = {
	CURRENT: 0,
	CHANGEABLE: 1,
	DEFAULT: 2,
	SAVED: 3,
} as const;
export type PageControl = (typeof PAGE_CONTROL)[keyof typeof PAGE_CONTROL];

/** A mode page, without its values. */
export interface ModePage {
	readonly code: number;
	/** 0: the page has no subpage code (page_0 format). */
	readonly subpage: number;
	readonly name: string;
	/** As MODE SENSE returns them, with the header, without PS. */
	readonly defaults: Buffer;
	/** A one for each bit that MODE SELECT may change; as long as defaults. */
	readonly changeable: Buffer;
}

/** The mode parameters that other commands depend on; MODE SENSE and SELECT read and set them all. */
export interface ModePages {
	/** Caching page: WCE. */
	readonly writeback: boolean;
	/** Control page: D_SENSE. */
	readonly descriptorSense: boolean;
	/** Control page: SWP. */
	readonly softwareWriteProtect: boolean;
	/** Back to the saved values, as a reset has it. */
	reset(): void;
	/** In ascending order. */
	readonly pages: readonly ModePage[];
	/** Whether values can be saved. */
	readonly savable: boolean;
	/** The bytes of a page, header included. */
	values(page: ModePage, control: PageControl): Buffer;
	/** Sets the current values of pages; returns what takes that back, or undefined if nothing changed. */
	apply(next: ReadonlyMap<ModePage, Buffer>): (() => void) | undefined;
	/** The values of all pages, by their codes, in hexadecimal. */
	export(): ModeValues;
	/** Takes such values over; of a page that is not among them the defaults. */
	import(values: ModeValues): void;
	/** Makes the current values the saved ones. Throws if they cannot be kept. */
	save(): void;
}

export interface ModeValues {
	readonly current: Readonly<Record<string, string>>;
	readonly saved: Readonly<Record<string, string>>;
}

/** A byte of a page: its place, its value by default, its changeable bits. */
interface Field {
	readonly byte: number;
	readonly value?: number;
	readonly changeable?: number;
}

function page(
	code: number,
	subpage: number,
	name: string,
	length: number,
	fields: readonly Field[] = [],
): ModePage {
	const header = subpage
		? [0x40 | code, subpage, 0, length - 4]
		: [code, length - 2];
	const defaults = Buffer.alloc(length);
	const changeable = Buffer.alloc(length);
	defaults.set(header);
	changeable.set(header);
	for (const field of fields) {
		defaults[field.byte] = field.value ?? 0;
		changeable[field.byte] = field.changeable ?? 0;
	}
	return { code, subpage, name, defaults, changeable };
}

const WCE = { byte: 2, mask: 0x04 };
const D_SENSE = { byte: 2, mask: 0x04 };
const SWP = { byte: 4, mask: 0x08 };
/** GLTSD: no log parameter is ever saved. */
const GLTSD = 0x02;
/** QUEUE ALGORITHM MODIFIER 1: simple commands may be reordered. */
const UNRESTRICTED_REORDERING = 0x10;
/** IALUAE: the target port group has the state that REPORT TARGET PORT GROUPS says. */
const IALUAE = 0x01;
/** DEXCPT: no informational exceptions are reported. */
const DEXCPT = 0x08;

const CONTROL = page(0x0a, 0, "Control", 12, [
	{ byte: D_SENSE.byte, value: GLTSD, changeable: D_SENSE.mask },
	{ byte: 3, value: UNRESTRICTED_REORDERING },
	{ byte: SWP.byte, changeable: SWP.mask },
]);

/** Caching: a write cache is there, and may be turned off, if the medium can be flushed. */
function cachingPage(medium: Pick<Medium, "supports">): ModePage {
	const bits = medium.supports.flush ? WCE.mask : 0;
	return page(0x08, 0, "Caching", 20, [
		{ byte: WCE.byte, value: bits, changeable: bits },
	]);
}

/** The mode pages of a disk, in ascending order. */
export function modePagesOf(
	medium: Pick<Medium, "supports">,
): readonly ModePage[] {
	return [
		page(0x01, 0, "Read-Write Error Recovery", 12),
		cachingPage(medium),
		CONTROL,
		page(0x0a, 1, "Control Extension", 32, [{ byte: 4, value: IALUAE }]),
		page(0x1a, 0, "Power Condition", 40),
		page(0x1c, 0, "Informational Exceptions Control", 12, [
			{ byte: 2, value: DEXCPT },
		]),
	];
}

export interface ModePagesOptions {
	readonly medium: Medium;
	readonly host: Host;
	readonly log?: ((message: string) => void) | undefined;
}

/** The UUID that saved values are kept under: not that of the disk, which the reservations have. */
function storeKey({ identity }: Medium): string {
	const text = `mode pages of ${identity.uuid.toLowerCase()}`;
	const hash = createHash("sha256").update(text).digest("hex");
	// Version 8, of a making of one's own (RFC 9562 5.8).
	const groups = [
		hash.slice(0, 8),
		hash.slice(8, 12),
		`8${hash.slice(13, 16)}`,
		`8${hash.slice(17, 20)}`,
		hash.slice(20, 32),
	];
	return groups.join("-");
}

const nameOf = ({ code, subpage }: ModePage): string => `${code}/${subpage}`;

/** Takes the changeable bits of `from`, the others of the defaults. */
function merged({ defaults, changeable }: ModePage, from: Buffer): Buffer {
	const out = Buffer.from(defaults);
	for (const [i, mask] of changeable.entries()) {
		if (i < headerLength(defaults)) continue;
		out[i] = (out[i] ?? 0) & ~mask;
		out[i] = (out[i] ?? 0) | ((from[i] ?? 0) & mask);
	}
	return out;
}

/** Bytes before the parameters of a page: 2, or 4 with a subpage code. */
export function headerLength(bytes: Buffer): number {
	return (bytes[0] ?? 0) & 0x40 ? 4 : 2;
}

/** The saved value of a page in a document of the store; the default if it has none. */
function savedValue(one: ModePage, document: unknown): Buffer {
	const text =
		typeof document === "object" && document !== null
			? (document as Record<string, unknown>)[nameOf(one)]
			: undefined;
	return merged(
		one,
		typeof text === "string" ? Buffer.from(text, "hex") : one.defaults,
	);
}

/** Mode pages with the values that were saved, or their defaults. */
export function createModePages(options: ModePagesOptions): ModePages {
	const { medium, host, log } = options;
	const pages = modePagesOf(medium);
	const saved = loaded(pages, options);
	let current = new Map(saved);

	const bit = (code: number, { byte, mask }: typeof WCE): boolean => {
		const found = pages.find((one) => one.code === code && one.subpage === 0);
		const value = found && current.get(found)?.[byte];
		return ((value ?? 0) & mask) !== 0;
	};
	const replace = (next: Map<ModePage, Buffer>): void => {
		current = next;
		host.changed();
	};
	const written = (values: ReadonlyMap<ModePage, Buffer>) =>
		Object.fromEntries(
			[...values].map(([one, bytes]) => [nameOf(one), bytes.toString("hex")]),
		);
	const unchanged = (next: ReadonlyMap<ModePage, Buffer>): boolean =>
		[...next].every(([one, bytes]) => current.get(one)?.equals(bytes));

	return {
		pages,
		savable: host.store !== undefined,
		get writeback() {
			return bit(0x08, WCE);
		},
		get descriptorSense() {
			return bit(0x0a, D_SENSE);
		},
		get softwareWriteProtect() {
			return bit(0x0a, SWP);
		},
		values(one, control) {
			if (control === PAGE_CONTROL.CHANGEABLE) return one.changeable;
			if (control === PAGE_CONTROL.DEFAULT) return one.defaults;
			const values = control === PAGE_CONTROL.SAVED ? saved : current;
			return values.get(one) ?? one.defaults;
		},
		apply(next) {
			if (unchanged(next)) return undefined;
			const before = current;
			replace(new Map([...current, ...next]));
			return () => replace(before);
		},
		save() {
			const document: Record<string, string> = {};
			for (const [one, bytes] of current)
				if (!one.defaults.equals(bytes))
					document[nameOf(one)] = bytes.toString("hex");
			const none = Object.keys(document).length === 0;
			try {
				host.store?.save(storeKey(medium), none ? null : document);
			} catch (error) {
				log?.(`mode parameters were not saved: ${String(error)}`);
				throw error;
			}
			for (const [one, bytes] of current) saved.set(one, bytes);
		},
		reset() {
			replace(new Map(saved));
		},
		export: () => ({ current: written(current), saved: written(saved) }),
		import(values) {
			for (const one of pages) saved.set(one, savedValue(one, values.saved));
			replace(
				new Map(pages.map((one) => [one, savedValue(one, values.current)])),
			);
		},
	};
}

/** The saved values of all pages. What cannot be read is as if it had never been saved. */
function loaded(
	pages: readonly ModePage[],
	{ medium, host, log }: ModePagesOptions,
): Map<ModePage, Buffer> {
	let document: unknown;
	try {
		document = host.store?.load(storeKey(medium));
	} catch (error) {
		log?.(`saved mode parameters were not read: ${String(error)}`);
	}
	return new Map(pages.map((one) => [one, savedValue(one, document)]));
}
