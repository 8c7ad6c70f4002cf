// SPDX-License-Identifier: MIT
// What all commands share, and the small ones: capacity, LUNs, power, diagnostics, logs.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import type { BackgroundWork } from "../../src/engine/scsi/logical-unit.ts";
import { executeAbsent } from "../../src/engine/scsi/luns.ts";
import type { MediumErrno } from "../../src/engine/scsi/task.ts";
import {
	answerOf,
	badCdb,
	badList,
	commandOf,
	fixedSense,
	harness,
} from "../support/scsi.ts";

const READY = [0, 0, 0, 0, 0, 0];
const STOP = [0x1b, 0, 0, 0, 0, 0];
const START = [0x1b, 0, 0, 0, 1, 0];
const READ = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const CAPACITY_10 = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const capacity16 = (length = 32) => [
	0x9e,
	0x10,
	...Array(8).fill(0),
	0,
	0,
	0,
	length,
	0,
	0,
];
const NOT_STARTED = fixedSense(0x2, 0x0402);

function working(progress: number): BackgroundWork & { cancelled: boolean } {
	return {
		cancelled: false,
		sense: () => ({ key: 0x2, asc: 0x041b, progress }),
		async cancel() {
			this.cancelled = true;
		},
	};
}

test("every command refuses every bit that it does not evaluate, and points at it", async () => {
	const { send, lu } = harness();
	for (const one of lu.operations) {
		const { usage, opcode, serviceAction } = one;
		for (let byte = 1; byte < usage.length; byte++)
			for (let bit = 0; bit < 8; bit++) {
				if ((usage[byte] ?? 0) & (1 << bit)) continue;
				if (serviceAction !== undefined && byte === 1 && bit < 5) continue;
				const cdb = [opcode, ...Array(usage.length - 1).fill(0)];
				cdb[1] = serviceAction ?? 0;
				cdb[byte] |= 1 << bit;
				const { sense, status } = await send(0, cdb);
				assert.equal(status, 2, one.name);
				assert.deepEqual(
					sense,
					badCdb(byte, bit),
					`${one.name} ${byte}.${bit}`,
				);
			}
	}
});

test("opcodes and service actions that are not there", async () => {
	const { send, lu } = harness();
	const known = new Set(lu.operations.map(({ opcode }) => opcode));
	for (let opcode = 0; opcode < 256; opcode++)
		if (!known.has(opcode))
			assert.deepEqual(
				(await send(0, [opcode])).sense,
				fixedSense(0x5, 0x2000),
			);
	assert.deepEqual((await send(0, [0x9e, 0x1f])).sense, badCdb(1, 4));
	assert.deepEqual((await send(0, [0xa3, 0xff])).sense, badCdb(1, 4));
});

test("TEST UNIT READY", async () => {
	const { send } = harness();
	assert.equal((await send(0, READY)).status, 0);
});

test("READ CAPACITY: the last block, and how it is made", async () => {
	const { send } = harness({ disk: { physicalBlockSize: 4096 } });
	const ten = await send(0, CAPACITY_10, { room: 16 });
	assert.equal(ten.data.toString("hex"), "000003ff00000200");
	assert.equal(ten.residual, 8);
	const sixteen = await send(0, capacity16(), { room: 32 });
	assert.equal(
		sixteen.data.toString("hex"),
		`00000000000003ff${"00000200"}0003c000${"00".repeat(16)}`,
	);
	for (let length = 0; length < 32; length++) {
		const { data } = await send(0, capacity16(length), { room: 32 });
		assert.equal(data.length, length);
	}
});

test("READ CAPACITY: a thick disk, and one of more than 2^32 blocks", async () => {
	const h = harness({ disk: { supports: { unmap: false } } });
	const edges: [number, string, string][] = [
		[1, "00000000", "0000000000000000"],
		[2 ** 32 - 1, "fffffffe", "00000000fffffffe"],
		[2 ** 32, "ffffffff", "00000000ffffffff"],
		[2 ** 32 + 1, "ffffffff", "0000000100000000"],
		[2 ** 42, "ffffffff", "000003ffffffffff"],
	];
	for (const [blocks, short, long] of edges) {
		h.disk.numBlocks = blocks;
		const ten = await h.send(0, CAPACITY_10, { room: 8 });
		assert.equal(ten.data.toString("hex"), `${short}00000200`);
		const sixteen = await h.send(0, capacity16(), { room: 32 });
		assert.equal(
			sixteen.data.toString("hex"),
			`${long}${"00000200"}${"00".repeat(20)}`,
		);
	}
});

