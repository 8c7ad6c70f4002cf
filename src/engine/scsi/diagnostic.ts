// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { dataIn, readParameterList } from "./buffers.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import {
	ASC,
	illegalRequest,
	invalidCdbField,
	invalidParameter,
	SENSE_KEY,
	SenseError,
} from "./sense.ts";
import { type Command, GOOD, MediumError, type Outcome } from "./task.ts";

/** Supported Diagnostic Pages (SPC-4 7.2.3): itself alone. */
const SUPPORTED_PAGES = Buffer.from([0x00, 0x00, 0x00, 0x01, 0x00]);

interface SendDiagnostic {
	/** SELF-TEST CODE: tests in the background or the foreground. */
	readonly code: number;
	readonly pageFormat: boolean;
	/** SELFTEST: the default self-test. */
	readonly selfTest: boolean;
	readonly length: number;
}

/** Reads the first block and the last. */
async function selfTest({ medium }: LogicalUnit): Promise<Outcome> {
	try {
		await medium.read(0, 1);
		await medium.read(medium.numBlocks - 1, 1);
		return GOOD;
	} catch (error) {
		if (!(error instanceof MediumError) || error.errno === "ENOMEM")
			throw error;
		const { HARDWARE_ERROR: key } = SENSE_KEY;
		throw new SenseError({ key, asc: ASC.FAILED_SELF_TEST });
	}
}

/** Takes a diagnostic page; the one there is has no parameters. */
function takePage(list: Buffer): Outcome {
	if (list.length < 4) throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	if (list[0] !== 0) throw invalidParameter(0);
	if (list[1] !== 0) throw invalidParameter(1);
	if (list.readUInt16BE(2) !== 0) throw invalidParameter(2);
	if (list.length > 4) throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	return GOOD;
}

function sendDiagnostic(
	lu: LogicalUnit,
	command: Command,
	request: SendDiagnostic,
): Outcome | Promise<Outcome> {
	// Results of other self-tests would have to be kept for a log page of theirs.
	if (request.code !== 0) throw invalidCdbField(1, 7);
	if (request.selfTest) {
		if (request.length > 0) throw invalidCdbField(3);
		return selfTest(lu);
	}
	if (request.length === 0) return GOOD;
	if (!request.pageFormat) throw invalidCdbField(1, 4);
	return takePage(readParameterList(command, request.length));
}

export const diagnosticOperations: readonly Operation[] = [
	operation({
		opcode: 0x1d,
		name: "SEND DIAGNOSTIC",
		reference: "SPC-4 6.42",
		usage: [0x1d, 0xf7, 0x00, 0xff, 0xff, 0x00],
		access: "medium",
		reservation: "write",
		timeout: 60,
		parse: (cdb): SendDiagnostic => ({
			code: cdb.readUInt8(1) >> 5,
			pageFormat: (cdb.readUInt8(1) & 0x10) !== 0,
			selfTest: (cdb.readUInt8(1) & 0x04) !== 0,
			length: cdb.readUInt16BE(3),
		}),
		execute: sendDiagnostic,
	}),
	operation({
		opcode: 0x1c,
		name: "RECEIVE DIAGNOSTIC RESULTS",
		reference: "SPC-4 6.32",
		usage: [0x1c, 0x01, 0xff, 0xff, 0xff, 0x00],
		access: "none",
		reservation: "read",
		timeout: 10,
		parse: (cdb) => ({
			// Without PCV it is the page of the last SEND DIAGNOSTIC: the same.
			page: cdb.readUInt8(1) & 0x01 ? cdb.readUInt8(2) : 0,
			allocation: cdb.readUInt16BE(3),
		}),
		execute(_lu, command, { page, allocation }) {
			if (page !== 0) throw invalidCdbField(2);
			return dataIn(command, SUPPORTED_PAGES, allocation);
		},
	}),
];
