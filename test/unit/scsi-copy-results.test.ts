// SPDX-License-Identifier: MIT
// RECEIVE COPY RESULTS, and how many copies go on at a time.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { forgetCopyResults } from "../../src/engine/scsi/copy-results.ts";
import { badCdb, expectAnswer, fixedSense } from "../support/scsi-cases.ts";
import {
	BOTH,
	copy,
	copyCdb,
	copyList,
	DISCARD,
	forwarded,
	NO_ID,
	scene,
	segment,
} from "../support/scsi-copy.ts";

const ONE = [segment()];

function receive(action: number, id: number, allocation: number): Buffer {
	const cdb = Buffer.alloc(16);
	cdb[0] = 0x84;
	cdb[1] = action;
	cdb[2] = id;
	cdb.writeUInt32BE(allocation, 10);
	return cdb;
}

const STATUS = 0;
const PARAMETERS = 3;
const FAILURE = 4;

function status(state: number, segments: number, bytes: number): Buffer {
	const data = Buffer.alloc(12);
	data.writeUInt32BE(8, 0);
	data[4] = state;
	data.writeUInt16BE(segments, 5);
	data.writeUInt32BE(bytes, 8);
	return data;
}

test("RECEIVE COPY OPERATING PARAMETERS tells the limits", async () => {
	const { h } = scene();
	const wanted = Buffer.alloc(46);
	wanted.writeUInt32BE(42, 0);
	wanted[4] = 1;
	wanted.writeUInt16BE(16, 8);
	wanted.writeUInt16BE(64, 10);
	wanted.writeUInt32BE(4096, 12);
	wanted.writeUInt32BE(1 << 26, 16);
	wanted.writeUInt16BE(64, 34);
	wanted.set([64, 9], 36);
	wanted.set([2, 0x02, 0xe4], 43);
	const cdb = receive(PARAMETERS, 0, 100);
	await expectAnswer(h, { cdb, room: 100, data: wanted, residual: 54 });
	await expectAnswer(h, {
		cdb: receive(PARAMETERS, 0, 10),
		room: 10,
		data: wanted.subarray(0, 10),
	});
	await expectAnswer(h, {
		cdb: receive(PARAMETERS, 1, 10),
		room: 10,
		residual: 10,
		sense: badCdb(2, 0),
	});
});

test("RECEIVE COPY RESULTS has no data to give back, nor other actions", async () => {
	const { h } = scene();
	for (const action of [1, 2, 5, 31])
		await expectAnswer(h, { cdb: receive(action, 0, 0), sense: badCdb(1, 4) });
});

test("RECEIVE COPY STATUS tells of a copy that has ended, once, to who sent it", async () => {
	const { h } = scene();
	const list = copyList(BOTH, [segment({ blocks: 9 }), segment()]);
	const cdb = receive(STATUS, 7, 12);
	await expectAnswer(h, { cdb, room: 12, sense: badCdb(2), residual: 12 });
	await expectAnswer(h, copy(list));
	await expectAnswer(h, { cdb, room: 12, sense: badCdb(2), residual: 12 }, 1);
	await expectAnswer(h, { cdb, room: 11, overrun: true });
	await expectAnswer(h, { cdb, room: 12, data: status(1, 2, 5120) });
	await expectAnswer(h, { cdb, room: 12, sense: badCdb(2), residual: 12 });
	// That it did not fail is told on its own.
	const details = receive(FAILURE, 7, 100);
	const data = Buffer.alloc(4);
	await expectAnswer(h, { cdb: details, room: 100, data, residual: 96 });
	await expectAnswer(h, {
		cdb: details,
		room: 100,
		sense: badCdb(2),
		residual: 100,
	});
});