test("READ CAPACITY: PMI and a block are obsolete, buffers too short overrun", async () => {
	const { send } = harness();
	const cases: [number[], Buffer][] = [
		[[0x25, 1, 0, 0, 0, 0, 0, 0, 0, 0], badCdb(1, 0)],
		[[0x25, 0, 0, 0, 0, 7, 0, 0, 0, 0], badCdb(5, 2)],
		[[0x25, 0, 0, 0, 0, 0, 0, 0, 1, 0], badCdb(8, 0)],
		[[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0], badCdb(9, 0)],
		[[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 1, 0], badCdb(14, 0)],
	];
	for (const [cdb, sense] of cases)
		assert.deepEqual((await send(0, cdb, { room: 32 })).sense, sense);
	assert.equal((await send(0, CAPACITY_10, { room: 7 })).overrun, true);
	assert.equal((await send(0, capacity16(), { room: 31 })).overrun, true);
});

test("REPORT LUNS: each select report", async () => {
	const luns = [0, 1, 255];
	const all = `0000001800000000${"0000000000000000"}${"0001000000000000"}${"00ff000000000000"}`;
	const none = "0000000000000000";
	const report = (select: number, length = 512) => [
		0xa0,
		0,
		select,
		0,
		0,
		0,
		0,
		0,
		length >> 8,
		length & 0xff,
		0,
		0,
	];
	const cases: [number, string | undefined, string | undefined][] = [
		[0x00, all, all],
		[0x01, none, none],
		[0x02, all, all],
		[0x03, undefined, undefined],
		[0x10, none, undefined],
		[0x11, all, undefined],
		[0x12, undefined, undefined],
		[0xff, undefined, undefined],
	];
	for (const [select, ofZero, ofOne] of cases)
		for (const [lun, hex] of [
			[0, ofZero],
			[1, ofOne],
		] as const) {
			const { send } = harness({ lun, luns });
			const { data, sense } = await send(0, report(select), { room: 512 });
			if (hex === undefined) assert.deepEqual(sense, badCdb(2));
			else assert.equal(data.toString("hex"), hex);
		}
	const { send } = harness({ luns });
	for (const length of [0, 8, 15, 16, 31]) {
		const { data } = await send(0, report(0, length), { room: 512 });
		assert.equal(data.toString("hex"), all.slice(0, 2 * length));
	}
	assert.equal((await send(0, report(0), { room: 511 })).overrun, true);
});

test("a LUN that is not there", () => {
	const { host, lu, nexuses } = harness();
	const [nexus] = nexuses;
	assert(nexus);
	const send = (cdb: number[], room = 512) => {
		const { command } = commandOf(nexus, cdb, { room });
		return answerOf(lu, command, executeAbsent(command, host));
	};
	const standard = send([0x12, 0, 0, 0, 96, 0]).data;
	assert.equal(standard.toString("hex"), `7f0006121f000002${"20".repeat(28)}`);
	assert.equal(send([0x12, 1, 0, 0, 96, 0]).data.toString("hex"), "7f00000100");
	assert.deepEqual(send([0x12, 1, 0x83, 0, 96, 0]).sense, badCdb(2));
	assert.deepEqual(send([0x12, 4, 0, 0, 96, 0]).sense, badCdb(1, 2));
	assert.equal(send([0x12, 0, 0, 2, 1, 0]).overrun, true);
	const report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0];
	assert.equal(
		send(report).data.toString("hex"),
		`0000000800000000${"00".repeat(8)}`,
	);
	const missing = fixedSense(0x5, 0x2500);
	assert.deepEqual(send([3, 0, 0, 0, 252, 0]).data, missing);
	assert.equal(
		send([3, 1, 0, 0, 252, 0]).data.toString("hex"),
		"7205250000000000",
	);
	for (const opcode of [0x00, 0x28, 0x5e, 0xff])
		assert.deepEqual(send([opcode]).sense, missing);
});

