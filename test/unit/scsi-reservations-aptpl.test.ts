// SPDX-License-Identifier: MIT
// Persistent reservations across restarts, and a store that has what it should not have.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createReservations } from "../../src/engine/scsi/reservations.ts";
import { SenseError } from "../../src/engine/scsi/sense.ts";
import type { Store } from "../../src/engine/scsi/task.ts";
import { openStore } from "../../src/engine/virtio-scsi/store.ts";
import {
	assertSense,
	CHECK,
	CONFLICT,
	GOOD,
	type OutName,
	type OutOptions,
	type Scene,
	scene,
} from "../support/reservations.ts";
import { memoryStore, transportIdOf } from "../support/scsi.ts";

const APTPL = 0x01;

async function play(
	one: Scene,
	steps: readonly [number, OutName, OutOptions][],
): Promise<void> {
	for (const [nexus, action, options] of steps)
		assert.equal((await one.out(nexus, action, options)).status, GOOD, action);
}

/** Two initiators with APTPL, the first of which holds a reservation. */
async function kept(store: Store, type = 1): Promise<Scene> {
	const one = scene({ store });
	await play(one, [
		[0, "register", { sark: 1n, flags: APTPL }],
		[1, "register", { sark: 0xffff_ffff_ffff_fffen, flags: APTPL }],
		[0, "reserve", { key: 1n, type }],
	]);
	return one;
}

for (const type of [1, 3, 5, 6, 7, 8]) {
	test(`registrations and a reservation of type ${type} survive a restart`, async () => {
		const store = memoryStore();
		const before = await kept(store, type);
		const one = scene({ store });
		assert.equal(one.lu.reservations.restoreProblem, undefined);
		assert.deepEqual(await one.fullStatus(2), await before.fullStatus(2));
		assert.deepEqual(await one.reservation(2), await before.reservation(2));
		assert.equal(await one.generation(2), 0, "as after a power on");
		assert.equal((await one.in(2, 2))[3], 0x91);
		assert.equal((await one.out(2, "clear")).status, CONFLICT);
		await play(one, [[0, "release", { key: 1n, type }]]);
		assert.equal(await scene({ store }).reservation(0), undefined);
	});
}

test("gates of a restarted unit are shut from the start", async () => {
	const store = memoryStore();
	await kept(store, 3);
	const one = scene({ store });
	const gates = one.nexuses.map((nexus) => one.lu.reservations.gates(nexus));
	const open = { read: "run", write: "run" };
	const shut = { read: "conflict", write: "conflict" };
	assert.deepEqual(gates, [open, shut, shut]);
});

test("without APTPL nothing survives", async () => {
	const store = memoryStore();
	const one = scene({ store });
	await play(one, [
		[0, "register", { sark: 1n }],
		[0, "reserve", { key: 1n, type: 1 }],
	]);
	assert.equal(store.documents.size, 0);
	assert.deepEqual(await scene({ store }).keys(0), []);
});

test("the last APTPL counts, of those that register something", async () => {
	const store = memoryStore();
	const one = await kept(store);
	const saved = () => store.documents.size === 1;
	assert(saved());
	await play(one, [[2, "registerAndIgnore", { sark: 3n }]]);
	assert(!saved());
	assert.deepEqual(await scene({ store }).keys(0), []);
	await play(one, [[1, "register", { key: 0xffff_ffff_ffff_fffen, sark: 2n }]]);
	assert(!saved());
	await play(one, [[2, "register", { key: 3n, sark: 3n, flags: APTPL }]]);
	assert(saved());
	// Ignored where nothing is registered.
	await play(one, [[0, "preempt", { key: 1n, sark: 3n, type: 1 }]]);
	assert(saved());
	assert.deepEqual(await scene({ store }).keys(0), [1n, 2n]);
	const moved = await one.move(0, { key: 1n, sark: 1n, to: 2 });
	assert.equal(moved.status, GOOD);
	assert(!saved());
});

