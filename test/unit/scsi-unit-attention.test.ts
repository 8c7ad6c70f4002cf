// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { ASC, type Asc } from "../../src/engine/scsi/sense.ts";
import { createUnitAttentions } from "../../src/engine/scsi/unit-attention.ts";
import { badCdb, fixedSense, harness, transportIdOf } from "../support/scsi.ts";

const nexusOf = (number: number) => ({
	initiator: `${number}`,
	transportId: transportIdOf(number),
	targetPort: 1,
});
const READY = [0, 0, 0, 0, 0, 0];

test("conditions are reported in order of precedence, others as they came", () => {
	const cases: [string, Asc[], Asc[]][] = [
		["nothing twice", [ASC.NEXUS_LOSS, ASC.NEXUS_LOSS], [ASC.NEXUS_LOSS]],
		[
			"in the order they came",
			[ASC.REPORTED_LUNS_CHANGED, ASC.CAPACITY_DATA_CHANGED],
			[ASC.REPORTED_LUNS_CHANGED, ASC.CAPACITY_DATA_CHANGED],
		],
		[
			"resets first",
			[ASC.MODE_PARAMETERS_CHANGED, ASC.BUS_DEVICE_RESET_FUNCTION],
			[ASC.BUS_DEVICE_RESET_FUNCTION, ASC.MODE_PARAMETERS_CHANGED],
		],
		[
			"a reset replaces a lesser one",
			[ASC.NEXUS_LOSS, ASC.BUS_DEVICE_RESET_FUNCTION, ASC.POWER_ON],
			[ASC.POWER_ON],
		],
		[
			"and a lesser one adds nothing",
			[ASC.POWER_ON_OR_RESET, ASC.NEXUS_LOSS, ASC.BUS_DEVICE_RESET_FUNCTION],
			[ASC.POWER_ON_OR_RESET],
		],
	];
	for (const [name, established, reported] of cases) {
		const attentions = createUnitAttentions(() => {});
		const nexus = nexusOf(0);
		for (const asc of established) attentions.establish(asc, [nexus]);
		const taken: (Asc | undefined)[] = [];
		while (attentions.pending(nexus)) taken.push(attentions.take(nexus)?.asc);
		assert.deepEqual(taken, reported, name);
	}
});

test("each change is told, and nothing else", () => {
	let changes = 0;
	const attentions = createUnitAttentions(() => changes++);
	const [a, b] = [nexusOf(0), nexusOf(1)];
	attentions.establish(ASC.NEXUS_LOSS, [a, b]);
	assert.equal(changes, 2);
	attentions.establish(ASC.NEXUS_LOSS, [a]);
	attentions.pending(a);
	attentions.clear(ASC.CAPACITY_DATA_CHANGED, a);
	assert.equal(changes, 2);
	attentions.take(a);
	attentions.clear(ASC.NEXUS_LOSS, b);
	assert.equal(changes, 4);
	attentions.take(a);
	attentions.forget(b);
	assert.equal(changes, 4);
	assert.equal(attentions.pending(b), undefined);
});

test("a new nexus meets POWER ON OR RESET once; gates ask until then", async () => {
	const h = harness({ keepAttentions: true });
	const [nexus] = h.nexuses;
	assert(nexus);
	assert.deepEqual(h.lu.gates(nexus), { read: "ask", write: "ask" });
	assert.deepEqual((await h.send(0, READY)).sense, fixedSense(0x6, 0x2900));
	assert.deepEqual(h.lu.gates(nexus), { read: "run", write: "run" });
	assert.equal((await h.send(0, READY)).status, 0);
});

test("INQUIRY and REPORT LUNS are performed, and leave it", async () => {
	const { send } = harness({ keepAttentions: true });
	for (const cdb of [
		[0x12, 0, 0, 0, 36, 0],
		[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0],
	])
		assert.equal((await send(0, cdb, { room: 36 })).status, 0);
	assert.deepEqual((await send(0, READY)).sense, fixedSense(0x6, 0x2900));
});

