// SPDX-License-Identifier: MIT
// The opcode table: dispatch, REPORT SUPPORTED OPERATION CODES and docs/scsi.md are made from it.
import type { Buffer } from "node:buffer";
import { atomicOperations } from "./atomic.ts";
import { cacheOperations } from "./cache.ts";
import { capacityOperations } from "./capacity.ts";
import { diagnosticOperations } from "./diagnostic.ts";
import { copyOperations } from "./extended-copy.ts";
import { inquiryOperations } from "./inquiry.ts";
import { logOperations } from "./log.ts";
import { lunOperations } from "./luns.ts";
import { modeSelectOperations } from "./mode-select.ts";
import { modeSenseOperations } from "./mode-sense.ts";
import type { Operation } from "./operation.ts";
import { powerOperations } from "./power.ts";
import { readWriteOperations } from "./read-write.ts";
import { requestSenseOperations } from "./request-sense.ts";
import { reservationOperations } from "./reservation-operations.ts";
import { sanitizeOperations } from "./sanitize.ts";
import { ASC, illegalRequest, invalidCdbField } from "./sense.ts";
import { supportedOperations } from "./supported.ts";
import type { Medium } from "./task.ts";
import { unmapOperations } from "./unmap.ts";
import { verifyOperations } from "./verify.ts";
import { writeSameOperations } from "./write-same.ts";

/** Every command there is, in ascending order of opcode and service action. */
export const OPERATIONS: readonly Operation[] = [
	...atomicOperations,
	...cacheOperations,
	...capacityOperations,
	...copyOperations,
	...diagnosticOperations,
	...inquiryOperations,
	...logOperations,
	...lunOperations,
	...modeSelectOperations,
	...modeSenseOperations,
	...powerOperations,
	...readWriteOperations,
	...requestSenseOperations,
	...reservationOperations,
	...sanitizeOperations,
	...supportedOperations,
	...unmapOperations,
	...verifyOperations,
	...writeSameOperations,
].sort(
	(a, b) =>
		a.opcode - b.opcode || (a.serviceAction ?? 0) - (b.serviceAction ?? 0),
);

/** The commands that a medium supports, in the same order. */
export function operationsOf(medium: Medium): readonly Operation[] {
	return OPERATIONS.filter(({ supported }) => supported?.(medium) ?? true);
}

/** The command of a table that a CDB is for. Throws SenseError if there is none. */
export function findOperation(
	operations: readonly Operation[],
	cdb: Buffer,
): Operation {
	const candidates = operations.filter(({ opcode }) => opcode === cdb[0]);
	const [first] = candidates;
	if (!first) throw illegalRequest(ASC.INVALID_OPCODE);
	if (first.serviceAction === undefined) return first;
	const action = (cdb[1] ?? 0) & 0x1f;
	const found = candidates.find((one) => one.serviceAction === action);
	if (!found) throw invalidCdbField(1, 4);
	return found;
}