test("every change is stored", async () => {
	const store = memoryStore();
	const one = await kept(store, 1);
	const survives = async (keys: bigint[], type: number | undefined) => {
		const other = scene({ store });
		assert.deepEqual(await other.keys(0), keys);
		assert.equal((await other.reservation(0))?.type, type);
	};
	const second = 0xffff_ffff_ffff_fffen;
	await survives([1n, second], 1);
	await play(one, [[0, "release", { key: 1n, type: 1 }]]);
	await survives([1n, second], undefined);
	await play(one, [[1, "reserve", { key: second, type: 6 }]]);
	await survives([1n, second], 6);
	await play(one, [[0, "preempt", { key: 1n, sark: second, type: 3 }]]);
	await survives([1n], 3);
	assert.equal(
		(await one.move(0, { key: 1n, sark: 5n, to: 1, bits: 0x03 })).status,
		GOOD,
	);
	await survives([5n], 3);
	one.attentions(1);
	await play(one, [[1, "clear", { key: 5n }]]);
	await survives([], undefined);
	assert.equal(store.documents.size, 0);
});

test("what changes nothing is not stored again", async () => {
	const base = memoryStore();
	let saves = 0;
	const store: Store = {
		load: base.load,
		save(uuid, state) {
			saves++;
			base.save(uuid, state);
		},
	};
	const one = await kept(store);
	assert.equal(saves, 3);
	await play(one, [
		[0, "reserve", { key: 1n, type: 1 }],
		[1, "release", { key: 0xffff_ffff_ffff_fffen, type: 1 }],
		[0, "register", { key: 1n, sark: 1n, flags: APTPL }],
	]);
	assert.equal(saves, 3);
	const plain = scene({ store: { load: () => undefined, save: assert.fail } });
	await play(plain, [
		[0, "register", { sark: 1n }],
		[0, "clear", { key: 1n }],
	]);
});

test("initiators that SPEC_I_PT named are known after a restart", async () => {
	const store = memoryStore();
	const ids = [transportIdOf(2), transportIdOf(7)];
	await play(scene({ store }), [
		[0, "register", { sark: 1n, flags: 0x09, ids }],
	]);
	const one = scene({ store });
	assert.deepEqual(await one.keys(0), [1n, 1n, 1n]);
	await play(one, [[2, "reserve", { key: 1n, type: 8 }]]);
	assert.deepEqual(
		(await scene({ store }).fullStatus(0)).map(({ holder }) => holder),
		[true, true, true],
	);
});

test("another initiator with the TransportID of a registered one is a stranger", async () => {
	const store = memoryStore();
	await kept(store, 3);
	const one = scene({ store });
	Object.assign(one.nexuses[0] ?? {}, { initiator: "somebody else" });
	assert.equal(
		(await one.out(0, "reserve", { key: 1n, type: 3 })).status,
		CONFLICT,
	);
});

test("through files: a new store of the folder has it all", async () => {
	const dir = mkdtempSync(join(tmpdir(), "vhostctl-aptpl-"));
	try {
		const before = await kept(openStore(dir), 7);
		const one = scene({ store: openStore(dir) });
		assert.deepEqual(await one.fullStatus(0), await before.fullStatus(0));
		await play(one, [[0, "clear", { key: 1n }]]);
		assert.deepEqual(await scene({ store: openStore(dir) }).keys(0), []);
	} finally {
		rmSync(dir, { recursive: true });
	}
});

