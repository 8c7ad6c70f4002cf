// SPDX-License-Identifier: MIT
// PERSISTENT RESERVE OUT with something wrong in its CDB or its parameter list: the sense
// bytes, and that nothing has changed.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import {
	assertSense,
	basicList,
	CONFLICT,
	illegal,
	inCdb,
	moveList,
	OUT,
	type OutName,
	outCdb,
	reservedScene,
	type Scene,
	scene,
} from "../support/reservations.ts";
import { transportIdOf } from "../support/scsi.ts";

const LENGTH_ERROR = illegal(0x1a00);
const INVALID_RELEASE = illegal(0x2604);

function inCdbField(byte: number, bit?: number): string {
	const field = { in: "cdb", byte } as const;
	return illegal(0x2400, bit === undefined ? field : { ...field, bit });
}

function inList(byte: number, bit?: number): string {
	const field = { in: "data", byte } as const;
	return illegal(0x2600, bit === undefined ? field : { ...field, bit });
}

/** Sends a command that must fail with these sense bytes, and change nothing. */
async function refused(
	one: Scene,
	nexus: number,
	cdb: Buffer,
	dataOut: Buffer,
	sense: string,
): Promise<void> {
	const state = one.lu.reservations.persistent;
	const changes = one.changes();
	assertSense(await one.send(nexus, cdb, { dataOut }), sense);
	assert.equal(one.lu.reservations.persistent, state);
	assert.equal(one.changes(), changes);
	assert.deepEqual(one.aborted, []);
}

/** A list with some bytes replaced. */
function patched(list: Buffer, at: number, ...bytes: number[]): Buffer {
	const copy = Buffer.from(list);
	copy.set(bytes, at);
	return copy;
}

const NAMES = Object.keys(OUT).filter(
	(name): name is OutName => name in OUT && name !== "registerAndMove",
);

describe("parameter list length", () => {
	for (const name of [...NAMES, "registerAndMove" as const])
		for (const length of [0, 1, 8, 23])
			test(`${name}: ${length}`, async () => {
				const one = await reservedScene(5);
				const list = basicList({ key: 1n, sark: 2n }).subarray(0, length);
				const cdb = outCdb(OUT[name], length, { type: 5 });
				await refused(one, 0, cdb, list, LENGTH_ERROR);
			});
	for (const name of NAMES)
		for (const length of [25, 28, 52, 65535])
			test(`${name}: ${length}`, async () => {
				const one = await reservedScene(5);
				const list = basicList({ key: 1n, sark: 2n });
				const long = Buffer.concat([list, Buffer.alloc(length - 24)]);
				const cdb = outCdb(OUT[name], length, { type: 5 });
				await refused(one, 0, cdb, long, LENGTH_ERROR);
			});
	test("longer than any list", async () => {
		const one = scene();
		const ids = Array.from({ length: 257 }, (_, n) => transportIdOf(n));
		const list = basicList({ sark: 1n, flags: 0x08, ids });
		await refused(one, 0, outCdb(0, list.length), list, LENGTH_ERROR);
	});
});

for (const name of [...NAMES, "registerAndMove" as const])
	for (const [length, buffer] of [
		[24, 23],
		[24, 0],
		[0xffffffff, 48],
		[1, 0],
	] as const)
		test(`${name}: a list of ${length} bytes in a buffer of ${buffer} is an overrun`, async () => {
			const one = await reservedScene(5);
			const state = one.lu.reservations.persistent;
			const dataOut = Buffer.alloc(buffer);
			const answer = await one.send(0, outCdb(OUT[name], length), { dataOut });
			assert.equal(answer.overrun, true);
			assert.equal(one.lu.reservations.persistent, state);
		});

test("a buffer longer than the list is residual", async () => {
	const one = scene();
	const dataOut = Buffer.concat([basicList({ sark: 1n }), Buffer.alloc(8)]);
	const answer = await one.send(0, outCdb(0, 24), { dataOut });
	assert.equal(answer.status, 0);
	assert.equal(answer.residual, 8);
});

