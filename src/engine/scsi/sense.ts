// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";

/** Status codes (SAM-5 5.3.1). */
export const STATUS = {
	GOOD: 0x00,
	CHECK_CONDITION: 0x02,
	CONDITION_MET: 0x04,
	BUSY: 0x08,
	RESERVATION_CONFLICT: 0x18,
	TASK_SET_FULL: 0x28,
	TASK_ABORTED: 0x40,
} as const;
export type Status = (typeof STATUS)[keyof typeof STATUS];

/** Sense keys (SPC-4 4.5.6). */
export const SENSE_KEY = {
	NO_SENSE: 0x0,
	RECOVERED_ERROR: 0x1,
	NOT_READY: 0x2,
	MEDIUM_ERROR: 0x3,
	HARDWARE_ERROR: 0x4,
	ILLEGAL_REQUEST: 0x5,
	UNIT_ATTENTION: 0x6,
	DATA_PROTECT: 0x7,
	COPY_ABORTED: 0xa,
	ABORTED_COMMAND: 0xb,
	MISCOMPARE: 0xe,
} as const;
export type SenseKey = (typeof SENSE_KEY)[keyof typeof SENSE_KEY];

/** Additional sense codes: ASC in the high byte, ASCQ in the low one (SPC-4, annex F). */
export const ASC = {
	NO_ADDITIONAL_SENSE: 0x0000,
	OPERATION_IN_PROGRESS: 0x0016,
	NOT_READY_MANUAL_INTERVENTION: 0x0403,
	NOT_READY_INITIALIZING_REQUIRED: 0x0402,
	SANITIZE_IN_PROGRESS: 0x041b,
	UNREACHABLE_COPY_TARGET: 0x0804,
	WRITE_ERROR: 0x0c00,
	UNRECOVERED_READ_ERROR: 0x1100,
	PARAMETER_LIST_LENGTH_ERROR: 0x1a00,
	MISCOMPARE_DURING_VERIFY: 0x1d00,
	INVALID_OPCODE: 0x2000,
	LBA_OUT_OF_RANGE: 0x2100,
	INVALID_FIELD_IN_CDB: 0x2400,
	LUN_NOT_SUPPORTED: 0x2500,
	INVALID_FIELD_IN_PARAMETER_LIST: 0x2600,
	TOO_MANY_TARGET_DESCRIPTORS: 0x2606,
	UNSUPPORTED_TARGET_DESCRIPTOR_TYPE: 0x2607,
	TOO_MANY_SEGMENT_DESCRIPTORS: 0x2608,
	UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE: 0x2609,
	UNEXPECTED_INEXACT_SEGMENT: 0x260a,
	INLINE_DATA_LENGTH_EXCEEDED: 0x260b,
	INVALID_RELEASE_OF_RESERVATION: 0x2604,
	THIRD_PARTY_DEVICE_FAILURE: 0x0d01,
	COPY_TARGET_NOT_REACHABLE: 0x0d02,
	INCORRECT_COPY_TARGET_TYPE: 0x0d03,
	WRITE_PROTECTED: 0x2700,
	SOFTWARE_WRITE_PROTECTED: 0x2702,
	SPACE_ALLOCATION_FAILED: 0x2707,
	POWER_ON_OR_RESET: 0x2900,
	POWER_ON: 0x2901,
	BUS_DEVICE_RESET_FUNCTION: 0x2903,
	NEXUS_LOSS: 0x2907,
	MODE_PARAMETERS_CHANGED: 0x2a01,
	RESERVATIONS_PREEMPTED: 0x2a03,
	RESERVATIONS_RELEASED: 0x2a04,
	REGISTRATIONS_PREEMPTED: 0x2a05,
	CAPACITY_DATA_CHANGED: 0x2a09,
	COMMANDS_CLEARED_BY_ANOTHER_INITIATOR: 0x2f00,
	SANITIZE_COMMAND_FAILED: 0x3103,
	SAVING_PARAMETERS_NOT_SUPPORTED: 0x3900,
	INVALID_MESSAGE_ERROR: 0x4900,
	MEDIUM_NOT_PRESENT: 0x3a00,
	FAILED_SELF_TEST: 0x3e03,
	INQUIRY_DATA_CHANGED: 0x3f03,
	REPORTED_LUNS_CHANGED: 0x3f0e,
	INTERNAL_TARGET_FAILURE: 0x4400,
	INSUFFICIENT_REGISTRATION_RESOURCES: 0x5504,
	MEDIUM_REMOVAL_PREVENTED: 0x5302,
} as const;
export type Asc = (typeof ASC)[keyof typeof ASC];

/** The byte, and the bit if one alone is wrong, that an ILLEGAL REQUEST is about. */
export interface FieldPointer {
	/**
	 * Whether it is in the CDB, in the parameter list, or, with COPY ABORTED, in the
	 * segment descriptor that Sense.segment says.
	 */
	readonly in: "cdb" | "data" | "segment";
	readonly byte: number;
	/** 7 is the most significant. */
	readonly bit?: number | undefined;
}

/** What a copy source or destination answered to the copy manager (SPC-4 4.5.2.7). */
export interface ForwardedSense {
	readonly from: "source" | "destination";
	readonly status: Status;
	readonly sense?: Sense | undefined;
}

