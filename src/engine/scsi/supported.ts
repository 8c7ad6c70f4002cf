// SPDX-License-Identifier: MIT
// What MAINTENANCE IN reports of the logical unit: commands, task management, target ports.
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import { TARGET_PORT_GROUP } from "./identity.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { invalidCdbField } from "./sense.ts";
import type { Host } from "./task.ts";

/** REPORTING OPTIONS of REPORT SUPPORTED OPERATION CODES (SPC-4 table 247). */
const REPORT = {
	ALL: 0,
	OPCODE: 1,
	SERVICE_ACTION: 2,
	EITHER: 3,
} as const;

interface ReportOperations {
	readonly withTimeouts: boolean;
	readonly option: number;
	readonly opcode: number;
	readonly serviceAction: number;
	readonly allocation: number;
}

/** Command timeouts descriptor (SPC-4 6.35.4). */
function timeouts({ timeout }: Operation): Buffer {
	const out = Buffer.alloc(12);
	out.writeUInt16BE(10, 0);
	// NOMINAL: what it takes as a rule is not known. RECOMMENDED, in seconds.
	out.writeUInt32BE(timeout, 8);
	return out;
}

/** Command descriptor of the list of all (SPC-4 table 249). */
function descriptor(one: Operation, withTimeouts: boolean): Buffer {
	const CTDP = 0x02;
	const SERVACTV = 0x01;
	const out = Buffer.alloc(8);
	const hasAction = one.serviceAction !== undefined;
	out[0] = one.opcode;
	out.writeUInt16BE(one.serviceAction ?? 0, 2);
	out[5] = (withTimeouts ? CTDP : 0) | (hasAction ? SERVACTV : 0);
	out.writeUInt16BE(one.usage.length, 6);
	return withTimeouts ? Buffer.concat([out, timeouts(one)]) : out;
}

function allOperations(lu: LogicalUnit, withTimeouts: boolean): Buffer {
	const header = Buffer.alloc(4);
	const body = lu.operations.map((one) => descriptor(one, withTimeouts));
	const out = Buffer.concat([header, ...body]);
	out.writeUInt32BE(out.length - 4, 0);
	return out;
}

/** What is told of one command, which may not exist (SPC-4 table 250). */
function oneOperation(
	found: Operation | undefined,
	withTimeouts: boolean,
): Buffer {
	const CTDP = 0x80;
	const NOT_SUPPORTED = 1;
	const AS_STANDARD = 3;
	if (!found) return Buffer.from([0, NOT_SUPPORTED, 0, 0]);
	const header = Buffer.alloc(4);
	header[1] = AS_STANDARD | (withTimeouts ? CTDP : 0);
	header.writeUInt16BE(found.usage.length, 2);
	const rest = withTimeouts ? [timeouts(found)] : [];
	return Buffer.concat([header, Buffer.from(found.usage), ...rest]);
}

/** The command asked for. Throws if the option does not go with the opcode. */
function lookUp(
	lu: LogicalUnit,
	{ option, opcode, serviceAction }: ReportOperations,
): Operation | undefined {
	const ofOpcode = lu.operations.filter((one) => one.opcode === opcode);
	const hasActions = ofOpcode.some((one) => one.serviceAction !== undefined);
	if (option === REPORT.OPCODE && hasActions) throw invalidCdbField(2, 2);
	if (option === REPORT.SERVICE_ACTION && ofOpcode.length > 0 && !hasActions)
		throw invalidCdbField(2, 2);
	if (hasActions)
		return ofOpcode.find((one) => one.serviceAction === serviceAction);
	if (option === REPORT.EITHER && serviceAction !== 0) return undefined;
	return ofOpcode[0];
}

function reportOperations(lu: LogicalUnit, request: ReportOperations): Buffer {
	const { option, withTimeouts } = request;
	if (option === REPORT.ALL) return allOperations(lu, withTimeouts);
	if (option > REPORT.EITHER) throw invalidCdbField(2, 2);
	return oneOperation(lookUp(lu, request), withTimeouts);
}

/** ATS, ATSS, CTSS, LURS, QTS; then QTSS, ITNRS (SPC-4 6.36). */
const TASK_MANAGEMENT = [0x80 | 0x40 | 0x10 | 0x08 | 0x04, 0x02 | 0x01];

function taskManagement(extended: boolean): Buffer {
	const out = Buffer.alloc(extended ? 16 : 4);
	out.set(TASK_MANAGEMENT);
	// REPORTED TASK MANAGEMENT FUNCTIONS TIMEOUTS are not known: all zero.
	if (extended) out[3] = 12;
	return out;
}

/** One group with all ports, always active (SPC-4 6.37). */
function targetPortGroups(host: Host, extended: boolean): Buffer {
	const ACTIVE_OPTIMIZED = 0x00;
	const AO_SUP = 0x01;
	const EXTENDED_HEADER = 0x10;
	const ports = host.targetPorts();
	const group = Buffer.alloc(8 + 4 * ports.length);
	group.set([ACTIVE_OPTIMIZED, AO_SUP]);
	group.writeUInt16BE(TARGET_PORT_GROUP, 2);
	group[7] = ports.length;
	for (const [i, port] of ports.entries())
		group.writeUInt16BE(port, 8 + 4 * i + 2);
	const header = Buffer.alloc(extended ? 8 : 4);
	if (extended) header[4] = EXTENDED_HEADER;
	const out = Buffer.concat([header, group]);
	out.writeUInt32BE(out.length - 4, 0);
	return out;
}

const common = {
	opcode: 0xa3,
	access: "none",
	reservation: "allowed",
	timeout: 10,
} as const;

export const supportedOperations: readonly Operation[] = [
	operation({
		...common,
		serviceAction: 0x0a,
		name: "REPORT TARGET PORT GROUPS",
		reference: "SPC-4 6.37",
		usage: [0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
		parse: (cdb) => ({
			format: cdb.readUInt8(1) >> 5,
			allocation: cdb.readUInt32BE(6),
		}),
		execute(lu, command, { format, allocation }) {
			if (format > 1) throw invalidCdbField(1, 7);
			const data = targetPortGroups(lu.host, format === 1);
			return dataIn(command, data, allocation);
		},
	}),
	operation({
		...common,
		serviceAction: 0x0c,
		reservation: "read",
		name: "REPORT SUPPORTED OPERATION CODES",
		reference: "SPC-4 6.35",
		usage: [0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
		parse: (cdb): ReportOperations => ({
			withTimeouts: (cdb.readUInt8(2) & 0x80) !== 0,
			option: cdb.readUInt8(2) & 0x07,
			opcode: cdb.readUInt8(3),
			serviceAction: cdb.readUInt16BE(4),
			allocation: cdb.readUInt32BE(6),
		}),
		execute: (lu, command, request) =>
			dataIn(command, reportOperations(lu, request), request.allocation),
	}),
	operation({
		...common,
		serviceAction: 0x0d,
		reservation: "read",
		name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
		reference: "SPC-4 6.36",
		usage: [0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
		parse: (cdb) => ({
			extended: (cdb.readUInt8(2) & 0x80) !== 0,
			allocation: cdb.readUInt32BE(6),
		}),
		execute(_lu, command, { extended, allocation }) {
			// The standard wants room for the four bytes that every answer has.
			if (allocation < 4) throw invalidCdbField(6);
			return dataIn(command, taskManagement(extended), allocation);
		},
	}),
];