test("START STOP UNIT: stopped, the medium is not ready and gates ask", async () => {
	const h = harness();
	const [nexus] = h.nexuses;
	assert(nexus);
	const before = h.changes();
	assert.equal((await h.send(0, STOP)).status, 0);
	assert(h.changes() > before);
	assert.deepEqual(
		h.disk.calls.map(({ op }) => op),
		["flush"],
	);
	assert.deepEqual(h.lu.gates(nexus), { read: "ask", write: "ask" });
	for (const cdb of [READY, READ, CAPACITY_10])
		assert.deepEqual((await h.send(0, cdb, { room: 512 })).sense, NOT_STARTED);
	const { data } = await h.send(0, [3, 0, 0, 0, 18, 0], { room: 18 });
	assert.deepEqual(data, NOT_STARTED);
	assert.equal((await h.send(0, [0x12, 0, 0, 0, 5, 0], { room: 5 })).status, 0);
	assert.equal((await h.send(0, START)).status, 0);
	assert.equal((await h.send(0, READ, { room: 512 })).status, 0);
	assert.deepEqual(h.lu.gates(nexus), { read: "run", write: "run" });
});

test("START STOP UNIT: IMMED, NO_FLUSH, power conditions, what is refused", async () => {
	const h = harness();
	const unit = (byte1: number, byte3: number, byte4: number) => [
		0x1b,
		byte1,
		0,
		byte3,
		byte4,
		0,
	];
	assert.equal((await h.send(0, unit(1, 0, 0x04))).status, 0);
	assert.equal(h.lu.started, false);
	assert.deepEqual(h.disk.calls, []);
	// ACTIVE starts it; so does giving control back.
	assert.equal((await h.send(0, unit(0, 0, 0x10))).status, 0);
	assert.equal(h.lu.started, true);
	await h.send(0, unit(0, 0, 0x00));
	assert.equal((await h.send(0, unit(0, 0, 0x70))).status, 0);
	assert.equal(h.lu.started, true);
	const cases: [string, number[], Buffer][] = [
		["LOEJ, to eject", unit(0, 0, 0x02), badCdb(4, 1)],
		["LOEJ, to load", unit(0, 0, 0x03), badCdb(4, 1)],
		["IDLE", unit(0, 0, 0x20), badCdb(4, 7)],
		["STANDBY", unit(0, 0, 0x30), badCdb(4, 7)],
		["FORCE_STANDBY_0", unit(0, 0, 0xb0), badCdb(4, 7)],
		["a modifier", unit(0, 1, 0x10), badCdb(3, 3)],
	];
	for (const [name, cdb, sense] of cases)
		assert.deepEqual((await h.send(0, cdb)).sense, sense, name);
	assert.equal(h.lu.started, true);
});

test("START STOP UNIT: a disk that cannot be flushed stays started", async () => {
	const h = harness();
	h.disk.fail({ op: "flush", errno: "EIO" });
	assert.deepEqual((await h.send(0, STOP)).sense, fixedSense(0x3, 0x0c00));
	assert.equal(h.lu.started, true);
	const without = harness({ disk: { supports: { flush: false } } });
	assert.equal((await without.send(0, STOP)).status, 0);
	assert.deepEqual(without.disk.calls, []);
});

test("PREVENT ALLOW MEDIUM REMOVAL", async () => {
	const h = harness({ nexuses: 2 });
	const prevent = (value: number) => [0x1e, 0, 0, 0, value, 0];
	assert.equal((await h.send(0, prevent(1))).status, 0);
	assert.equal((await h.send(1, prevent(1))).status, 0);
	assert.equal((await h.send(1, prevent(1))).status, 0);
	assert.deepEqual([...h.lu.preventers], h.nexuses);
	assert.equal((await h.send(1, prevent(0))).status, 0);
	assert.deepEqual([...h.lu.preventers], h.nexuses.slice(0, 1));
	assert.deepEqual((await h.send(0, prevent(2))).sense, badCdb(4, 1));
});

