// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { readParameterList } from "./buffers.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { headerLength, type ModePage, PAGE_CONTROL } from "./mode-pages.ts";
import { longBlockDescriptor, shortBlockDescriptor } from "./mode-sense.ts";
import { type Operation, operation } from "./operation.ts";
import {
	ASC,
	illegalRequest,
	invalidCdbField,
	invalidParameter,
} from "./sense.ts";
import { type Command, GOOD, type Outcome } from "./task.ts";

const PF = 0x10;
const SP = 0x01;
/** Bits of DEVICE-SPECIFIC PARAMETER that come back from who echoes MODE SENSE. */
const ECHOED = 0x90;

/** Where the fields of a mode parameter header are (SPC-4 7.5.4). */
interface HeaderForm {
	readonly length: 4 | 8;
	readonly mediumType: number;
	readonly deviceSpecific: number;
	/** Byte with LONGLBA, if the form has it. */
	readonly longLba?: number;
	readonly descriptorLength: number;
}

const HEADER_6: HeaderForm = {
	length: 4,
	mediumType: 1,
	deviceSpecific: 2,
	descriptorLength: 3,
};

const HEADER_10: HeaderForm = {
	length: 8,
	mediumType: 2,
	deviceSpecific: 3,
	longLba: 4,
	descriptorLength: 6,
};

interface ModeSelect {
	/** PF: pages follow the block descriptors. */
	readonly pageFormat: boolean;
	readonly save: boolean;
	readonly length: number;
}

const lengthError = () => illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);

/** The most significant bit that is set. */
const highest = (bits: number): number => 31 - Math.clz32(bits);

/** Checks the header; returns the length of the block descriptor, and which kind it is. */
function checkHeader(
	list: Buffer,
	form: HeaderForm,
): { length: number; long: boolean } {
	if (list.length < form.length) throw lengthError();
	if (list[form.mediumType] !== 0) throw invalidParameter(form.mediumType);
	const odd = (list[form.deviceSpecific] ?? 0) & ~ECHOED;
	if (odd) throw invalidParameter(form.deviceSpecific, highest(odd));
	const flags = form.longLba === undefined ? 0 : (list[form.longLba] ?? 0);
	if (flags & ~1)
		throw invalidParameter(form.longLba ?? 0, highest(flags & ~1));
	const long = (flags & 1) !== 0;
	const at = form.descriptorLength;
	const length = form.length === 4 ? list.readUInt8(at) : list.readUInt16BE(at);
	if (length !== 0 && length !== (long ? 16 : 8)) throw invalidParameter(at);
	if (list.length < form.length + length) throw lengthError();
	return { length, long };
}

/**
 * Checks a block descriptor: it may only say what is so already, or zero or all
 * ones for the number of blocks, which leave it as it is (SBC-3 6.4.2).
 */
function checkDescriptor(given: Buffer, actual: Buffer, offset: number): void {
	const count = actual.length / 2;
	const same = given.subarray(0, count).equals(actual.subarray(0, count));
	const keeps = [0x00, 0xff].some((byte) =>
		given.subarray(0, count).every((value) => value === byte),
	);
	if (!same && !keeps) throw invalidParameter(offset);
	for (let byte = count; byte < actual.length; byte++)
		if (given[byte] !== actual[byte]) throw invalidParameter(offset + byte);
}

/** The page whose header is at an offset of the list. Throws if there is none, or its length is wrong. */
function pageAt(
	pages: readonly ModePage[],
	list: Buffer,
	offset: number,
): ModePage {
	const rest = list.subarray(offset);
	const header = headerLength(rest);
	if (rest.length < header) throw lengthError();
	const code = (rest[0] ?? 0) & 0x3f;
	const subpage = header === 4 ? (rest[1] ?? 0) : 0;
	const ofCode = pages.filter((one) => one.code === code);
	if (ofCode.length === 0) throw invalidParameter(offset, 5);
	const page = ofCode.find((one) => one.subpage === subpage);
	// Subpage 0 in the form that has a subpage code is no page either.
	if (!page || headerLength(page.defaults) !== header)
		throw invalidParameter(offset + 1);
	const length = header === 4 ? rest.readUInt16BE(2) : rest.readUInt8(1);
	if (length !== page.defaults.length - header)
		throw invalidParameter(offset + header / 2);
	if (rest.length < header + length) throw lengthError();
	return page;
}

