// SPDX-License-Identifier: MIT
// The REPORT LUNS well known logical unit of a virtio-scsi device (virtio 5.6.6.1): the one that
// is addressed without a target, and knows all of them.
import { Buffer } from "node:buffer";
import { dataIn } from "../scsi/buffers.ts";
import { ASC, SENSE_KEY } from "../scsi/sense.ts";
import { type Command, GOOD, type Outcome } from "../scsi/task.ts";

const TEST_UNIT_READY = 0x00;
const INQUIRY = 0x12;
const REPORT_LUNS = 0xa0;
/** Well known logical unit (SPC-4 6.6.2). */
const DEVICE_TYPE = 0x1e;
const SPC_4 = 0x06;
const SELECT_ALL = 0x02;

function refuse(
	asc: typeof ASC.INVALID_OPCODE | typeof ASC.INVALID_FIELD_IN_CDB,
	byte?: number,
): Outcome {
	const field = byte === undefined ? undefined : ({ in: "cdb", byte } as const);
	return {
		kind: "check",
		sense: { key: SENSE_KEY.ILLEGAL_REQUEST, asc, field },
	};
}

function inquiry(command: Command): Outcome {
	const { cdb } = command;
	if (cdb.readUInt8(1) & 1) return refuse(ASC.INVALID_FIELD_IN_CDB, 1);
	if (cdb.readUInt8(2) !== 0) return refuse(ASC.INVALID_FIELD_IN_CDB, 2);
	const data = Buffer.alloc(36);
	data.set([DEVICE_TYPE, 0, SPC_4, 0x02, data.length - 5]);
	data.write("VHOSTCTLREPORT LUNS     0001", 8, "latin1");
	return dataIn(command, data, cdb.readUInt16BE(3));
}

/** The report: eight bytes for each logical unit of the device, as requests address it. */
function reportLuns(command: Command, addresses: readonly Buffer[]): Outcome {
	const { cdb } = command;
	if (cdb.readUInt8(2) > SELECT_ALL) return refuse(ASC.INVALID_FIELD_IN_CDB, 2);
	const header = Buffer.alloc(8);
	header.writeUInt32BE(8 * addresses.length, 0);
	const report = Buffer.concat([header, ...addresses]);
	return dataIn(command, report, cdb.readUInt32BE(6));
}

/** addresses: of all logical units, as requests have them. */
export function executeWellKnown(
	command: Command,
	addresses: readonly Buffer[],
): Outcome {
	switch (command.cdb.readUInt8(0)) {
		case REPORT_LUNS:
			return reportLuns(command, addresses);
		case INQUIRY:
			return inquiry(command);
		case TEST_UNIT_READY:
			return GOOD;
		default:
			return refuse(ASC.INVALID_OPCODE);
	}
}