test("background work: its sense, its progress, and its end", async () => {
	const h = harness();
	const [nexus] = h.nexuses;
	assert(nexus);
	const work = working(0.5);
	h.lu.background = work;
	const sense = fixedSense(0x2, 0x041b, 0x808000);
	assert.deepEqual(h.lu.gates(nexus), { read: "ask", write: "ask" });
	// Before the CDB is looked at: LOEJ is not found yet.
	for (const cdb of [READY, STOP, START, [0x1b, 0, 0, 0, 2, 0]])
		assert.deepEqual((await h.send(0, cdb)).sense, sense);
	const { data, status } = await h.send(0, [3, 0, 0, 0, 18, 0], { room: 18 });
	assert.equal(status, 0);
	assert.deepEqual(data, sense);
	assert.equal((await h.send(0, [0x12, 0, 0, 0, 5, 0], { room: 5 })).status, 0);
	await h.lu.close();
	assert.equal(work.cancelled, true);
});

test("write protection: read-only and SWP, after the CDB's being for this unit", async () => {
	const h = harness({ disk: { readonly: true } });
	const [nexus] = h.nexuses;
	assert(nexus);
	assert.deepEqual(h.lu.gates(nexus), { read: "run", write: "ask" });
	const dataOut = Buffer.alloc(512);
	const answer = await h.send(0, WRITE, { dataOut });
	assert.deepEqual(answer.sense, fixedSense(0x7, 0x2700));
	assert.equal(answer.residual, 512);
	assert.equal((await h.send(0, READ, { room: 512 })).status, 0);
});

test("errors of the medium", async () => {
	const cases: [MediumErrno, Buffer, Buffer][] = [
		["EIO", fixedSense(0x3, 0x1100), fixedSense(0x3, 0x0c00)],
		["ENOSPC", fixedSense(0x7, 0x2707), fixedSense(0x7, 0x2707)],
		["ERANGE", fixedSense(0x5, 0x2100), fixedSense(0x5, 0x2100)],
		["EOPNOTSUPP", fixedSense(0x5, 0x2000), fixedSense(0x5, 0x2000)],
		["EROFS", fixedSense(0x7, 0x2700), fixedSense(0x7, 0x2700)],
		["ENODEV", fixedSense(0x4, 0x4400), fixedSense(0x4, 0x4400)],
	];
	for (const [errno, read, write] of cases) {
		const { send, disk } = harness();
		disk.fail({ op: "read", errno });
		disk.fail({ op: "write", errno });
		assert.deepEqual((await send(0, READ, { room: 512 })).sense, read);
		const dataOut = Buffer.alloc(512);
		assert.deepEqual((await send(0, WRITE, { dataOut })).sense, write);
	}
});

test("no memory: BUSY, to be tried again", async () => {
	const { send, disk } = harness();
	disk.fail({ op: "read", errno: "ENOMEM", times: 1 });
	assert.equal((await send(0, READ, { room: 512 })).status, 0x08);
	assert.equal((await send(0, READ, { room: 512 })).status, 0);
	disk.fail({ op: "flush", errno: "ENOMEM", times: 1 });
	assert.equal((await send(0, STOP)).status, 0x08);
	assert.equal((await send(0, STOP)).status, 0);
});

test("a failure of ours is a hardware error, and logged", async () => {
	const h = harness();
	h.disk.flush = () => Promise.reject(new TypeError("a mistake"));
	assert.deepEqual((await h.send(0, STOP)).sense, fixedSense(0x4, 0x4400));
	assert(h.logged.some((line) => line.includes("a mistake")));
});

