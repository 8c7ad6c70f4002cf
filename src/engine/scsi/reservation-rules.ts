// SPDX-License-Identifier: MIT
// Which commands a reservation of somebody else refuses: the tables of the standards.
import type { Buffer } from "node:buffer";

/** Types of persistent reservations (SPC-4 6.15.4.3). */
export const RESERVATION_TYPE = {
	WRITE_EXCLUSIVE: 0x1,
	EXCLUSIVE_ACCESS: 0x3,
	WRITE_EXCLUSIVE_REGISTRANTS_ONLY: 0x5,
	EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: 0x6,
	WRITE_EXCLUSIVE_ALL_REGISTRANTS: 0x7,
	EXCLUSIVE_ACCESS_ALL_REGISTRANTS: 0x8,
} as const;
export type ReservationType =
	(typeof RESERVATION_TYPE)[keyof typeof RESERVATION_TYPE];

/** The type that a number stands for; undefined: a reserved or obsolete one. */
export function reservationType(value: unknown): ReservationType | undefined {
	return Object.values(RESERVATION_TYPE).find((type) => type === value);
}

/** Others may read. */
export function isWriteExclusive(type: ReservationType): boolean {
	return (
		type === RESERVATION_TYPE.WRITE_EXCLUSIVE ||
		type === RESERVATION_TYPE.WRITE_EXCLUSIVE_REGISTRANTS_ONLY ||
		type === RESERVATION_TYPE.WRITE_EXCLUSIVE_ALL_REGISTRANTS
	);
}

export function isRegistrantsOnly(type: ReservationType): boolean {
	return (
		type === RESERVATION_TYPE.WRITE_EXCLUSIVE_REGISTRANTS_ONLY ||
		type === RESERVATION_TYPE.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
	);
}

/** Every registrant is a holder. */
export function isAllRegistrants(type: ReservationType): boolean {
	return (
		type === RESERVATION_TYPE.WRITE_EXCLUSIVE_ALL_REGISTRANTS ||
		type === RESERVATION_TYPE.EXCLUSIVE_ACCESS_ALL_REGISTRANTS
	);
}

/** What an I_T nexus is to a persistent reservation. */
export type Standing = "holder" | "registrant" | "stranger";

/** What the opcode table says of an operation: its row in the tables of SPC-4 and SBC-3. */
export type Rule = "allowed" | "read" | "write" | "conflict";

/** As much of an entry of the opcode table as the rules need. */
export interface Subject {
	readonly opcode: number;
	readonly serviceAction?: number;
	readonly reservation: Rule;
}

export const OPCODE = {
	REQUEST_SENSE: 0x03,
	INQUIRY: 0x12,
	RESERVE_6: 0x16,
	RELEASE_6: 0x17,
	START_STOP_UNIT: 0x1b,
	PREVENT_ALLOW: 0x1e,
	READ_CAPACITY_10: 0x25,
	LOG_SENSE: 0x4d,
	RESERVE_10: 0x56,
	RELEASE_10: 0x57,
	PERSISTENT_RESERVE_IN: 0x5e,
	PERSISTENT_RESERVE_OUT: 0x5f,
	SERVICE_ACTION_IN_16: 0x9e,
	REPORT_LUNS: 0xa0,
	MAINTENANCE_IN: 0xa3,
} as const;

/** Service actions of PERSISTENT RESERVE OUT (SPC-4 6.16.2). */
export const PR_OUT = {
	REGISTER: 0x00,
	RESERVE: 0x01,
	RELEASE: 0x02,
	CLEAR: 0x03,
	PREEMPT: 0x04,
	PREEMPT_AND_ABORT: 0x05,
	REGISTER_AND_IGNORE_EXISTING_KEY: 0x06,
	REGISTER_AND_MOVE: 0x07,
} as const;

export function isReserve({ opcode }: Subject): boolean {
	return opcode === OPCODE.RESERVE_6 || opcode === OPCODE.RESERVE_10;
}

