// SPDX-License-Identifier: MIT
// Whether the medium of a logical unit can be accessed, and written.
import type { LogicalUnit } from "./logical-unit.ts";
import { ASC, SENSE_KEY, type Sense } from "./sense.ts";

/** Why the medium cannot be accessed now; undefined: it can. */
export function notReady(lu: LogicalUnit): Sense | undefined {
	if (lu.background) return lu.background.sense();
	if (lu.started) return undefined;
	return {
		key: SENSE_KEY.NOT_READY,
		asc: ASC.NOT_READY_INITIALIZING_REQUIRED,
	};
}

/** Why the medium cannot be written, even if it is ready; undefined: it can. */
export function writeProtected(lu: LogicalUnit): Sense | undefined {
	if (lu.medium.readonly)
		return { key: SENSE_KEY.DATA_PROTECT, asc: ASC.WRITE_PROTECTED };
	if (lu.modes.softwareWriteProtect)
		return { key: SENSE_KEY.DATA_PROTECT, asc: ASC.SOFTWARE_WRITE_PROTECTED };
	return undefined;
}