test("SEND DIAGNOSTIC: the default self-test reads the medium", async () => {
	const { send, disk } = harness();
	assert.equal((await send(0, [0x1d, 4, 0, 0, 0, 0])).status, 0);
	assert.deepEqual(
		disk.calls.map(({ op, lba }) => [op, lba]),
		[
			["read", 0],
			["read", 1023],
		],
	);
	disk.fail({ op: "read", errno: "EIO", lba: 1023 });
	const { sense } = await send(0, [0x1d, 4, 0, 0, 0, 0]);
	assert.deepEqual(sense, fixedSense(0x4, 0x3e03));
});

test("SEND DIAGNOSTIC: the supported pages page, and what is refused", async () => {
	const { send } = harness();
	const diagnostic = (flags: number, length: number) => [
		0x1d,
		flags,
		0,
		length >> 8,
		length & 0xff,
		0,
	];
	const cases: [string, number, string, Buffer | undefined][] = [
		["nothing", 0x00, "", undefined],
		["page 0", 0x10, "00000000", undefined],
		["no page format", 0x00, "00000000", badCdb(1, 4)],
		["another page", 0x10, "40000000", badList(0)],
		["a reserved byte", 0x10, "00010000", badList(1)],
		["parameters", 0x10, "0000000100", badList(2)],
		["two pages", 0x10, "0000000000000000", fixedSense(0x5, 0x1a00)],
		["half a page", 0x10, "0000", fixedSense(0x5, 0x1a00)],
		["a self-test with a list", 0x04, "00000000", badCdb(3)],
		["a test in the background", 0x20, "", badCdb(1, 7)],
		["an extended test", 0xc0, "", badCdb(1, 7)],
	];
	for (const [name, flags, hex, expected] of cases) {
		const dataOut = Buffer.from(hex, "hex");
		const { sense } = await send(0, diagnostic(flags, dataOut.length), {
			dataOut,
		});
		assert.deepEqual(sense, expected, name);
	}
	const short = await send(0, diagnostic(0x10, 4), {
		dataOut: Buffer.alloc(3),
	});
	assert.equal(short.overrun, true);
});

test("RECEIVE DIAGNOSTIC RESULTS", async () => {
	const { send } = harness();
	for (const [flags, page] of [
		[1, 0],
		[0, 0],
	])
		assert.equal(
			(
				await send(0, [0x1c, flags ?? 0, page ?? 0, 0, 64, 0], { room: 64 })
			).data.toString("hex"),
			"0000000100",
		);
	const other = await send(0, [0x1c, 1, 0x40, 0, 64, 0], { room: 64 });
	assert.deepEqual(other.sense, badCdb(2));
	assert.equal((await send(0, [0x1c, 1, 0, 0, 64, 0])).overrun, true);
});

test("LOG SENSE", async () => {
	const { send } = harness();
	const log = (page: number, subpage = 0, pointer = 0) => [
		0x4d,
		0,
		page,
		subpage,
		0,
		pointer >> 8,
		pointer & 0xff,
		0,
		255,
		0,
	];
	const good: [number[], string][] = [
		[log(0x00), "00000002002f"],
		[log(0x40), "00000002002f"],
		[log(0x40, 0xff), "40ff0006000000ff2f00"],
		[log(0x6f), "af00000800000304" + "0000ffff"],
	];
	for (const [cdb, hex] of good) {
		const { data } = await send(0, cdb, { room: 255 });
		assert.equal(data.toString("hex"), hex);
	}
	const bad: [string, number[], Buffer][] = [
		["a page", log(0x4d), badCdb(2, 5)],
		["a subpage", log(0x6f, 1), badCdb(3)],
		["a parameter", log(0x6f, 0, 1), badCdb(5)],
		["SP", [0x4d, 1, 0x6f, 0, 0, 0, 0, 0, 255, 0], badCdb(1, 0)],
		["PPC", [0x4d, 2, 0x6f, 0, 0, 0, 0, 0, 255, 0], badCdb(1, 1)],
	];
	for (const [name, cdb, sense] of bad)
		assert.deepEqual((await send(0, cdb, { room: 255 })).sense, sense, name);
	assert.equal((await send(0, log(0x6f), { room: 254 })).overrun, true);
	// LOG SELECT has nothing to select.
	assert.deepEqual((await send(0, [0x4c])).sense, fixedSense(0x5, 0x2000));
});
