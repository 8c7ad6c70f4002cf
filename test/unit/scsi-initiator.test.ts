// SPDX-License-Identifier: MIT
// What perf finds out about a SCSI disk, from devices that answer as a table says.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import {
	ASC,
	encodeSense,
	SENSE_KEY,
	type Sense,
	STATUS,
} from "../../src/engine/scsi/sense.ts";
import {
	decodeReply,
	probe,
	type Reply,
	type Send,
} from "../../src/engine/scsi-initiator.ts";
import { SCSI_RESPONSE } from "../../src/engine/virtio/scsi-codes.ts";

const ADDRESS = { target: 3, lun: 5 };

function reply(
	end: { response?: number; status?: number; sense?: Buffer },
	data = Buffer.alloc(0),
): Reply {
	const bytes = Buffer.alloc(108);
	bytes.writeUInt32LE(end.sense?.length ?? 0, 0);
	bytes.writeUInt8(end.status ?? STATUS.GOOD, 10);
	bytes.writeUInt8(end.response ?? SCSI_RESPONSE.OK, 11);
	end.sense?.copy(bytes, 12);
	return decodeReply(bytes, data);
}

function check(sense: Sense, descriptor = false): Reply {
	const encoded = encodeSense(sense, descriptor);
	return reply({ status: STATUS.CHECK_CONDITION, sense: encoded });
}

const ATTENTION: Sense = {
	key: SENSE_KEY.UNIT_ATTENTION,
	asc: ASC.POWER_ON_OR_RESET,
};
const NO_LUN: Sense = {
	key: SENSE_KEY.ILLEGAL_REQUEST,
	asc: ASC.LUN_NOT_SUPPORTED,
};
const NO_FIELD: Sense = {
	key: SENSE_KEY.ILLEGAL_REQUEST,
	asc: ASC.INVALID_FIELD_IN_CDB,
};

/** What a disk of 1000 blocks of 4 KiB, at most 256 at a time, answers to a CDB. */
function disk(cdb: readonly number[], room = 0): Reply {
	const data = Buffer.alloc(room);
	const [opcode, evpd] = cdb;
	if (opcode === 0x9e) {
		data.writeBigUInt64BE(999n, 0);
		data.writeUInt32BE(4096, 8);
	}
	if (opcode === 0x12 && evpd === 1) {
		data.writeUInt8(0xb0, 1);
		data.writeUInt32BE(256, 8);
	}
	return reply({}, data);
}

/** A device that gives these answers first to commands of an opcode, then a disk's. */
function device(answers: Record<number, Reply[]>): Send {
	const left = new Map(Object.entries(answers));
	return async (cdb, room) =>
		left.get(String(cdb[0]))?.shift() ?? disk(cdb, room);
}

test("a disk is found ready, with its size and its limit", async () => {
	assert.deepEqual(await probe(device({}), ADDRESS), {
		bytes: 4096000,
		blockSize: 4096,
		readonly: false,
		maxRequest: 1048576,
	});
});

test("unit attentions and BUSY are waited out, on any command", async () => {
	const news = [check(ATTENTION), check(ATTENTION, true)];
	const busy = [
		reply({ status: STATUS.BUSY }),
		reply({ status: STATUS.TASK_SET_FULL }),
		reply({ response: SCSI_RESPONSE.BUSY }),
	];
	const send = device({ 0: [...news, ...busy], 158: [...busy, ...news] });
	assert.equal((await probe(send, ADDRESS)).bytes, 4096000);
});

test("what a device does not tell is left out", async () => {
	const send = device({
		26: [check(NO_FIELD)],
		18: [disk([0x12, 0], 36), check(NO_FIELD)],
	});
	assert.deepEqual(await probe(send, ADDRESS), {
		bytes: 4096000,
		blockSize: 4096,
		readonly: false,
	});
	const protectedDisk = device({
		26: [reply({}, Buffer.from([3, 0, 0x80, 0]))],
	});
	assert.equal((await probe(protectedDisk, ADDRESS)).readonly, true);
});

const inquiry = (first: number) => ({
	18: [reply({}, Buffer.from([first, ...Array(35).fill(0)]))],
});
const conflict = reply({ status: STATUS.RESERVATION_CONFLICT });
const badTarget = reply({ response: SCSI_RESPONSE.BAD_TARGET });
const notReady: Sense = {
	key: SENSE_KEY.NOT_READY,
	asc: ASC.NOT_READY_INITIALIZING_REQUIRED,
};

const FAILURES: [string, Record<number, Reply[]>, string, RegExp][] = [
	["no target", { 18: [badTarget] }, "E_NOT_FOUND", /no target 3/],
	["no LUN by INQUIRY", inquiry(0x7f), "E_NOT_FOUND", /target 3 has no LUN 5/],
	["no LUN by sense", { 0: [check(NO_LUN)] }, "E_NOT_FOUND", /no LUN 5/],
	["no LUN, descriptor", { 0: [check(NO_LUN, true)] }, "E_NOT_FOUND", /LUN 5/],
	["a tape", inquiry(0x01), "E_UNSUPPORTED", /device type 1/],
	["a reservation", { 0: [conflict] }, "E_BUSY", /reserved/],
	["a stopped disk", { 0: [check(notReady)] }, "E_IO", /key 2h, code 0402h/],
	[
		"an odd status",
		{ 158: [reply({ status: STATUS.TASK_ABORTED })] },
		"E_IO",
		/READ CAPACITY \(16\): status 40h/,
	],
	[
		"an odd response",
		{ 0: [reply({ response: SCSI_RESPONSE.FAILURE })] },
		"E_IO",
		/TEST UNIT READY: response 9/,
	],
	[
		"endless attentions",
		{ 0: Array(1000).fill(check(ATTENTION)) },
		"E_IO",
		/key 6h/,
	],
];

for (const [name, answers, code, message] of FAILURES)
	test(`${name} is ${code}`, () =>
		assert.rejects(probe(device(answers), ADDRESS), { code, message }));

test("sense data that is cut short is none", () => {
	const cut = reply({ status: 2, sense: Buffer.from([0x70, 0, 6]) });
	assert.deepEqual([cut.key, cut.asc], [0, 0]);
});