/** The new bytes of a page. Throws at a bit that is other than it is and cannot be changed. */
function newValue(
	lu: LogicalUnit,
	page: ModePage,
	given: Buffer,
	offset: number,
): Buffer {
	const out = Buffer.from(lu.modes.values(page, PAGE_CONTROL.CURRENT));
	for (let i = headerLength(out); i < out.length; i++) {
		const value = given[i] ?? 0;
		const wrong = (value ^ (out[i] ?? 0)) & ~(page.changeable[i] ?? 0);
		if (wrong) throw invalidParameter(offset + i, highest(wrong));
		out[i] = value;
	}
	return out;
}

/** Reads and checks the whole list, so that nothing is changed by half. */
function parseList(
	lu: LogicalUnit,
	list: Buffer,
	form: HeaderForm,
): Map<ModePage, Buffer> {
	const { length, long } = checkHeader(list, form);
	let offset = form.length + length;
	if (length > 0) {
		const actual = long
			? longBlockDescriptor(lu.medium)
			: shortBlockDescriptor(lu.medium);
		checkDescriptor(list.subarray(form.length, offset), actual, form.length);
	}
	const next = new Map<ModePage, Buffer>();
	while (offset < list.length) {
		const page = pageAt(lu.modes.pages, list, offset);
		next.set(page, newValue(lu, page, list.subarray(offset), offset));
		offset += page.defaults.length;
	}
	return next;
}

/** Sets pages and, if asked, saves them; takes everything back if that fails. */
async function change(
	lu: LogicalUnit,
	command: Command,
	next: ReadonlyMap<ModePage, Buffer>,
	save: boolean,
): Promise<void> {
	const cached = lu.modes.writeback;
	const undo = lu.modes.apply(next);
	try {
		// SBC-3 6.4.5: what is in the cache when it is turned off is written.
		if (cached && !lu.modes.writeback) await lu.medium.flush();
		if (save) lu.modes.save();
	} catch (error) {
		undo?.();
		throw error;
	}
	if (!undo) return;
	const others = lu.host.nexuses().filter((one) => one !== command.nexus);
	lu.attentions.establish(ASC.MODE_PARAMETERS_CHANGED, others);
}

async function modeSelect(
	lu: LogicalUnit,
	command: Command,
	{ pageFormat, save, length }: ModeSelect,
	form: HeaderForm,
): Promise<Outcome> {
	if (save && !lu.modes.savable) throw invalidCdbField(1, 0);
	if (length === 0) return GOOD;
	if (!pageFormat) throw invalidCdbField(1, 4);
	const list = readParameterList(command, length);
	await change(lu, command, parseList(lu, list, form), save);
	return GOOD;
}

function parseModeSelect(cdb: Buffer, length: number): ModeSelect {
	const flags = cdb.readUInt8(1);
	return {
		pageFormat: (flags & PF) !== 0,
		save: (flags & SP) !== 0,
		length,
	};
}

const common = {
	access: "none",
	reservation: "write",
	timeout: 30,
} as const;

export const modeSelectOperations: readonly Operation[] = [
	operation({
		...common,
		opcode: 0x15,
		name: "MODE SELECT (6)",
		reference: "SPC-4 6.11",
		usage: [0x15, PF | SP, 0x00, 0x00, 0xff, 0x00],
		parse: (cdb) => parseModeSelect(cdb, cdb.readUInt8(4)),
		execute: (lu, command, request) =>
			modeSelect(lu, command, request, HEADER_6),
	}),
	operation({
		...common,
		opcode: 0x55,
		name: "MODE SELECT (10)",
		reference: "SPC-4 6.12",
		usage: [0x55, PF | SP, 0, 0, 0, 0, 0, 0xff, 0xff, 0x00],
		parse: (cdb) => parseModeSelect(cdb, cdb.readUInt16BE(7)),
		execute: (lu, command, request) =>
			modeSelect(lu, command, request, HEADER_10),
	}),
];