test("a store that fails: the command fails, and nothing has changed", async () => {
	const base = memoryStore();
	let broken = false;
	const one = await kept({
		load: base.load,
		save(uuid, state) {
			if (broken) throw new Error("no space left");
			base.save(uuid, state);
		},
	});
	broken = true;
	const before = await one.in(2, 3);
	const hardware = "700004000000000a00000000440000000000";
	const steps: [number, OutName, OutOptions][] = [
		[2, "register", { sark: 3n, flags: APTPL }],
		[2, "register", { sark: 3n }],
		[0, "register", { key: 1n }],
		[0, "release", { key: 1n, type: 1 }],
		[0, "clear", { key: 1n }],
		[0, "preemptAndAbort", { key: 1n, sark: 1n, type: 5 }],
	];
	for (const [nexus, action, options] of steps) {
		assertSense(await one.out(nexus, action, options), hardware);
		assert.deepEqual(await one.in(2, 3), before);
		for (const other of [0, 1, 2]) assert.deepEqual(one.attentions(other), []);
	}
	assert.deepEqual(one.aborted, []);
	assert.deepEqual(await scene({ store: base }).keys(0), await one.keys(0));
	broken = false;
	await play(one, [[0, "clear", { key: 1n }]]);
	assert.equal(base.documents.size, 0);
});

test("why a store failed is logged", () => {
	const { lu, host, disk } = scene();
	const logged: string[] = [];
	const store: Store = {
		load: () => undefined,
		save() {
			throw new Error("no space left");
		},
	};
	const reservations = createReservations({
		medium: disk,
		host: { ...host, store },
		attentions: lu.attentions,
		log: (line) => logged.push(line),
	});
	const key = { key: 1n, allPorts: false, holds: false };
	const who = { transportId: ID, initiator: undefined, targetPort: 1 };
	const { persistent } = reservations;
	const next = {
		...persistent,
		...{ aptpl: true, registrations: [{ ...key, ...who }] },
	};
	assert.throws(() => reservations.change(next), SenseError);
	assert.equal(reservations.persistent, persistent);
	assert.deepEqual(logged, ["reservations could not be stored: no space left"]);
});

const ID = transportIdOf(0).toString("hex");
const ROW = {
	...{ key: "0000000000000001", transportId: ID, initiator: "initiator-0" },
	...{ targetPort: 1, allPorts: false, holds: true },
};
const DOCUMENT = { version: 1, type: 1, registrations: [ROW] };

/** A document with something else in its registration. */
function row(change: object): object {
	return { ...DOCUMENT, registrations: [{ ...ROW, ...change }] };
}

const SECOND = { ...ROW, transportId: transportIdOf(1).toString("hex") };

