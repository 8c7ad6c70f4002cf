// SPDX-License-Identifier: MIT
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { invalidCdbField } from "./sense.ts";
import { GOOD, type Outcome } from "./task.ts";

/** POWER CONDITION of START STOP UNIT (SBC-3 table 80). */
const POWER = {
	/** The condition is as START says. */
	START_VALID: 0x0,
	ACTIVE: 0x1,
	LU_CONTROL: 0x7,
} as const;

interface StartStop {
	readonly power: number;
	readonly modifier: number;
	readonly keepCache: boolean;
	readonly start: boolean;
}

/**
 * IMMED is allowed, and status comes when all is done even so: nothing here
 * takes longer than a flush. LOEJ is refused by the usage mask, prevented or not:
 * the medium cannot be removed.
 */
async function startStop(
	lu: LogicalUnit,
	{ power, modifier, keepCache, start }: StartStop,
): Promise<Outcome> {
	if (modifier !== 0) throw invalidCdbField(3, 3);
	switch (power) {
		case POWER.START_VALID:
			break;
		case POWER.ACTIVE:
		case POWER.LU_CONTROL:
			// Without timers, to control its power itself is to be active.
			lu.started = true;
			return GOOD;
		default:
			// Idle and standby: no VPD page 8Ah says that they exist.
			throw invalidCdbField(4, 7);
	}
	if (!start && !keepCache && lu.medium.supports.flush) await lu.medium.flush();
	lu.started = start;
	return GOOD;
}

export const powerOperations: readonly Operation[] = [
	operation({
		opcode: 0x00,
		name: "TEST UNIT READY",
		reference: "SPC-4 6.47",
		usage: [0x00, 0, 0, 0, 0, 0],
		access: "medium",
		reservation: "allowed",
		timeout: 10,
		parse: () => undefined,
		execute: () => GOOD,
	}),
	operation({
		opcode: 0x1b,
		name: "START STOP UNIT",
		reference: "SBC-3 5.25",
		usage: [0x1b, 0x01, 0x00, 0x0f, 0xf5, 0x00],
		access: "none",
		needsIdle: true,
		reservation: "write",
		timeout: 60,
		parse: (cdb): StartStop => ({
			power: cdb.readUInt8(4) >> 4,
			modifier: cdb.readUInt8(3) & 0x0f,
			keepCache: (cdb.readUInt8(4) & 0x04) !== 0,
			start: (cdb.readUInt8(4) & 0x01) !== 0,
		}),
		execute: (lu, _command, request) => startStop(lu, request),
	}),
	operation({
		opcode: 0x1e,
		name: "PREVENT ALLOW MEDIUM REMOVAL",
		reference: "SBC-3 5.12",
		usage: [0x1e, 0, 0, 0, 0x01, 0],
		access: "none",
		reservation: "write",
		timeout: 10,
		parse: (cdb) => (cdb.readUInt8(4) & 0x01) !== 0,
		execute(lu, { nexus }, prevent) {
			if (prevent) lu.preventers.add(nexus);
			else lu.preventers.delete(nexus);
			return GOOD;
		},
	}),
];
