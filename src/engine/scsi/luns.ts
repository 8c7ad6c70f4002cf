// SPDX-License-Identifier: MIT
// REPORT LUNS, and how a target answers for logical units that are not there.
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import { emptyInquiry, INQUIRY_USAGE, parseInquiry } from "./inquiry.ts";
import { checkUsage, type Operation, operation } from "./operation.ts";
import { parseRequestSense, REQUEST_SENSE_USAGE } from "./request-sense.ts";
import {
	ASC,
	encodeSense,
	invalidCdbField,
	SENSE_KEY,
	type Sense,
	SenseError,
} from "./sense.ts";
import type { Command, Host, Outcome } from "./task.ts";

/** SELECT REPORT (SPC-4 6.33). */
const SELECT = {
	ADDRESSABLE: 0x00,
	WELL_KNOWN: 0x01,
	ALL: 0x02,
	ADMINISTRATIVE: 0x10,
	NOT_SUBSIDIARY: 0x11,
} as const;

interface ReportLuns {
	readonly select: number;
	readonly allocation: number;
}

function parseReportLuns(cdb: Buffer): ReportLuns {
	return { select: cdb.readUInt8(2), allocation: cdb.readUInt32BE(6) };
}

/**
 * The LUNs of a report. There is no well-known logical unit, and no conglomerate.
 * `lun` is the one that was asked, if it is there.
 */
function selectLuns(
	host: Host,
	select: number,
	lun: number | undefined,
): readonly number[] {
	switch (select) {
		case SELECT.ADDRESSABLE:
		case SELECT.ALL:
			return host.luns();
		case SELECT.WELL_KNOWN:
			return [];
		case SELECT.ADMINISTRATIVE:
		case SELECT.NOT_SUBSIDIARY:
			if (lun) throw invalidCdbField(2);
			return select === SELECT.NOT_SUBSIDIARY ? host.luns() : [];
		default:
			// SUBSIDIARY too, which is for administrative logical units to answer.
			throw invalidCdbField(2);
	}
}

function reportLuns(
	host: Host,
	command: Command,
	{ select, allocation }: ReportLuns,
	lun?: number,
): Outcome {
	const luns = selectLuns(host, select, lun);
	const out = Buffer.alloc(8 + 8 * luns.length);
	out.writeUInt32BE(8 * luns.length, 0);
	// Peripheral device addressing, which has room for LUNs up to 255 (SAM-5 4.7.7.2).
	for (const [i, one] of luns.entries()) out[8 + 8 * i + 1] = one;
	return dataIn(command, out, allocation);
}

const REPORT_LUNS_USAGE = [
	0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
] as const;

export const lunOperations: readonly Operation[] = [
	operation({
		opcode: 0xa0,
		name: "REPORT LUNS",
		reference: "SPC-4 6.33",
		usage: REPORT_LUNS_USAGE,
		access: "none",
		reservation: "allowed",
		timeout: 10,
		ignoresUnitAttention: true,
		parse: parseReportLuns,
		execute(lu, command, request) {
			const outcome = reportLuns(lu.host, command, request, lu.lun);
			if (outcome.kind === "good")
				lu.attentions.clear(ASC.REPORTED_LUNS_CHANGED, command.nexus);
			return outcome;
		},
	}),
];

/** Peripheral qualifier 011b and device type 1Fh: no logical unit can be here. */
const ABSENT = 0x7f;

const NOT_SUPPORTED: Sense = {
	key: SENSE_KEY.ILLEGAL_REQUEST,
	asc: ASC.LUN_NOT_SUPPORTED,
};

function absentInquiry(command: Command): Outcome {
	checkUsage({ usage: INQUIRY_USAGE }, command.cdb);
	const { page, allocation } = parseInquiry(command.cdb);
	if (page === undefined) {
		const standard = emptyInquiry(ABSENT).subarray(0, 36);
		standard[4] = 36 - 5;
		return dataIn(command, standard, allocation);
	}
	if (page !== 0) throw invalidCdbField(2);
	return dataIn(command, Buffer.from([ABSENT, 0, 0, 1, 0]), allocation);
}

function answerAbsent(command: Command, host: Host): Outcome {
	const { cdb } = command;
	switch (cdb[0]) {
		case 0x12:
			return absentInquiry(command);
		case 0xa0:
			checkUsage({ usage: REPORT_LUNS_USAGE }, cdb);
			return reportLuns(host, command, parseReportLuns(cdb));
		case 0x03: {
			checkUsage({ usage: REQUEST_SENSE_USAGE }, cdb);
			const { descriptor, allocation } = parseRequestSense(cdb);
			return dataIn(
				command,
				encodeSense(NOT_SUPPORTED, descriptor),
				allocation,
			);
		}
		default:
			return { kind: "check", sense: NOT_SUPPORTED };
	}
}

/** Answers a command for a LUN of the target that has no logical unit (SAM-5 5.11). */
export function executeAbsent(command: Command, host: Host): Outcome {
	try {
		return answerAbsent(command, host);
	} catch (error) {
		if (!(error instanceof SenseError)) throw error;
		return { kind: "check", sense: error.sense };
	}
}
