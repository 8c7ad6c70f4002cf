// SPDX-License-Identifier: MIT
// The parameter list of PERSISTENT RESERVE OUT (SPC-4 6.16.3 and 6.16.4): its form alone.
import type { Buffer } from "node:buffer";
import { OverrunError, readParameterList } from "./buffers.ts";
import { MAX_REGISTRATIONS } from "./persistent-state.ts";
import { PR_OUT } from "./reservation-rules.ts";
import { ASC, illegalRequest, invalidParameter } from "./sense.ts";
import type { Command } from "./task.ts";

const BASIC_LENGTH = 24;
const TRANSPORT_ID_LENGTH = 24;
/** Of the TransportIDs that SPEC_I_PT brings. */
const LIST_OFFSET = 28;
const MAX_LENGTH = LIST_OFFSET + MAX_REGISTRATIONS * TRANSPORT_ID_LENGTH;

/** A TransportID in the list: 48 hexadecimal digits, and where its first byte is. */
export interface ListedId {
	readonly transportId: string;
	readonly offset: number;
}

interface Keys {
	readonly key: bigint;
	readonly serviceActionKey: bigint;
	readonly aptpl: boolean;
}

/** The list of all service actions but REGISTER AND MOVE. */
export interface BasicList extends Keys {
	/** ALL_TG_PT. */
	readonly allPorts: boolean;
	/** SPEC_I_PT: the initiator ports to register too; undefined: the bit is zero. */
	readonly specified: readonly ListedId[] | undefined;
}

/** The list of REGISTER AND MOVE. */
export interface MoveList extends Keys {
	readonly unregister: boolean;
	readonly targetPort: number;
	readonly destination: ListedId;
}

function lengthError(): Error {
	return illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
}

/** Refuses bits of a byte that are reserved, pointing at the first that is set. */
function checkReserved(list: Buffer, byte: number, reserved: number): void {
	const wrong = list.readUInt8(byte) & reserved;
	if (wrong) throw invalidParameter(byte, 31 - Math.clz32(wrong));
}

function checkZero(list: Buffer, byte: number): void {
	if (list.readUInt8(byte) !== 0) throw invalidParameter(byte);
}

/** Reads the list, of a length that some list has. */
function readList(command: Command, length: number): Buffer {
	if (length > command.dataOutLength) throw new OverrunError();
	if (length < BASIC_LENGTH || length > MAX_LENGTH) throw lengthError();
	return readParameterList(command, length);
}

/** A TransportID; it must have the form and protocol that those of this target have. */
function readTransportId(
	command: Command,
	list: Buffer,
	offset: number,
): ListedId {
	const id = list.subarray(offset, offset + TRANSPORT_ID_LENGTH);
	if (id[0] !== command.nexus.transportId[0]) throw invalidParameter(offset);
	return { transportId: id.toString("hex"), offset };
}

/** TransportIDs that fill the rest of the list, as the four bytes before them say. */
function readTransportIds(command: Command, list: Buffer): ListedId[] {
	if (list.length < LIST_OFFSET) throw lengthError();
	const bytes = list.readUInt32BE(LIST_OFFSET - 4);
	if (LIST_OFFSET + bytes > list.length) throw lengthError();
	// All of this target have 24 bytes, so that another length cuts one off.
	if (bytes % TRANSPORT_ID_LENGTH !== 0)
		throw invalidParameter(LIST_OFFSET - 4);
	return Array.from({ length: bytes / TRANSPORT_ID_LENGTH }, (_, index) =>
		readTransportId(command, list, LIST_OFFSET + index * TRANSPORT_ID_LENGTH),
	);
}

/**
 * The basic list. `capable`: whether APTPL is supported. APTPL and ALL_TG_PT are
 * read for the service actions that have a use for them. Throws SenseError or OverrunError.
 */
export function readBasicList(
	command: Command,
	serviceAction: number,
	length: number,
	capable: boolean,
): BasicList {
	const list = readList(command, length);
	const flags = list.readUInt8(20);
	const specifies = (flags & 0x08) !== 0;
	if (!specifies && length !== BASIC_LENGTH) throw lengthError();
	checkReserved(list, 20, 0xf2);
	checkZero(list, 21);
	if (specifies && serviceAction !== PR_OUT.REGISTER)
		throw invalidParameter(20, 3);
	const registers =
		serviceAction === PR_OUT.REGISTER ||
		serviceAction === PR_OUT.REGISTER_AND_IGNORE_EXISTING_KEY;
	const aptpl = registers && (flags & 0x01) !== 0;
	if (aptpl && !capable) throw invalidParameter(20, 0);
	return {
		key: list.readBigUInt64BE(0),
		serviceActionKey: list.readBigUInt64BE(8),
		aptpl,
		allPorts: registers && (flags & 0x04) !== 0,
		specified: specifies ? readTransportIds(command, list) : undefined,
	};
}

/** The list of REGISTER AND MOVE; `capable` as above. Throws SenseError or OverrunError. */
export function readMoveList(
	command: Command,
	length: number,
	capable: boolean,
): MoveList {
	const list = readList(command, length);
	checkZero(list, 16);
	checkReserved(list, 17, 0xfc);
	const flags = list.readUInt8(17);
	const aptpl = (flags & 0x01) !== 0;
	if (aptpl && !capable) throw invalidParameter(17, 0);
	const bytes = list.readUInt32BE(20);
	if (BASIC_LENGTH + bytes > length) throw lengthError();
	if (bytes !== TRANSPORT_ID_LENGTH) throw invalidParameter(20);
	return {
		key: list.readBigUInt64BE(0),
		serviceActionKey: list.readBigUInt64BE(8),
		aptpl,
		unregister: (flags & 0x02) !== 0,
		targetPort: list.readUInt16BE(18),
		destination: readTransportId(command, list, BASIC_LENGTH),
	};
}