describe("reserved bits of CDBs", () => {
	const OUT_BITS: [number, number, number][] = [
		[1, 0x20, 5],
		[1, 0xe0, 7],
		[3, 0x01, 0],
		[4, 0x80, 7],
		[9, 0x04, 2],
		[9, 0x40, 6],
	];
	for (const name of [...NAMES, "registerAndMove" as const])
		for (const [byte, value, bit] of OUT_BITS)
			test(`${name}: byte ${byte}, ${value}`, async () => {
				const one = await reservedScene(5);
				const cdb = outCdb(OUT[name], 24, { type: 5 });
				cdb[byte] = (cdb[byte] ?? 0) | value;
				const list = basicList({ key: 1n, sark: 2n });
				await refused(one, 0, cdb, list, inCdbField(byte, bit));
			});
	for (const action of [0, 1, 2, 3])
		for (const [byte, value, bit] of [
			[1, 0x80, 7],
			[2, 0x08, 3],
			[3, 0x01, 0],
			[4, 0x01, 0],
			[5, 0x01, 0],
			[6, 0xff, 7],
			[9, 0x04, 2],
		] as const)
			test(`PERSISTENT RESERVE IN ${action}: byte ${byte}`, async () => {
				const cdb = inCdb(action, 8);
				cdb[byte] = (cdb[byte] ?? 0) | value;
				const answer = await scene().send(0, cdb, { room: 8 });
				assertSense(answer, inCdbField(byte, bit));
			});
});

describe("reserved bits and fields of lists", () => {
	for (const name of NAMES) {
		for (const [value, bit] of [
			[0x02, 1],
			[0x10, 4],
			[0x80, 7],
			[0xf3, 7],
		] as const)
			test(`${name}: byte 20, ${value}`, async () => {
				const one = await reservedScene(5);
				const list = patched(basicList({ key: 1n, sark: 2n }), 20, value);
				const cdb = outCdb(OUT[name], 24, { type: 5 });
				await refused(one, 0, cdb, list, inList(20, bit));
			});
		test(`${name}: byte 21`, async () => {
			const one = await reservedScene(5);
			const list = patched(basicList({ key: 1n, sark: 2n }), 21, 1);
			const cdb = outCdb(OUT[name], 24, { type: 5 });
			await refused(one, 0, cdb, list, inList(21));
		});
	}
	test("obsolete fields are ignored", async () => {
		const one = scene();
		const list = patched(basicList({ sark: 1n }), 16, 255, 255, 255, 255);
		const dataOut = patched(list, 22, 255, 255);
		const answer = await one.send(0, outCdb(0, 24), { dataOut });
		assert.equal(answer.status, 0);
	});
});

describe("SPEC_I_PT", () => {
	for (const name of NAMES.filter((name) => name !== "register"))
		test(`is not for ${name}`, async () => {
			const one = await reservedScene(5);
			const list = basicList({ key: 1n, sark: 2n, flags: 0x08 });
			const cdb = outCdb(OUT[name], 24, { type: 5 });
			await refused(one, 0, cdb, list, inList(20, 3));
		});
	for (const sark of [0n, 2n])
		test(`is not for one that is registered, key ${sark}`, async () => {
			const one = await reservedScene(5);
			const ids = [transportIdOf(9)];
			const list = basicList({ key: 1n, sark, flags: 0x08, ids });
			const cdb = outCdb(0, list.length);
			await refused(one, 0, cdb, list, inList(20, 3));
			const wrong = basicList({ key: 2n, sark, flags: 0x08, ids });
			const answer = await one.send(0, cdb, { dataOut: wrong });
			assert.equal(answer.status, CONFLICT);
		});
	const list = basicList({
		sark: 1n,
		flags: 0x08,
		ids: [transportIdOf(8), transportIdOf(9)],
	});
	const CASES: [string, Buffer, string][] = [
		["no length of the TransportIDs", list.subarray(0, 24), LENGTH_ERROR],
		["a length cut off", list.subarray(0, 27), LENGTH_ERROR],
		["TransportIDs cut off", list.subarray(0, 75), LENGTH_ERROR],
		["length beyond the list", patched(list, 24, 0, 0, 0, 72), LENGTH_ERROR],
		["length beyond all", patched(list, 24, 255, 255, 255, 255), LENGTH_ERROR],
		["length that cuts one off", patched(list, 24, 0, 0, 0, 44), inList(24)],
		["length of less than one", patched(list, 24, 0, 0, 0, 4), inList(24)],
		["first of another protocol", patched(list, 28, 0x05), inList(28)],
		["second of another format", patched(list, 52, 0x46), inList(52)],
	];
	for (const [name, bad, sense] of CASES)
		test(name, async () => {
			const one = scene();
			await refused(one, 0, outCdb(0, bad.length), bad, sense);
		});
	test("what comes after the TransportIDs is ignored", async () => {
		const one = scene();
		const dataOut = patched(list, 24, 0, 0, 0, 24);
		await one.send(0, outCdb(0, dataOut.length), { dataOut });
		assert.deepEqual(await one.keys(0), [1n, 1n]);
	});
	test("one that is registered already", async () => {
		const one = scene();
		await one.out(1, "register", { sark: 1n });
		const ids = [transportIdOf(2), transportIdOf(1)];
		const bad = basicList({ sark: 1n, flags: 0x08, ids });
		await refused(one, 0, outCdb(0, bad.length), bad, inList(52));
	});
});

