// SPDX-License-Identifier: MIT
// How a command ends that failed.
import { OverrunError } from "./buffers.ts";
import { findOperation, OPERATIONS } from "./opcodes.ts";
import { ASC, SENSE_KEY, type Sense, SenseError, STATUS } from "./sense.ts";
import {
	type Command,
	type MediumErrno,
	MediumError,
	type Outcome,
} from "./task.ts";

/** How a command ends that threw; what it threw is told to `log` if it is a mistake of ours. */
export function outcomeOfError(
	command: Command,
	error: unknown,
	log?: (message: string) => void,
): Outcome {
	if (error instanceof SenseError) return { kind: "check", sense: error.sense };
	if (error instanceof OverrunError) return { kind: "overrun" };
	if (error instanceof MediumError)
		return outcomeOfFailure(command, error.errno);
	log?.(`SCSI command ${command.cdb.toString("hex")}: ${String(error)}`);
	const { HARDWARE_ERROR: key } = SENSE_KEY;
	return { kind: "check", sense: { key, asc: ASC.INTERNAL_TARGET_FAILURE } };
}

/** Whether a command that failed was one that reads. */
function reads(command: Command): boolean {
	try {
		return findOperation(OPERATIONS, command.cdb).access === "read";
	} catch {
		return false;
	}
}

/** How a command ends that the medium failed. */
export function outcomeOfFailure(
	command: Command,
	errno: MediumErrno,
): Exclude<Outcome, { kind: "transfer" }> {
	// Nothing is wrong with the disk: the initiator is to try again later.
	if (errno === "ENOMEM") return { kind: "status", status: STATUS.BUSY };
	return { kind: "check", sense: senseOfFailure(command, errno) };
}

function senseOfFailure(
	command: Command,
	errno: Exclude<MediumErrno, "ENOMEM">,
): Sense {
	switch (errno) {
		case "ENOSPC":
			return { key: SENSE_KEY.DATA_PROTECT, asc: ASC.SPACE_ALLOCATION_FAILED };
		case "ERANGE":
			return { key: SENSE_KEY.ILLEGAL_REQUEST, asc: ASC.LBA_OUT_OF_RANGE };
		case "EOPNOTSUPP":
			return { key: SENSE_KEY.ILLEGAL_REQUEST, asc: ASC.INVALID_OPCODE };
		case "EROFS":
			return { key: SENSE_KEY.DATA_PROTECT, asc: ASC.WRITE_PROTECTED };
		case "ENODEV":
			// The backend is gone. MEDIUM NOT PRESENT is for removable media; Linux fails the
			// command at once with this one too.
			return {
				key: SENSE_KEY.HARDWARE_ERROR,
				asc: ASC.INTERNAL_TARGET_FAILURE,
			};
		case "EIO":
			return {
				key: SENSE_KEY.MEDIUM_ERROR,
				asc: reads(command) ? ASC.UNRECOVERED_READ_ERROR : ASC.WRITE_ERROR,
			};
	}
}