export interface Sense {
	readonly key: SenseKey;
	readonly asc: Asc;
	/** INFORMATION: an LBA, as a rule; only where the standard wants one. */
	readonly information?: bigint | undefined;
	readonly field?: FieldPointer | undefined;
	/** How far an operation in progress is, from 0 to 1 (with NOT READY or NO SENSE). */
	readonly progress?: number | undefined;
	/** COMMAND-SPECIFIC INFORMATION of EXTENDED COPY: the segment descriptor it is about. */
	readonly segment?: number | undefined;
	readonly forwarded?: ForwardedSense | undefined;
}

/** What a command throws to end in CHECK CONDITION. */
export class SenseError extends Error {
	override readonly name = "SenseError";
	readonly sense: Sense;
	constructor(sense: Sense) {
		super(
			`sense ${sense.key.toString(16)}/${sense.asc.toString(16).padStart(4, "0")}`,
		);
		this.sense = sense;
	}
}

/** INVALID FIELD IN CDB, pointing at a byte and, if given, a bit of it. */
export function invalidCdbField(byte: number, bit?: number): SenseError {
	return new SenseError({
		key: SENSE_KEY.ILLEGAL_REQUEST,
		asc: ASC.INVALID_FIELD_IN_CDB,
		field: { in: "cdb", byte, bit },
	});
}

/** INVALID FIELD IN PARAMETER LIST, pointing at a byte and, if given, a bit of it. */
export function invalidParameter(byte: number, bit?: number): SenseError {
	return new SenseError({
		key: SENSE_KEY.ILLEGAL_REQUEST,
		asc: ASC.INVALID_FIELD_IN_PARAMETER_LIST,
		field: { in: "data", byte, bit },
	});
}

/** An ILLEGAL REQUEST that has no field to point at. */
export function illegalRequest(asc: Asc): SenseError {
	return new SenseError({ key: SENSE_KEY.ILLEGAL_REQUEST, asc });
}

const SKSV = 0x80;
/** C/D, or with COPY ABORTED SD. */
const KIND_OF_POINTER = { cdb: 0x40, data: 0, segment: 0x20 } as const;

/** The three SENSE KEY SPECIFIC bytes (SPC-4 4.5.2.4), or undefined. */
function keySpecific(sense: Sense): Buffer | undefined {
	const bytes = Buffer.alloc(3);
	const { field, progress } = sense;
	if (field) {
		bytes[0] =
			SKSV |
			KIND_OF_POINTER[field.in] |
			(field.bit === undefined ? 0 : 0x08 | field.bit);
		bytes.writeUInt16BE(field.byte, 1);
		return bytes;
	}
	if (progress === undefined) return undefined;
	bytes[0] = SKSV;
	bytes.writeUInt16BE(Math.min(0xffff, Math.floor(progress * 0x10000)), 1);
	return bytes;
}

/** Fixed format, 18 bytes unless something is forwarded (SPC-4 4.5.3); current, not deferred. */
function encodeFixed(sense: Sense): Buffer {
	const { information, segment = 0, forwarded } = sense;
	const tail = forwarded
		? Buffer.concat([
				Buffer.of(forwarded.status),
				forwarded.sense ? encodeFixed(forwarded.sense) : Buffer.alloc(0),
			])
		: Buffer.alloc(0);
	const out = Buffer.concat([Buffer.alloc(18), tail]);
	const fits = information !== undefined && information <= 0xffffffffn;
	out[0] = 0x70 | (fits ? 0x80 : 0);
	out[2] = sense.key;
	if (fits) out.writeUInt32BE(Number(information), 3);
	out[7] = out.length - 8;
	// Where in the sense data the status, and the sense data, of the one or the other is.
	if (forwarded) out[forwarded.from === "source" ? 8 : 9] = 18;
	out.writeUInt16BE(segment, 10);
	out.writeUInt16BE(sense.asc, 12);
	keySpecific(sense)?.copy(out, 15);
	return out;
}

/** Forwarded sense data descriptor (SPC-4 4.5.2.7). */
function encodeForwarded({ from, status, sense }: ForwardedSense): Buffer {
	const data = sense ? encodeDescriptor(sense) : Buffer.alloc(0);
	const source = from === "source" ? 1 : 2;
	return Buffer.from([0x0c, 2 + data.length, source, status, ...data]);
}

/** Descriptor format (SPC-4 4.5.2). */
function encodeDescriptor(sense: Sense): Buffer {
	const descriptors: Buffer[] = [];
	if (sense.information !== undefined) {
		const information = Buffer.alloc(12);
		information.set([0x00, 0x0a, 0x80]);
		information.writeBigUInt64BE(sense.information, 4);
		descriptors.push(information);
	}
	if (sense.segment !== undefined) {
		const specific = Buffer.alloc(12);
		specific.set([0x01, 0x0a]);
		specific.writeBigUInt64BE(BigInt(sense.segment), 4);
		descriptors.push(specific);
	}
	const specific = keySpecific(sense);
	if (specific)
		descriptors.push(Buffer.from([0x02, 0x06, 0, 0, ...specific, 0]));
	if (sense.forwarded) descriptors.push(encodeForwarded(sense.forwarded));
	const header = Buffer.alloc(8);
	const body = Buffer.concat(descriptors);
	header[0] = 0x72;
	header[1] = sense.key;
	header.writeUInt16BE(sense.asc, 2);
	header[7] = body.length;
	return Buffer.concat([header, body]);
}

/** Sense data as it goes to the initiator, in the format that D_SENSE or DESC asks for. */
export function encodeSense(sense: Sense, descriptor: boolean): Buffer {
	return descriptor ? encodeDescriptor(sense) : encodeFixed(sense);
}