describe("APTPL where nothing can be kept", () => {
	for (const name of ["register", "registerAndIgnore"] as const)
		test(name, async () => {
			const one = scene({ store: null });
			const list = basicList({ sark: 1n, flags: 0x01 });
			await refused(one, 0, outCdb(OUT[name], 24), list, inList(20, 0));
		});
	test("registerAndMove", async () => {
		const one = await reservedScene(1, { store: null });
		const list = moveList({ key: 1n, sark: 3n, to: 2, bits: 0x01 });
		await refused(one, 0, outCdb(7, 48), list, inList(17, 0));
	});
	test("is ignored by the others", async () => {
		const one = await reservedScene(1, { store: null });
		const options = { key: 1n, type: 1, flags: 0x05 };
		const answer = await one.out(0, "release", options);
		assert.equal(answer.status, 0);
	});
});

describe("scope and type", () => {
	for (const type of [0, 2, 4, 9, 10, 11, 12, 13, 14, 15]) {
		test(`RESERVE with type ${type}`, async () => {
			const one = scene();
			await one.out(0, "register", { sark: 1n });
			const cdb = outCdb(1, 24, { type });
			await refused(one, 0, cdb, basicList({ key: 1n }), inCdbField(2, 3));
			const answer = await one.out(0, "reserve", { key: 2n, type });
			assert.equal(answer.status, CONFLICT, "the key comes first");
		});
		for (const name of ["preempt", "preemptAndAbort"] as const)
			test(`${name} with type ${type}`, async () => {
				const one = await reservedScene(5);
				const cdb = outCdb(OUT[name], 24, { type });
				const list = basicList({ key: 2n, sark: 1n });
				await refused(one, 1, cdb, list, inCdbField(2, 3));
			});
		test(`RELEASE with type ${type}`, async () => {
			const one = await reservedScene(5);
			const cdb = outCdb(2, 24, { type });
			await refused(one, 0, cdb, basicList({ key: 1n }), INVALID_RELEASE);
		});
	}
	for (const scope of [1, 2, 15]) {
		test(`RESERVE with scope ${scope}`, async () => {
			const one = scene();
			await one.out(0, "register", { sark: 1n });
			const cdb = outCdb(1, 24, { type: 1, scope });
			await refused(one, 0, cdb, basicList({ key: 1n }), inCdbField(2, 7));
		});
		test(`PREEMPT with scope ${scope}`, async () => {
			const one = await reservedScene(5);
			const cdb = outCdb(4, 24, { type: 5, scope });
			const list = basicList({ key: 2n, sark: 1n });
			await refused(one, 1, cdb, list, inCdbField(2, 7));
		});
		test(`RELEASE with scope ${scope}`, async () => {
			const one = await reservedScene(5);
			const cdb = outCdb(2, 24, { type: 5, scope });
			await refused(one, 0, cdb, basicList({ key: 1n }), INVALID_RELEASE);
		});
	}
	for (const held of [1, 3, 5, 6, 7, 8])
		for (const type of [1, 3, 5, 6, 7, 8].filter((type) => type !== held))
			test(`RELEASE of type ${held} as ${type}`, async () => {
				const one = await reservedScene(held);
				const cdb = outCdb(2, 24, { type });
				await refused(one, 0, cdb, basicList({ key: 1n }), INVALID_RELEASE);
			});
});

