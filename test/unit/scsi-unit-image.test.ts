// SPDX-License-Identifier: MIT
// A logical unit in another process: initiators find what they left.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import {
	exportUnit,
	importUnit,
	type UnitImage,
} from "../../src/engine/scsi/unit-image.ts";
import { CONFLICT, GOOD, type Scene, scene } from "../support/reservations.ts";

const KEY = 0x1234n;
const WRITE_EXCLUSIVE = 1;
const WRITE = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const ONE_BLOCK = { dataOut: Buffer.alloc(512) };
const MODE_SENSE_CONTROL = [0x1a, 8, 0x0a, 0, 16, 0];
const D_SENSE_BYTE = 6;
const D_SENSE = 0x04;

/** The same logical unit as another process has it, which the image came to over a socket. */
function successor({ lu }: Scene): Scene {
	const image = JSON.parse(JSON.stringify(exportUnit(lu))) as UnitImage;
	const next = scene();
	importUnit(next.lu, image);
	return next;
}

test("registrations, the reservation and its generation go along, kept or not", async () => {
	for (const flags of [0, 1]) {
		const before = scene();
		await before.out(0, "register", { sark: KEY, flags });
		await before.out(2, "register", { sark: 7n, flags });
		await before.out(0, "reserve", { key: KEY, type: WRITE_EXCLUSIVE });
		const after = successor(before);
		assert.deepEqual(await after.keys(1), [KEY, 7n]);
		const held = { key: KEY, type: WRITE_EXCLUSIVE };
		assert.deepEqual(await after.reservation(1), held);
		assert.equal(await after.generation(1), await before.generation(1));
		assert.equal(after.lu.reservations.persistent.aptpl, flags === 1);
		assert.equal((await after.send(1, WRITE, ONE_BLOCK)).status, CONFLICT);
		assert.equal((await after.send(0, WRITE, ONE_BLOCK)).status, GOOD);
		const release = { key: KEY, type: WRITE_EXCLUSIVE };
		assert.equal((await after.out(0, "release", release)).status, GOOD);
		assert.equal((await after.send(1, WRITE, ONE_BLOCK)).status, GOOD);
	}
});

test("a reservation of SPC-2 stays its initiator's", async () => {
	const before = scene();
	assert.equal((await before.send(1, [0x16, 0, 0, 0, 0, 0])).status, GOOD);
	const after = successor(before);
	assert.equal((await after.send(0, WRITE, ONE_BLOCK)).status, CONFLICT);
	assert.equal((await after.send(1, WRITE, ONE_BLOCK)).status, GOOD);
	after.disconnect(1);
	assert.equal((await after.send(0, WRITE, ONE_BLOCK)).status, GOOD);
});

test("mode pages, saved and current, and what was stopped or locked", async () => {
	const before = scene();
	const prevent = [0x1e, 0, 0, 0, 1, 0];
	assert.equal((await before.send(2, prevent)).status, GOOD);
	const { data } = await before.send(0, MODE_SENSE_CONTROL, { room: 16 });
	const list = Buffer.from(data);
	list[0] = 0;
	list[D_SENSE_BYTE] = (list[D_SENSE_BYTE] ?? 0) | D_SENSE;
	const select = [0x15, 0x10, 0, 0, list.length, 0];
	assert.equal((await before.send(0, select, { dataOut: list })).status, GOOD);
	assert.equal((await before.send(0, [0x1b, 0, 0, 0, 0, 0])).status, GOOD);
	const after = successor(before);
	assert.equal(after.lu.started, false);
	assert.deepEqual(
		[...after.lu.preventers].map(({ initiator }) => initiator),
		["initiator-2"],
	);
	assert(after.lu.descriptorSense);
	for (const nexus of [0, 1, 2]) assert.deepEqual(after.attentions(nexus), []);
	after.lu.reset(); // back to what was saved: nothing
	assert(!after.lu.descriptorSense);
});

test("what copies left is told by the other", () => {
	const before = scene();
	before.lu.copyResults.set("1 initiator-0 5 0", Buffer.from("result"));
	const after = successor(before);
	assert.deepEqual(
		[...after.lu.copyResults],
		[["1 initiator-0 5 0", Buffer.from("result")]],
	);
});

test("work in the background cannot be handed over", () => {
	const { lu } = scene();
	lu.background = {
		sense: () => ({ key: 2, asc: 0x041b }),
		cancel: async () => {},
	};
	assert.throws(() => exportUnit(lu), /background/);
});

test("what is no image is refused, with the reason", () => {
	const { lu } = scene();
	const image = exportUnit(lu);
	const broken = { ...image.persistent, document: { version: 99 } };
	assert.throws(
		() => importUnit(lu, { ...image, persistent: broken }),
		/version/,
	);
});