test("RECEIVE COPY STATUS tells of a copy that goes on", async () => {
	const { h, other } = scene();
	let release = () => {};
	const { write } = other;
	let writes = 0;
	other.write = async (...args) => {
		if (++writes === 4) await new Promise<void>((go) => (release = go));
		await write(...args);
	};
	const list = copyList(BOTH, [segment({ blocks: 6 }), segment({ blocks: 8 })]);
	const copying = h.send(0, copyCdb(list.length), { dataOut: list });
	while (writes < 4) await setImmediate();
	const cdb = receive(STATUS, 7, 12);
	const going = status(0, 1, 10 * 512);
	await expectAnswer(h, { cdb, room: 12, data: going });
	await expectAnswer(h, { cdb, room: 12, data: going });
	await expectAnswer(h, {
		cdb: receive(FAILURE, 7, 60),
		room: 60,
		sense: badCdb(2),
		residual: 60,
	});
	const again = copyList([], []);
	const sense = fixedSense(5, 0x0016);
	await expectAnswer(h, { ...copy(again), sense });
	// Another initiator, or another identifier, is another copy.
	await expectAnswer(h, copy(again), 1);
	await expectAnswer(h, copy(copyList([], [], { id: 8 })));
	release();
	assert.equal((await copying).status, 0);
	await expectAnswer(h, { cdb, room: 12, data: status(1, 2, 14 * 512) });
});

test("RECEIVE COPY FAILURE DETAILS tells the sense data", async () => {
	const { h, own } = scene();
	own.fail({ op: "read", errno: "EIO", lba: 9 });
	const list = copyList(BOTH, [segment(), segment({ blocks: 10 })]);
	const sense = forwarded(8, 2, fixedSense(3, 0x1100), {
		segment: 1,
		information: 2,
	});
	await expectAnswer(h, { ...copy(list), sense });
	await expectAnswer(h, {
		cdb: receive(STATUS, 7, 12),
		room: 12,
		data: status(2, 1, 9 * 512),
	});
	const wanted = Buffer.concat([Buffer.alloc(60), sense]);
	wanted.writeUInt32BE(wanted.length - 4, 0);
	wanted[56] = 2;
	wanted.writeUInt16BE(sense.length, 58);
	const cdb = receive(FAILURE, 7, 200);
	const residual = 200 - wanted.length;
	await expectAnswer(h, { cdb, room: 200, data: wanted, residual });
	await expectAnswer(h, { cdb, room: 200, sense: badCdb(2), residual: 200 });
});

test("a new copy forgets what was kept under its identifier", async () => {
	const { h, own } = scene();
	own.fail({ op: "read", errno: "EIO", times: 1 });
	const list = copyList(BOTH, ONE, { flags: DISCARD });
	assert.equal(
		(await h.send(0, copyCdb(list.length), { dataOut: list })).status,
		2,
	);
	await expectAnswer(h, copy(list));
	const cdb = receive(STATUS, 7, 12);
	await expectAnswer(h, { cdb, room: 12, data: status(1, 1, 512) });
});

test("nothing is kept of a copy without identifier, of an aborted one, or for one that is gone", async () => {
	const { h, other } = scene();
	await expectAnswer(h, copy(copyList(BOTH, ONE, { id: 0, flags: NO_ID })));
	assert.equal(h.lu.copyResults.size, 0);
	const abort = new AbortController();
	const { write } = other;
	other.write = async (...args) => {
		abort.abort();
		await write(...args);
	};
	const list = copyList(BOTH, [segment({ blocks: 9 })]);
	const { signal } = abort;
	await h.send(0, copyCdb(list.length), { dataOut: list, signal });
	assert.equal(other.calls.filter(({ op }) => op === "write").length, 2);
	assert.equal(h.lu.copyResults.size, 0);
	await expectAnswer(h, copy(copyList(BOTH, ONE)), 0);
	await expectAnswer(h, copy(copyList(BOTH, ONE)), 1);
	const [gone] = h.nexuses;
	assert(gone);
	forgetCopyResults(h.lu.copyResults, gone);
	const cdb = receive(STATUS, 7, 12);
	await expectAnswer(h, { cdb, room: 12, sense: badCdb(2), residual: 12 });
	await expectAnswer(h, { cdb, room: 12, data: status(1, 1, 512) }, 1);
});

test("as many copies go on at a time as the limits say", async () => {
	const { h, own } = scene();
	const release = own.hold();
	const copies = Array.from({ length: 64 }, (_, id) => {
		const list = copyList(BOTH, ONE, { id });
		return h.send(0, copyCdb(list.length), { dataOut: list });
	});
	await setImmediate();
	const one = copyList(BOTH, ONE, { id: 99 });
	await expectAnswer(h, { ...copy(one), status: 0x28 });
	release();
	for (const answer of await Promise.all(copies))
		assert.equal(answer.status, 0);
	await expectAnswer(h, copy(one));
});