describe("PREEMPT with key zero", () => {
	for (const name of ["preempt", "preemptAndAbort"] as const) {
		for (const type of [1, 3, 5, 6])
			test(`${name}, type ${type}`, async () => {
				const one = await reservedScene(type);
				const cdb = outCdb(OUT[name], 24, { type });
				await refused(one, 1, cdb, basicList({ key: 2n }), inList(8));
			});
		test(`${name}, no reservation`, async () => {
			const one = scene();
			await one.out(0, "register", { sark: 1n });
			const cdb = outCdb(OUT[name], 24, { type: 1 });
			await refused(one, 0, cdb, basicList({ key: 1n }), inList(8));
		});
	}
});

describe("REGISTER AND MOVE", () => {
	const good = { key: 1n, sark: 3n, to: 2 };
	const list = moveList(good);
	const longer = Buffer.concat([list, Buffer.alloc(4)]);
	const CASES: [string, Buffer, string][] = [
		["no TransportID", list.subarray(0, 24), LENGTH_ERROR],
		["a TransportID cut off", list.subarray(0, 47), LENGTH_ERROR],
		["length beyond the list", patched(list, 20, 0, 0, 0, 28), LENGTH_ERROR],
		["length beyond all", patched(list, 20, 255, 255, 255, 255), LENGTH_ERROR],
		["length too small", patched(list, 20, 0, 0, 0, 20), inList(20)],
		["length zero", patched(list, 20, 0, 0, 0, 0), inList(20)],
		["length too great", patched(longer, 20, 0, 0, 0, 28), inList(20)],
		["reserved byte 16", patched(list, 16, 1), inList(16)],
		["reserved bit of byte 17", patched(list, 17, 0x04), inList(17, 2)],
		["reserved bits of byte 17", patched(list, 17, 0xff), inList(17, 7)],
		["key zero", moveList({ ...good, sark: 0n }), inList(8)],
		["port zero", moveList({ ...good, port: 0 }), inList(18)],
		["a port that is not there", moveList({ ...good, port: 2 }), inList(18)],
		["another protocol", patched(list, 24, 0x00), inList(24)],
		["another format", patched(list, 24, 0xc6), inList(24)],
		["itself", moveList({ ...good, to: 0 }), inList(24)],
	];
	for (const [name, bad, sense] of CASES)
		test(name, async () => {
			const one = await reservedScene(5);
			await refused(one, 0, outCdb(7, bad.length), bad, sense);
		});
	test("without a reservation", async () => {
		const one = scene();
		await one.out(0, "register", { sark: 1n });
		await refused(one, 0, outCdb(7, 48), list, inCdbField(1, 4));
		const wrong = moveList({ ...good, key: 2n });
		const answer = await one.send(0, outCdb(7, 48), { dataOut: wrong });
		assert.equal(answer.status, CONFLICT);
	});
	test("what comes after the TransportID is ignored", async () => {
		const one = await reservedScene(5);
		const cdb = outCdb(7, longer.length);
		const answer = await one.send(0, cdb, { dataOut: longer });
		assert.equal(answer.status, 0);
	});
});

test("sense is of the descriptor format where D_SENSE asks for it", async () => {
	const one = scene();
	Object.defineProperty(one.lu, "descriptorSense", { value: true });
	const list = basicList({ sark: 1n, flags: 0x02 });
	const answer = await one.send(0, outCdb(0, 24), { dataOut: list });
	assert.equal(
		answer.sense?.toString("hex"),
		"7205260000000008" + "0206000089001400",
	);
});