test("REQUEST SENSE reports it as data, in the format asked for, and clears it", async () => {
	const cases: [number[], string][] = [
		[[3, 0, 0, 0, 252, 0], fixedSense(0x6, 0x2900).toString("hex")],
		[[3, 1, 0, 0, 252, 0], "7206290000000000"],
		[[3, 0, 0, 0, 4, 0], "70000600"],
	];
	for (const [cdb, hex] of cases) {
		const { send } = harness({ keepAttentions: true });
		const { status, data } = await send(0, cdb, { room: 252 });
		assert.equal(status, 0);
		assert.equal(data.toString("hex"), hex);
		assert.equal((await send(0, READY)).status, 0);
	}
});

test("REQUEST SENSE that reports nothing clears nothing", async () => {
	const { send } = harness({ keepAttentions: true });
	assert.equal((await send(0, [3, 0, 0, 0, 0, 0], { room: 18 })).status, 0);
	assert.equal(
		(await send(0, [3, 0, 0, 0, 18, 0], { room: 17 })).overrun,
		true,
	);
	const bad = await send(0, [3, 2, 0, 0, 18, 0], { room: 18 });
	assert.deepEqual(bad.sense, badCdb(1, 1));
	assert.deepEqual((await send(0, READY)).sense, fixedSense(0x6, 0x2900));
	const { data } = await send(0, [3, 0, 0, 0, 18, 0], { room: 18 });
	assert.deepEqual(data, fixedSense(0, 0));
});

test("an unknown opcode is refused before, anything else is not looked at", async () => {
	const { send } = harness({ keepAttentions: true });
	assert.deepEqual((await send(0, [0xff])).sense, fixedSense(0x5, 0x2000));
	const broken = await send(0, [0, 0xff, 0, 0, 0, 0]);
	assert.deepEqual(broken.sense, fixedSense(0x6, 0x2900));
	assert.deepEqual((await send(0, [0, 0xff])).sense, badCdb(1, 7));
});

test("each initiator has its own", async () => {
	const h = harness({ nexuses: 2 });
	h.lu.capacityChanged();
	const expected = fixedSense(0x6, 0x2a09);
	assert.deepEqual((await h.send(0, READY)).sense, expected);
	assert.equal((await h.send(0, READY)).status, 0);
	assert.deepEqual((await h.send(1, READY)).sense, expected);
});

test("REPORT LUNS clears REPORTED LUNS DATA HAS CHANGED, if it worked", async () => {
	const h = harness();
	const report = (select: number) => [
		0xa0,
		0,
		select,
		0,
		0,
		0,
		0,
		0,
		0,
		16,
		0,
		0,
	];
	h.lu.lunsChanged();
	assert.equal((await h.send(0, report(9), { room: 16 })).status, 2);
	assert.equal((await h.send(0, report(0), { room: 15 })).overrun, true);
	assert.equal((await h.send(0, report(0), { room: 16 })).status, 0);
	assert.equal((await h.send(0, READY)).status, 0);
	h.lu.lunsChanged();
	assert.deepEqual((await h.send(0, READY)).sense, fixedSense(0x6, 0x3f0e));
});

test("a reset: everybody meets it, and what it ends ends", async () => {
	const h = harness({ nexuses: 2 });
	await h.send(0, [0x1b, 0, 0, 0, 0, 0]);
	await h.send(0, [0x1e, 0, 0, 0, 1, 0]);
	assert.equal(h.lu.preventers.size, 1);
	assert.equal(h.lu.started, false);
	h.lu.reset();
	for (const nexus of [0, 1])
		assert.deepEqual(
			(await h.send(nexus, READY)).sense,
			fixedSense(0x6, 0x2903),
		);
	assert.equal((await h.send(0, READY)).status, 0);
	assert.equal(h.lu.preventers.size, 0);
});

test("a nexus that goes takes its attentions and its prevention along", async () => {
	const h = harness({ nexuses: 2 });
	await h.send(1, [0x1e, 0, 0, 0, 1, 0]);
	h.lu.capacityChanged();
	h.disconnect(1);
	assert.equal(h.lu.preventers.size, 0);
	const [, gone] = h.nexuses;
	assert(gone);
	assert.equal(h.lu.attentions.pending(gone), undefined);
});
