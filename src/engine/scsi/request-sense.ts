// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import { allocationFits, dataIn } from "./buffers.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { notReady } from "./readiness.ts";
import { ASC, encodeSense, SENSE_KEY, type Sense } from "./sense.ts";
import type { Command, Outcome } from "./task.ts";

interface RequestSense {
	/** DESC: the format, whatever D_SENSE says. */
	readonly descriptor: boolean;
	readonly allocation: number;
}

/** Reads a REQUEST SENSE CDB, also of a logical unit that is not there. */
export function parseRequestSense(cdb: Buffer): RequestSense {
	return {
		descriptor: (cdb.readUInt8(1) & 0x01) !== 0,
		allocation: cdb.readUInt8(4),
	};
}

const NO_SENSE: Sense = {
	key: SENSE_KEY.NO_SENSE,
	asc: ASC.NO_ADDITIONAL_SENSE,
};

/** What there is to report: a unit attention, then why the medium is not ready. */
function requestSense(
	lu: LogicalUnit,
	command: Command,
	{ descriptor, allocation }: RequestSense,
): Outcome {
	// A unit attention is not cleared unless it is reported.
	if (!allocationFits(command, allocation)) return { kind: "overrun" };
	const attention =
		allocation > 0 ? lu.attentions.take(command.nexus) : undefined;
	const sense = attention ?? notReady(lu) ?? NO_SENSE;
	return dataIn(command, encodeSense(sense, descriptor), allocation);
}

export const REQUEST_SENSE_USAGE = [0x03, 0x01, 0, 0, 0xff, 0x00] as const;

export const requestSenseOperations: readonly Operation[] = [
	operation({
		opcode: 0x03,
		name: "REQUEST SENSE",
		reference: "SPC-4 6.39",
		usage: REQUEST_SENSE_USAGE,
		access: "none",
		reservation: "allowed",
		timeout: 10,
		ignoresUnitAttention: true,
		parse: parseRequestSense,
		execute: requestSense,
	}),
];
