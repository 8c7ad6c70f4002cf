// SPDX-License-Identifier: MIT
// RESERVE and RELEASE, and how they and persistent reservations keep out of each other's way.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import {
	assertSense,
	CONFLICT,
	GOOD,
	illegal,
	inCdb,
	OUT,
	outCdb,
	reservedScene,
	type Scene,
	scene,
} from "../support/reservations.ts";

const RESERVE_6 = [0x16, 0, 0, 0, 0, 0];
const RELEASE_6 = [0x17, 0, 0, 0, 0, 0];
const RESERVE_10 = [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RELEASE_10 = [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0];

async function status(one: Scene, nexus: number, cdb: number[]) {
	const answer = await one.send(nexus, cdb);
	assert.equal(answer.residual, 0);
	return answer.status;
}

function gates(one: Scene, nexus: number) {
	const of = one.nexuses[nexus];
	assert(of);
	return one.lu.reservations.gates(of);
}

const OPEN = { read: "run", write: "run" };
const SHUT = { read: "conflict", write: "conflict" };

for (const [name, reserve, release] of [
	["6", RESERVE_6, RELEASE_6],
	["10", RESERVE_10, RELEASE_10],
	["6 and 10", RESERVE_6, RELEASE_10],
] as const) {
	test(`RESERVE and RELEASE (${name})`, async () => {
		const one = scene();
		assert.equal(await status(one, 0, [...reserve]), GOOD);
		assert.equal(await status(one, 0, [...reserve]), GOOD, "again");
		assert.equal(await status(one, 1, [...reserve]), CONFLICT);
		assert.deepEqual(
			[0, 1, 2].map((n) => gates(one, n)),
			[OPEN, SHUT, SHUT],
		);
		assert.equal(await status(one, 1, [...release]), GOOD, "not its own");
		assert.equal(await status(one, 1, [...reserve]), CONFLICT);
		assert.equal(await status(one, 0, [...release]), GOOD);
		assert.deepEqual(gates(one, 1), OPEN);
		assert.equal(await status(one, 1, [...reserve]), GOOD);
		assert.equal(await status(one, 0, [...reserve]), CONFLICT);
	});
}

test("a reservation of SPC-2 tells the controller when gates change, and only then", async () => {
	const one = scene();
	const before = one.changes();
	await status(one, 0, RELEASE_6);
	assert.equal(one.changes(), before);
	await status(one, 0, RESERVE_6);
	assert.equal(one.changes(), before + 1);
	await status(one, 0, RESERVE_10);
	assert.equal(one.changes(), before + 1);
	await status(one, 1, RELEASE_6);
	assert.equal(one.changes(), before + 1);
	await status(one, 0, RELEASE_6);
	assert.equal(one.changes(), before + 2);
});

test("a reservation of SPC-2 goes with its nexus, not with another", async () => {
	const one = scene();
	await status(one, 0, RESERVE_6);
	one.disconnect(1);
	assert.equal(await status(one, 2, RESERVE_6), CONFLICT);
	one.disconnect(0);
	assert.deepEqual(gates(one, 2), OPEN);
	const again = one.connect(0);
	assert.equal(await status(one, 2, RESERVE_6), GOOD);
	assert.equal(await status(one, again, RESERVE_6), CONFLICT);
});

test("LOGICAL UNIT RESET ends a reservation of SPC-2, and no persistent one", async () => {
	const one = scene();
	await status(one, 0, RESERVE_6);
	one.lu.reservations.reset();
	assert.deepEqual(gates(one, 1), OPEN);

	const other = await reservedScene(3);
	other.lu.reservations.reset();
	other.lu.reservations.reset();
	assert.deepEqual(await other.keys(0), [1n, 2n]);
	assert.deepEqual(await other.reservation(0), { key: 1n, type: 3 });
	assert.deepEqual(gates(other, 1), SHUT);
});

const BAD_CDBS: [string, number[], number, number][] = [
	["RESERVE (6) of an extent", [0x16, 0x01, 0, 0, 0, 0], 1, 0],
	["RESERVE (6) for a third party", [0x16, 0x10, 0, 0, 0, 0], 1, 4],
	["RESERVE (6), third party device", [0x16, 0x0e, 0, 0, 0, 0], 1, 3],
	["RESERVE (6), identification", [0x16, 0, 0x80, 0, 0, 0], 2, 7],
	["RESERVE (6), list length", [0x16, 0, 0, 0, 0x18, 0], 4, 4],
	["RESERVE (6), NACA", [0x16, 0, 0, 0, 0, 0x04], 5, 2],
	["RELEASE (6) of an extent", [0x17, 0x01, 0, 0, 0, 0], 1, 0],
	["RELEASE (6) for a third party", [0x17, 0x10, 0, 0, 0, 0], 1, 4],
	["RESERVE (10), third party", [0x56, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], 1, 4],
	["RESERVE (10), LONGID", [0x56, 0x02, 0, 0, 0, 0, 0, 0, 0, 0], 1, 1],
	["RESERVE (10), device", [0x56, 0, 0, 0x40, 0, 0, 0, 0, 0, 0], 3, 6],
	["RESERVE (10), list length", [0x56, 0, 0, 0, 0, 0, 0, 0, 8, 0], 8, 3],
	["RELEASE (10), third party", [0x57, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], 1, 4],
	["RELEASE (10), LONGID", [0x57, 0x02, 0, 0, 0, 0, 0, 0, 0, 0], 1, 1],
	["RELEASE (10), list length", [0x57, 0, 0, 0, 0, 0, 0, 1, 0, 0], 7, 0],
	["RELEASE (10), NACA", [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0x04], 9, 2],
];

for (const [name, cdb, byte, bit] of BAD_CDBS) {
	test(`${name} is refused`, async () => {
		const one = scene();
		await status(one, 0, RESERVE_6);
		const answer = await one.send(0, cdb);
		assertSense(answer, illegal(0x2400, { in: "cdb", byte, bit }));
		assert.deepEqual(gates(one, 1), SHUT, "nothing has changed");
	});
}

/** What SPC-2 and SBC allow although another initiator has the logical unit reserved. */
const WHEN_RESERVED: [string, number[], number | undefined, boolean][] = [
	["TEST UNIT READY", [0x00], undefined, false],
	["REQUEST SENSE", [0x03], undefined, true],
	["READ (6)", [0x08], undefined, false],
	["INQUIRY", [0x12], undefined, true],
	["MODE SENSE (6)", [0x1a], undefined, false],
	["START STOP UNIT, start", [0x1b, 0, 0, 0, 0x01], undefined, true],
	["START STOP UNIT, stop", [0x1b, 0, 0, 0, 0x00], undefined, false],
	["START STOP UNIT, power", [0x1b, 0, 0, 0, 0x21], undefined, false],
	["RECEIVE DIAGNOSTIC RESULTS", [0x1c], undefined, false],
	["SEND DIAGNOSTIC", [0x1d], undefined, false],
	["ALLOW MEDIUM REMOVAL", [0x1e, 0, 0, 0, 0], undefined, true],
	["PREVENT MEDIUM REMOVAL", [0x1e, 0, 0, 0, 1], undefined, false],
	["READ CAPACITY (10)", [0x25], undefined, true],
	["WRITE (10)", [0x2a], undefined, false],
	["SYNCHRONIZE CACHE (10)", [0x35], undefined, false],
	["LOG SENSE", [0x4d], undefined, true],
	["MODE SELECT (10)", [0x55], undefined, false],
	["READ CAPACITY (16)", [0x9e, 0x10], 0x10, true],
	["GET LBA STATUS", [0x9e, 0x12], 0x12, false],
	["REPORT LUNS", [0xa0], undefined, true],
	["REPORT TARGET PORT GROUPS", [0xa3, 0x0a], 0x0a, true],
	["REPORT SUPPORTED OPERATION CODES", [0xa3, 0x0c], 0x0c, false],
];

describe("commands of others while a logical unit is reserved", () => {
	for (const [name, bytes, serviceAction, allowed] of WHEN_RESERVED) {
		test(`${name} is ${allowed ? "allowed" : "refused"}`, async () => {
			const one = scene();
			await status(one, 0, RESERVE_6);
			const cdb = Buffer.concat([Buffer.from(bytes), Buffer.alloc(16)]);
			const conflicts = (nexus: number) => {
				const of = one.nexuses[nexus];
				assert(of);
				return one.lu.reservations.conflicts(
					{
						nexus: of,
						cdb,
						dataOutLength: 0,
						dataInLength: 0,
						readDataOut: () => Buffer.alloc(0),
						signal: new AbortController().signal,
					},
					{
						opcode: bytes[0] ?? 0,
						...(serviceAction === undefined ? {} : { serviceAction }),
						reservation: "allowed",
					},
				);
			};
			assert.equal(conflicts(0), false, "of the initiator itself");
			assert.equal(conflicts(1), !allowed);
		});
	}
});

test("while a logical unit is reserved, persistent reservations conflict, of its initiator too", async () => {
	const one = scene();
	await status(one, 0, RESERVE_6);
	for (const nexus of [0, 1]) {
		for (const action of [0, 1, 2, 3]) {
			const answer = await one.send(nexus, inCdb(action, 64), { room: 64 });
			assert.equal(answer.status, CONFLICT);
			assert.equal(answer.data.length, 0);
		}
		for (const action of Object.values(OUT)) {
			const dataOut = Buffer.alloc(24);
			const cdb = outCdb(action, 24);
			const answer = await one.send(nexus, cdb, { dataOut });
			assert.equal(answer.status, CONFLICT);
		}
	}
	await status(one, 0, RELEASE_6);
	assert.deepEqual(await one.keys(0), []);
});

test("RESERVE and RELEASE conflict for all once somebody is registered", async () => {
	const one = scene();
	await one.out(0, "register", { sark: 1n });
	for (const nexus of [0, 1])
		for (const cdb of [RESERVE_6, RELEASE_6, RESERVE_10, RELEASE_10])
			assert.equal(await status(one, nexus, cdb), CONFLICT);
	await one.out(0, "register", { key: 1n });
	assert.equal(await status(one, 1, RESERVE_6), GOOD);
});

/** Compatible reservation handling: GOOD without effect for holder, registrant, stranger. */
const COMPATIBLE: [number, number, number, number][] = [
	[1, GOOD, CONFLICT, CONFLICT],
	[3, GOOD, CONFLICT, CONFLICT],
	[5, GOOD, GOOD, CONFLICT],
	[6, GOOD, GOOD, CONFLICT],
	[7, GOOD, GOOD, CONFLICT],
	[8, GOOD, GOOD, CONFLICT],
];

for (const [type, ...expected] of COMPATIBLE) {
	test(`RESERVE and RELEASE beside a persistent reservation of type ${type}`, async () => {
		const one = await reservedScene(type);
		const before = await one.in(0, 3);
		for (const cdb of [RESERVE_6, RELEASE_6, RESERVE_10, RELEASE_10])
			for (const [nexus, wanted] of expected.entries())
				assert.equal(await status(one, nexus, cdb), wanted);
		assert.deepEqual(await one.in(0, 3), before, "nothing has changed");
		await one.out(0, "clear", { key: 1n });
		assert.deepEqual(gates(one, 2), OPEN, "and nothing was reserved");
	});
}
