// SPDX-License-Identifier: MIT
// Which commands a persistent reservation refuses to whom: the tables of SPC-4 and SBC-3, as
// they stand there, against the opcode table.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import { OPERATIONS } from "../../src/engine/scsi/opcodes.ts";
import type { Operation } from "../../src/engine/scsi/operation.ts";
import {
	CONFLICT,
	GOOD,
	OUT,
	reservedScene,
	type Scene,
} from "../support/reservations.ts";
import { commandOf } from "../support/scsi.ts";

/**
 * Opcode, service action, byte 4 of the CDB; then A (allowed) or C (conflict) for
 * commands from others while there is a reservation, in the columns of the
 * standards: Write Exclusive and Exclusive Access, from anybody; registrants only
 * and all registrants, from a registered nexus, then Write Exclusive and Exclusive
 * Access of these from one that is not registered.
 */
const TABLE: [string, number, number | undefined, number, string][] = [
	["TEST UNIT READY", 0x00, undefined, 0, "AAAAA"],
	["REQUEST SENSE", 0x03, undefined, 0, "AAAAA"],
	["READ (6)", 0x08, undefined, 0, "ACAAC"],
	["WRITE (6)", 0x0a, undefined, 0, "CCACC"],
	["INQUIRY", 0x12, undefined, 0, "AAAAA"],
	["MODE SELECT (6)", 0x15, undefined, 0, "CCACC"],
	["MODE SENSE (6)", 0x1a, undefined, 0, "ACAAC"],
	["START STOP UNIT, stop", 0x1b, undefined, 0x00, "CCACC"],
	["START STOP UNIT, start", 0x1b, undefined, 0x01, "AAAAA"],
	["START STOP UNIT, power condition", 0x1b, undefined, 0x11, "CCACC"],
	["RECEIVE DIAGNOSTIC RESULTS", 0x1c, undefined, 0, "ACAAC"],
	["SEND DIAGNOSTIC", 0x1d, undefined, 0, "CCACC"],
	["ALLOW MEDIUM REMOVAL", 0x1e, undefined, 0x00, "AAAAA"],
	["PREVENT MEDIUM REMOVAL", 0x1e, undefined, 0x01, "CCACC"],
	["READ CAPACITY (10)", 0x25, undefined, 0, "AAAAA"],
	["READ (10)", 0x28, undefined, 0, "ACAAC"],
	["WRITE (10)", 0x2a, undefined, 0, "CCACC"],
	["WRITE AND VERIFY (10)", 0x2e, undefined, 0, "CCACC"],
	["VERIFY (10)", 0x2f, undefined, 0, "ACAAC"],
	["PRE-FETCH (10)", 0x34, undefined, 0, "ACAAC"],
	["SYNCHRONIZE CACHE (10)", 0x35, undefined, 0, "CCACC"],
	["WRITE SAME (10)", 0x41, undefined, 0, "CCACC"],
	["UNMAP", 0x42, undefined, 0, "CCACC"],
	["SANITIZE, overwrite", 0x48, 0x01, 0, "CCACC"],
	["SANITIZE, block erase", 0x48, 0x02, 0, "CCACC"],
	["SANITIZE, cryptographic erase", 0x48, 0x03, 0, "CCACC"],
	["SANITIZE, exit failure mode", 0x48, 0x1f, 0, "CCACC"],
	["LOG SELECT", 0x4c, undefined, 0, "CCACC"],
	["LOG SENSE", 0x4d, undefined, 0, "AAAAA"],
	["MODE SELECT (10)", 0x55, undefined, 0, "CCACC"],
	["MODE SENSE (10)", 0x5a, undefined, 0, "ACAAC"],
	["PERSISTENT RESERVE IN, READ KEYS", 0x5e, 0, 0, "AAAAA"],
	["PERSISTENT RESERVE IN, READ RESERVATION", 0x5e, 1, 0, "AAAAA"],
	["PERSISTENT RESERVE IN, REPORT CAPABILITIES", 0x5e, 2, 0, "AAAAA"],
	["PERSISTENT RESERVE IN, READ FULL STATUS", 0x5e, 3, 0, "AAAAA"],
	["READ (16)", 0x88, undefined, 0, "ACAAC"],
	["COMPARE AND WRITE", 0x89, undefined, 0, "CCACC"],
	["WRITE (16)", 0x8a, undefined, 0, "CCACC"],
	["ORWRITE (16)", 0x8b, undefined, 0, "CCACC"],
	["WRITE AND VERIFY (16)", 0x8e, undefined, 0, "CCACC"],
	["VERIFY (16)", 0x8f, undefined, 0, "ACAAC"],
	["PRE-FETCH (16)", 0x90, undefined, 0, "ACAAC"],
	["SYNCHRONIZE CACHE (16)", 0x91, undefined, 0, "CCACC"],
	["WRITE SAME (16)", 0x93, undefined, 0, "CCACC"],
	["WRITE ATOMIC (16)", 0x9c, undefined, 0, "CCACC"],
	["READ CAPACITY (16)", 0x9e, 0x10, 0, "AAAAA"],
	["GET LBA STATUS", 0x9e, 0x12, 0, "ACAAC"],
	["REPORT LUNS", 0xa0, undefined, 0, "AAAAA"],
	["REPORT TARGET PORT GROUPS", 0xa3, 0x0a, 0, "AAAAA"],
	["REPORT SUPPORTED OPERATION CODES", 0xa3, 0x0c, 0, "ACAAC"],
	["REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 0xa3, 0x0d, 0, "ACAAC"],
	["READ (12)", 0xa8, undefined, 0, "ACAAC"],
	["WRITE (12)", 0xaa, undefined, 0, "CCACC"],
	["WRITE AND VERIFY (12)", 0xae, undefined, 0, "CCACC"],
	["VERIFY (12)", 0xaf, undefined, 0, "ACAAC"],
];

/** The column of TABLE for a type and who asks; none: a holder, to whom all is allowed. */
const COLUMNS: [number, [registrant: number | undefined, stranger: number]][] =
	[
		[1, [0, 0]],
		[3, [1, 1]],
		[5, [2, 3]],
		[6, [2, 4]],
		[7, [undefined, 3]],
		[8, [undefined, 4]],
	];

function find(opcode: number, action: number | undefined) {
	return OPERATIONS.find(
		(each) => each.opcode === opcode && each.serviceAction === action,
	);
}

/** Whether a command of a nexus conflicts. */
function conflicts(
	one: Scene,
	number: number,
	operation: Operation,
	byte4 = 0,
): boolean {
	const nexus = one.nexuses[number];
	assert(nexus);
	const cdb = Buffer.alloc(16);
	cdb.set([operation.opcode, operation.serviceAction ?? 0, 0, 0, byte4]);
	const { command } = commandOf(nexus, cdb);
	return one.lu.reservations.conflicts(command, operation);
}

for (const [type, [registrant, stranger]] of COLUMNS) {
	describe(`persistent reservation of type ${type}`, () => {
		for (const [name, opcode, action, byte4, row] of TABLE) {
			const operation = find(opcode, action);
			if (!operation) continue; // a command that we do not have
			test(name, async () => {
				const one = await reservedScene(type);
				const refused = (column: number | undefined) =>
					column !== undefined && row[column] === "C";
				assert.equal(conflicts(one, 0, operation, byte4), false, "holder");
				assert.equal(
					conflicts(one, 1, operation, byte4),
					refused(registrant),
					"registrant",
				);
				assert.equal(
					conflicts(one, 2, operation, byte4),
					refused(stranger),
					"stranger",
				);
			});
		}
	});
}

test("every command is in the table, or is RESERVE, RELEASE or the like", () => {
	const apart = [
		0x16,
		0x17,
		0x56,
		0x57, // RESERVE and RELEASE, which go by SPC-2
		0x5f, // PERSISTENT RESERVE OUT, below
		0x83,
		0x84, // third party copies, which have tests of their own
	];
	const missing = OPERATIONS.filter(
		({ opcode, serviceAction }) =>
			!apart.includes(opcode) &&
			!TABLE.some((row) => row[1] === opcode && row[2] === serviceAction),
	);
	assert.deepEqual(
		missing.map(({ name }) => name),
		[],
	);
	assert(
		TABLE.filter(([, opcode, action]) => find(opcode, action)).length > 40,
	);
});

test("without a reservation everything is allowed to everybody", async () => {
	const one = await reservedScene(1);
	await one.out(0, "release", { key: 1n, type: 1 });
	for (const operation of OPERATIONS)
		if (![0x16, 0x17, 0x56, 0x57].includes(operation.opcode))
			for (const nexus of [0, 1, 2])
				assert.equal(conflicts(one, nexus, operation), false, operation.name);
});

/** Service actions of PERSISTENT RESERVE OUT from a registered nexus, and from one that is not. */
const OUT_TABLE: [keyof typeof OUT, string][] = [
	["register", "AA"],
	["reserve", "CC"],
	["release", "AC"],
	["clear", "AC"],
	["preempt", "AC"],
	["preemptAndAbort", "AC"],
	["registerAndIgnore", "AA"],
	["registerAndMove", "CC"],
];

for (const [type] of COLUMNS) {
	for (const [name, row] of OUT_TABLE) {
		test(`PERSISTENT RESERVE OUT ${name} beside type ${type}`, async () => {
			const one = await reservedScene(type);
			const operation = find(0x5f, OUT[name]);
			assert(operation);
			const holds = type === 7 || type === 8;
			assert.equal(conflicts(one, 0, operation), false);
			assert.equal(conflicts(one, 1, operation), row[0] === "C" && !holds);
			assert.equal(conflicts(one, 2, operation), row[1] === "C");
		});
	}
}

/** The gates for holder, registrant, stranger: r where reads, w where writes run. */
const GATES: [number, [string, string, string]][] = [
	[1, ["rw", "r-", "r-"]],
	[3, ["rw", "--", "--"]],
	[5, ["rw", "rw", "r-"]],
	[6, ["rw", "rw", "--"]],
	[7, ["rw", "rw", "r-"]],
	[8, ["rw", "rw", "--"]],
];

for (const [type, rows] of GATES) {
	for (const [number, row] of rows.entries()) {
		const who = ["holder", "registrant", "stranger"][number];
		test(`type ${type}, ${who}: gates, reads and writes`, async () => {
			const one = await reservedScene(type);
			const nexus = one.nexuses[number];
			assert(nexus);
			const read = row[0] === "r";
			const write = row[1] === "w";
			const gate = (runs: boolean) => (runs ? "run" : "conflict");
			assert.deepEqual(one.lu.reservations.gates(nexus), {
				read: gate(read),
				write: gate(write),
			});
			const status = (runs: boolean) => (runs ? GOOD : CONFLICT);
			const before = Buffer.from(one.disk.bytes);
			const dataOut = Buffer.alloc(512, 0x5a);
			const written = await one.send(
				number,
				[0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0],
				{ dataOut },
			);
			assert.equal(written.status, status(write));
			if (!write) assert.deepEqual(one.disk.bytes, before);
			const got = await one.send(number, [0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0], {
				room: 512,
			});
			assert.equal(got.status, status(read));
			if (!read) assert.equal(got.data.length, 0);
			if (read && write) assert.deepEqual(got.data, dataOut);
		});
	}
}

test("a unit attention comes before a conflict, and a conflict before the list is looked at", async () => {
	const one = await reservedScene(3, { keepAttentions: false });
	one.lu.nexusCame(one.nexuses[2] ?? assert.fail());
	const cdb = [0x5f, OUT.clear, 0, 0, 0, 0, 0, 0, 1, 0];
	const dataOut = Buffer.alloc(1);
	const first = await one.send(2, cdb, { dataOut });
	assert.equal(first.sense?.[2], 6);
	const second = await one.send(2, cdb, { dataOut });
	assert.equal(second.status, CONFLICT);
	assert.equal(second.residual, 1);
});
