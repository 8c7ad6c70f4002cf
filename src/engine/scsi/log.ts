// SPDX-License-Identifier: MIT
// LOG SENSE. There is nothing to set or to reset, so there is no LOG SELECT.
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import { type Operation, operation } from "./operation.ts";
import { invalidCdbField } from "./sense.ts";

const ALL_SUBPAGES = 0xff;

interface LogPage {
	readonly code: number;
	readonly subpage: number;
	readonly name: string;
	/** Of the last parameter; pages without parameters take no pointer but zero. */
	readonly lastParameter: number;
	body(): Buffer;
}

/** Log pages, in ascending order. */
export const LOG_PAGES: readonly LogPage[] = [
	{
		code: 0x00,
		subpage: 0,
		name: "Supported Log Pages",
		lastParameter: 0,
		body: () =>
			Buffer.from(
				LOG_PAGES.filter(({ subpage }) => subpage === 0).map(
					({ code }) => code,
				),
			),
	},
	{
		code: 0x00,
		subpage: ALL_SUBPAGES,
		name: "Supported Log Pages and Subpages",
		lastParameter: 0,
		body: () =>
			Buffer.from(LOG_PAGES.flatMap(({ code, subpage }) => [code, subpage])),
	},
	{
		code: 0x2f,
		subpage: 0,
		name: "Informational Exceptions",
		lastParameter: 0,
		// Parameter 0, a binary list: no exception, no temperature (FFh).
		body: () => Buffer.from([0, 0, 0x03, 4, 0, 0, 0xff, 0xff]),
	},
];

interface LogSense {
	readonly code: number;
	readonly subpage: number;
	readonly parameter: number;
	readonly allocation: number;
}

function findPage({ code, subpage, parameter }: LogSense): LogPage {
	const ofCode = LOG_PAGES.filter((page) => page.code === code);
	if (ofCode.length === 0) throw invalidCdbField(2, 5);
	const page = ofCode.find((one) => one.subpage === subpage);
	if (!page) throw invalidCdbField(3);
	if (parameter > page.lastParameter) throw invalidCdbField(5);
	return page;
}

function encoded({ code, subpage, body }: LogPage): Buffer {
	const SPF = 0x40;
	const DS = 0x80;
	const parameters = body();
	// DS: not saved implicitly; it is reserved in the lists of pages.
	const flags = (subpage ? SPF : 0) | (code === 0 ? 0 : DS);
	const header = Buffer.from([flags | code, subpage, 0, 0]);
	header.writeUInt16BE(parameters.length, 2);
	return Buffer.concat([header, parameters]);
}

export const logOperations: readonly Operation[] = [
	operation({
		opcode: 0x4d,
		name: "LOG SENSE",
		reference: "SPC-4 6.8",
		usage: [0x4d, 0, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0],
		access: "none",
		reservation: "allowed",
		timeout: 10,
		parse: (cdb): LogSense => ({
			code: cdb.readUInt8(2) & 0x3f,
			subpage: cdb.readUInt8(3),
			parameter: cdb.readUInt16BE(5),
			allocation: cdb.readUInt16BE(7),
		}),
		execute: (_lu, command, request) =>
			dataIn(command, encoded(findPage(request)), request.allocation),
	}),
];