/** Not what we wrote. */
const HOSTILE: [string, unknown, RegExp][] = [
	["a string", "reservations", /not an object/],
	["a number", 7, /not an object/],
	["a list", [DOCUMENT], /not an object/],
	["false", false, /not an object/],
	["nothing in it", {}, /version/],
	["another version", { ...DOCUMENT, version: 2 }, /version/],
	["a version in words", { ...DOCUMENT, version: "1" }, /version/],
	["no list", { ...DOCUMENT, registrations: undefined }, /not a list/],
	["an object for a list", { ...DOCUMENT, registrations: { 0: ROW } }, /list/],
	["an empty list", { ...DOCUMENT, registrations: [] }, /from 1 to 256/],
	[
		"too many registrations",
		{ ...DOCUMENT, registrations: Array.from({ length: 257 }, () => ROW) },
		/from 1 to 256/,
	],
	["null in the list", { ...DOCUMENT, registrations: [null] }, /not an object/],
	["a list in the list", { ...DOCUMENT, registrations: [[]] }, /not an object/],
	["no type", { ...DOCUMENT, type: undefined }, /type/],
	["type 0", { ...DOCUMENT, type: 0 }, /type/],
	["type 2", { ...DOCUMENT, type: 2 }, /type/],
	["type 1.5", { ...DOCUMENT, type: 1.5 }, /type/],
	["a type in words", { ...DOCUMENT, type: "1" }, /type/],
	["a type of every object", { ...DOCUMENT, type: "constructor" }, /type/],
	["a key of zero", row({ key: "0000000000000000" }), /key is zero/],
	["a short key", row({ key: "1" }), /16 hexadecimal digits/],
	["a long key", row({ key: "00000000000000001" }), /16 hexadecimal digits/],
	["a key with a sign", row({ key: "-000000000000001" }), /not hexadecimal/],
	["a key in capitals", row({ key: "000000000000000A" }), /not hexadecimal/],
	["a key as a number", row({ key: 1 }), /16 hexadecimal digits/],
	["no key", row({ key: undefined }), /16 hexadecimal digits/],
	["a short TransportID", row({ transportId: "06" }), /48 hexadecimal digits/],
	["a TransportID of z", row({ transportId: "z".repeat(48) }), /not hexadec/],
	["a TransportID as bytes", row({ transportId: [6, 0] }), /48 hexadecimal/],
	["no name", row({ initiator: undefined }), /not a name/],
	["a name as a number", row({ initiator: 7 }), /not a name/],
	["an endless name", row({ initiator: "x".repeat(1025) }), /not a name/],
	["port 0", row({ targetPort: 0 }), /from 1 to 65535/],
	["port 65536", row({ targetPort: 65536 }), /from 1 to 65535/],
	["port 1.5", row({ targetPort: 1.5 }), /not an integer/],
	["a port in words", row({ targetPort: "1" }), /not an integer/],
	["allPorts as a number", row({ allPorts: 0 }), /not a boolean/],
	["holds as a word", row({ holds: "true" }), /not a boolean/],
	["a reservation that nobody holds", row({ holds: false }), /0 holders/],
	[
		"a holder of nothing",
		{ ...DOCUMENT, type: null },
		/1 holders instead of 0/,
	],
	["one holder of all registrants", { ...DOCUMENT, type: 7 }, /1 holders/],
	[
		"two holders",
		{ ...DOCUMENT, registrations: [ROW, SECOND] },
		/2 holders instead of 1/,
	],
	[
		"one initiator twice",
		{ ...DOCUMENT, registrations: [ROW, { ...ROW, holds: false }] },
		/registered twice/,
	],
	[
		"one initiator with and without its name",
		{
			...DOCUMENT,
			registrations: [ROW, { ...ROW, holds: false, initiator: null }],
		},
		/registered twice/,
	],
];

function storeOf(document: unknown): ReturnType<typeof memoryStore> {
	const store = memoryStore();
	const { uuid } = scene().disk.identity;
	store.documents.set(uuid, JSON.stringify(document));
	return store;
}

describe("a stored document with", () => {
	test("nothing wrong is believed", async () => {
		const one = scene({ store: storeOf(DOCUMENT) });
		assert.equal(one.lu.reservations.restoreProblem, undefined);
		assert.deepEqual(await one.reservation(0), { key: 1n, type: 1 });
	});
	for (const [name, document, reason] of HOSTILE)
		test(`${name} is ignored, with a reason, and replaced`, async () => {
			const store = storeOf(document);
			const one = scene({ store });
			assert.match(one.lu.reservations.restoreProblem ?? "", reason);
			assert.deepEqual(await one.keys(0), []);
			assert.equal(await one.reservation(0), undefined);
			await play(one, [[0, "register", { sark: 4n, flags: APTPL }]]);
			assert.deepEqual(await scene({ store }).keys(0), [4n]);
		});
	test("something wrong goes with the first change without APTPL", async () => {
		const store = storeOf("wrong");
		await play(scene({ store }), [[0, "register", { sark: 4n }]]);
		assert.equal(store.documents.size, 0);
	});
});

test("a store that cannot be read is as one with wrong contents", async () => {
	const one = scene({
		store: {
			load() {
				throw new Error("Input/output error");
			},
			save: () => {},
		},
	});
	assert.match(one.lu.reservations.restoreProblem ?? "", /Input\/output error/);
	const answer = await one.out(0, "register", { sark: 4n, flags: APTPL });
	assert.notEqual(answer.status, CHECK);
});
