// SPDX-License-Identifier: MIT
// RESERVE and RELEASE of SPC-2, of whole logical units for the initiator itself: third parties
// and extents have no bit in the usage masks, and are refused there.
import { type Operation, operation } from "./operation.ts";
import { OPCODE } from "./reservation-rules.ts";
import { GOOD } from "./task.ts";

function reserveOperation(opcode: number, bytes: number): Operation {
	return operation<undefined>({
		opcode,
		name: `RESERVE (${bytes})`,
		reference: bytes === 6 ? "SPC-2 7.22" : "SPC-2 7.21",
		usage: [opcode, ...Array<number>(bytes - 1).fill(0)],
		access: "none",
		reservation: "allowed",
		timeout: 10,
		parse: () => undefined,
		execute(lu, { nexus }) {
			lu.reservations.reserve(nexus);
			return GOOD;
		},
	});
}

function releaseOperation(opcode: number, bytes: number): Operation {
	return operation<undefined>({
		opcode,
		name: `RELEASE (${bytes})`,
		reference: bytes === 6 ? "SPC-2 7.17" : "SPC-2 7.16",
		usage: [opcode, ...Array<number>(bytes - 1).fill(0)],
		access: "none",
		reservation: "allowed",
		timeout: 10,
		parse: () => undefined,
		execute(lu, { nexus }) {
			lu.reservations.release(nexus);
			return GOOD;
		},
	});
}

export const reserveOperations: readonly Operation[] = [
	reserveOperation(OPCODE.RESERVE_6, 6),
	releaseOperation(OPCODE.RELEASE_6, 6),
	reserveOperation(OPCODE.RESERVE_10, 10),
	releaseOperation(OPCODE.RELEASE_10, 10),
];
