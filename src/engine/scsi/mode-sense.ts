// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import {
	headerLength,
	type ModePage,
	PAGE_CONTROL,
	type PageControl,
} from "./mode-pages.ts";
import { type Operation, operation } from "./operation.ts";
import { ASC, illegalRequest, invalidCdbField } from "./sense.ts";
import type { Medium } from "./task.ts";

const WP = 0x80;
const DPOFUA = 0x10;
const LONGLBA = 0x01;
/** PS, in the first byte of a page. */
const PS = 0x80;
const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;

interface ModeSense {
	readonly control: PageControl;
	readonly code: number;
	readonly subpage: number;
	/** Which block descriptor is wanted. */
	readonly descriptor: "none" | "short" | "long";
	readonly allocation: number;
}

/** Bytes 1 to 3, which MODE SENSE(6) and (10) have in common. */
function parseModeSense(cdb: Buffer, allocation: number): ModeSense {
	const [, flags = 0, page = 0, subpage = 0] = cdb;
	const wanted = flags & 0x10 ? "long" : "short";
	return {
		control: (page >> 6) as PageControl,
		code: page & 0x3f,
		subpage,
		descriptor: flags & 0x08 ? "none" : wanted,
		allocation,
	};
}

/** Short LBA mode parameter block descriptor (SBC-3 6.4.2.2). */
export function shortBlockDescriptor(medium: Medium): Buffer {
	const out = Buffer.alloc(8);
	out.writeUInt32BE(Math.min(medium.numBlocks, 0xffffffff), 0);
	out.writeUIntBE(medium.blockSize, 5, 3);
	return out;
}

/** Long LBA mode parameter block descriptor (SBC-3 6.4.2.3). */
export function longBlockDescriptor(medium: Medium): Buffer {
	const out = Buffer.alloc(16);
	out.writeBigUInt64BE(BigInt(medium.numBlocks), 0);
	out.writeUInt32BE(medium.blockSize, 12);
	return out;
}

function blockDescriptor(
	medium: Medium,
	wanted: ModeSense["descriptor"],
): Buffer {
	if (wanted === "none") return Buffer.alloc(0);
	return wanted === "long"
		? longBlockDescriptor(medium)
		: shortBlockDescriptor(medium);
}

/** The pages that a page code and a subpage code ask for (SPC-4 6.13, table 173). */
function selected(
	pages: readonly ModePage[],
	{ code, subpage }: ModeSense,
): readonly ModePage[] {
	const ofCode = pages.filter((one) => code === ALL_PAGES || one.code === code);
	if (ofCode.length === 0) throw invalidCdbField(2, 5);
	if (subpage === ALL_SUBPAGES) return ofCode;
	const found = ofCode.filter((one) => one.subpage === subpage);
	// All pages are to be had without subpages or with all of them.
	if (found.length === 0 || (code === ALL_PAGES && subpage !== 0))
		throw invalidCdbField(3);
	return found;
}

function isChangeable({ defaults, changeable }: ModePage): boolean {
	return changeable.subarray(headerLength(defaults)).some((bits) => bits !== 0);
}

/** A page as it goes out: with PS, if MODE SELECT can save it. */
function encoded(
	lu: LogicalUnit,
	page: ModePage,
	control: PageControl,
): Buffer {
	const out = Buffer.from(lu.modes.values(page, control));
	if (lu.modes.savable && isChangeable(page)) out[0] = (out[0] ?? 0) | PS;
	return out;
}

/** Block descriptors and pages, without the header. */
function body(
	lu: LogicalUnit,
	request: ModeSense,
): { descriptor: Buffer; pages: Buffer } {
	if (request.control === PAGE_CONTROL.SAVED && !lu.modes.savable)
		throw illegalRequest(ASC.SAVING_PARAMETERS_NOT_SUPPORTED);
	const pages = selected(lu.modes.pages, request).map((page) =>
		encoded(lu, page, request.control),
	);
	return {
		descriptor: blockDescriptor(lu.medium, request.descriptor),
		pages: Buffer.concat(pages),
	};
}

/** DEVICE-SPECIFIC PARAMETER of a disk (SBC-3 6.4.1). */
function deviceSpecific(lu: LogicalUnit): number {
	const locked = lu.medium.readonly || lu.modes.softwareWriteProtect;
	return DPOFUA | (locked ? WP : 0);
}

const common = {
	access: "none",
	reservation: "read",
	timeout: 10,
} as const;

export const modeSenseOperations: readonly Operation[] = [
	operation({
		...common,
		opcode: 0x1a,
		name: "MODE SENSE (6)",
		reference: "SPC-4 6.13",
		usage: [0x1a, 0x08, 0xff, 0xff, 0xff, 0x00],
		parse: (cdb) => parseModeSense(cdb, cdb.readUInt8(4)),
		execute(lu, command, request) {
			const { descriptor, pages } = body(lu, request);
			const length = 3 + descriptor.length + pages.length;
			const header = [length, 0, deviceSpecific(lu), descriptor.length];
			const data = Buffer.concat([Buffer.from(header), descriptor, pages]);
			return dataIn(command, data, request.allocation);
		},
	}),
	operation({
		...common,
		opcode: 0x5a,
		name: "MODE SENSE (10)",
		reference: "SPC-4 6.14",
		usage: [0x5a, 0x18, 0xff, 0xff, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00],
		parse: (cdb) => parseModeSense(cdb, cdb.readUInt16BE(7)),
		execute(lu, command, request) {
			const { descriptor, pages } = body(lu, request);
			const header = Buffer.alloc(8);
			header.writeUInt16BE(6 + descriptor.length + pages.length, 0);
			header[3] = deviceSpecific(lu);
			header[4] = request.descriptor === "long" ? LONGLBA : 0;
			header.writeUInt16BE(descriptor.length, 6);
			const data = Buffer.concat([header, descriptor, pages]);
			return dataIn(command, data, request.allocation);
		},
	}),
];