export function isRelease({ opcode }: Subject): boolean {
	return opcode === OPCODE.RELEASE_6 || opcode === OPCODE.RELEASE_10;
}

export function isPersistent({ opcode }: Subject): boolean {
	return (
		opcode === OPCODE.PERSISTENT_RESERVE_IN ||
		opcode === OPCODE.PERSISTENT_RESERVE_OUT
	);
}

/**
 * Two commands are allowed to all when they take nothing from anybody: to allow
 * removal, and to make the unit ready (SBC-3, reservations).
 */
function takesNothing({ opcode }: Subject, cdb: Buffer): boolean {
	const byte4 = cdb[4] ?? 0;
	if (opcode === OPCODE.PREVENT_ALLOW) return (byte4 & 0x03) === 0;
	// START set, and POWER CONDITION zero.
	return opcode === OPCODE.START_STOP_UNIT && (byte4 & 0xf1) === 0x01;
}

/** Service actions of PERSISTENT RESERVE OUT that others may use (SPC-4, persistent reservations). */
const OUT_ALLOWED: Record<Standing, readonly number[]> = {
	holder: Object.values(PR_OUT),
	registrant: [
		PR_OUT.REGISTER,
		PR_OUT.REGISTER_AND_IGNORE_EXISTING_KEY,
		PR_OUT.RELEASE,
		PR_OUT.CLEAR,
		PR_OUT.PREEMPT,
		PR_OUT.PREEMPT_AND_ABORT,
	],
	stranger: [PR_OUT.REGISTER, PR_OUT.REGISTER_AND_IGNORE_EXISTING_KEY],
};

/** Whether a persistent reservation refuses access of a kind to a nexus (SPC-4, persistent reservations). */
export function refuses(
	type: ReservationType,
	standing: Standing,
	rule: Rule,
): boolean {
	if (standing === "holder") return false;
	if (standing === "registrant" && isRegistrantsOnly(type)) return false;
	if (rule === "read") return !isWriteExclusive(type);
	return rule !== "allowed";
}

/** Whether a persistent reservation refuses a command; RESERVE and RELEASE have rules of their own. */
export function refusesCommand(
	type: ReservationType,
	standing: Standing,
	subject: Subject,
	cdb: Buffer,
): boolean {
	if (subject.opcode === OPCODE.PERSISTENT_RESERVE_OUT)
		return !OUT_ALLOWED[standing].includes(subject.serviceAction ?? 0);
	const rule = takesNothing(subject, cdb) ? "allowed" : subject.reservation;
	return refuses(type, standing, rule);
}

/** Allowed although another initiator has the logical unit reserved (SPC-2 and SBC, reservations). */
const ALLOWED_WHEN_RESERVED: readonly {
	opcode: number;
	serviceAction?: number;
}[] = [
	{ opcode: OPCODE.REQUEST_SENSE },
	{ opcode: OPCODE.INQUIRY },
	{ opcode: OPCODE.RELEASE_6 },
	{ opcode: OPCODE.READ_CAPACITY_10 },
	{ opcode: OPCODE.LOG_SENSE },
	{ opcode: OPCODE.RELEASE_10 },
	{ opcode: OPCODE.SERVICE_ACTION_IN_16, serviceAction: 0x10 }, // READ CAPACITY (16)
	{ opcode: OPCODE.REPORT_LUNS },
	{ opcode: OPCODE.MAINTENANCE_IN, serviceAction: 0x0a }, // REPORT TARGET PORT GROUPS
];

/** Whether a RESERVE of another initiator refuses a command. */
export function reservedRefuses(subject: Subject, cdb: Buffer): boolean {
	if (takesNothing(subject, cdb)) return false;
	return !ALLOWED_WHEN_RESERVED.some(
		({ opcode, serviceAction }) =>
			opcode === subject.opcode && serviceAction === subject.serviceAction,
	);
}
