// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { OPERATIONS } from "../../src/engine/scsi/opcodes.ts";
import { renderScsiReference } from "../../src/engine/scsi/reference.ts";
import { projectPath } from "../support/instance.ts";
import { badCdb, fixedSense, harness } from "../support/scsi.ts";

const { send } = harness();

async function maintenance(
	action: number,
	bytes: { 1?: number; 2?: number; 3?: number; 5?: number },
	length = 0xffff,
) {
	const cdb = [0xa3, action | (bytes[1] ?? 0), bytes[2] ?? 0, bytes[3] ?? 0, 0];
	cdb.push(bytes[5] ?? 0, 0, 0, length >> 8, length & 0xff, 0, 0);
	return await send(0, cdb, { room: 0xffff });
}

const hexOf = async (...args: Parameters<typeof maintenance>) =>
	(await maintenance(...args)).data.toString("hex");

test("the opcode table: no entry twice, masks that hold together", () => {
	const seen = new Set<string>();
	for (const one of OPERATIONS) {
		const { opcode, serviceAction, usage, name, timeout } = one;
		const key = `${opcode}/${serviceAction}`;
		assert(!seen.has(key), name);
		seen.add(key);
		assert.equal(usage[0], opcode, name);
		if (serviceAction !== undefined)
			assert.equal((usage[1] ?? 0) & 0x1f, serviceAction, name);
		// The length that the group code of the opcode has (SPC-4 4.2.5.1).
		const group = [6, 10, 10, undefined, 16, 12][opcode >> 5];
		assert.equal(usage.length, group, name);
		// CONTROL: no NACA.
		assert.equal(usage.at(-1), 0, name);
		assert(timeout >= 0, name);
	}
	// All entries of an opcode have a service action, or there is one entry without.
	for (const { opcode, serviceAction, name } of OPERATIONS) {
		const others = OPERATIONS.filter((one) => one.opcode === opcode);
		assert(serviceAction !== undefined || others.length === 1, name);
	}
});

test("all operation codes, with and without timeouts", async () => {
	const { data } = await maintenance(0x0c, {});
	assert.equal(data.readUInt32BE(0), data.length - 4);
	assert.equal(data.length, 4 + 8 * OPERATIONS.length);
	const { data: timed } = await maintenance(0x0c, { 2: 0x80 });
	assert.equal(timed.length, 4 + 20 * OPERATIONS.length);
	for (const [i, one] of OPERATIONS.entries()) {
		const short = data.subarray(4 + 8 * i, 12 + 8 * i);
		const long = timed.subarray(4 + 20 * i, 24 + 20 * i);
		assert.equal(short[0], one.opcode);
		assert.equal(short.readUInt16BE(2), one.serviceAction ?? 0);
		assert.equal(short[5], one.serviceAction === undefined ? 0 : 1);
		assert.equal(short.readUInt16BE(6), one.usage.length);
		assert.equal(long[5], (short[5] ?? 0) | 2);
		assert.equal(long.readUInt16BE(8), 10);
		assert.equal(long.readUInt32BE(16), one.timeout);
	}
});

test("what the disk cannot do is neither reported nor performed", async () => {
	const thick = harness({ disk: { supports: { unmap: false } } });
	assert.deepEqual(
		OPERATIONS.filter((one) => !thick.lu.operations.includes(one)).map(
			({ opcode, serviceAction }) => [opcode, serviceAction],
		),
		[
			[0x42, undefined],
			[0x48, 2],
		],
	);
	const { sense } = await thick.send(0, [0x42]);
	assert.deepEqual(sense, fixedSense(0x5, 0x2000));
	assert.deepEqual((await thick.send(0, [0x48, 2])).sense, badCdb(1, 4));
	const ask = [0xa3, 0x0c, 1, 0x42, 0, 0, 0, 0, 0, 64, 0, 0];
	const { data } = await thick.send(0, ask, { room: 64 });
	assert.equal(data.toString("hex"), "00010000");
	const page = await thick.send(0, [0x12, 1, 0xb1, 0, 64, 0], { room: 64 });
	assert.equal(page.data[7], 0);
});

test("one operation code: its usage", async () => {
	const cases: [string, Parameters<typeof maintenance>[1], string][] = [
		["INQUIRY", { 2: 1, 3: 0x12 }, "000300061201ffffff00"],
		[
			"with its timeouts",
			{ 2: 0x81, 3: 0x12 },
			`008300061201ffffff00${"000a0000"}${"00000000"}${"0000000a"}`,
		],
		["either", { 2: 3, 3: 0x12 }, "000300061201ffffff00"],
		[
			"either, a service action it has not",
			{ 2: 3, 3: 0x12, 5: 1 },
			"00010000",
		],
		[
			"READ CAPACITY (16)",
			{ 2: 2, 3: 0x9e, 5: 0x10 },
			`000300109e10${"00".repeat(8)}ffffffff0000`,
		],
		[
			"either, with a service action",
			{ 2: 3, 3: 0x9e, 5: 0x10 },
			`000300109e10${"00".repeat(8)}ffffffff0000`,
		],
		["none", { 2: 1, 3: 0xff }, "00010000"],
		["none, with timeouts", { 2: 0x81, 3: 0xff }, "00010000"],
		["no such service action", { 2: 2, 3: 0x9e, 5: 0x1f }, "00010000"],
		[
			"no such opcode, with a service action",
			{ 2: 2, 3: 0xff, 5: 1 },
			"00010000",
		],
	];
	for (const [name, bytes, hex] of cases)
		assert.equal(await hexOf(0x0c, bytes), hex, name);
});

test("every entry of the list can be asked for, in the one way that fits it", async () => {
	for (const { opcode, serviceAction, usage, name } of OPERATIONS) {
		const fits = serviceAction === undefined ? 1 : 2;
		const bytes = { 3: opcode, 5: serviceAction ?? 0 };
		const { data } = await maintenance(0x0c, { ...bytes, 2: fits });
		assert.deepEqual([...data.subarray(4)], [...usage], name);
		const { sense } = await maintenance(0x0c, { ...bytes, 2: 3 - fits });
		assert.deepEqual(sense, badCdb(2, 2), name);
	}
});

test("REPORT SUPPORTED OPERATION CODES: what is refused, what is cut", async () => {
	for (const option of [4, 5, 6, 7])
		assert.deepEqual(
			(await maintenance(0x0c, { 2: option })).sense,
			badCdb(2, 2),
		);
	assert.equal((await maintenance(0x0c, {}, 3)).data.length, 3);
	const short = await send(0, [0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], {
		room: 255,
	});
	assert.equal(short.overrun, true);
});

test("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", async () => {
	// ATS ATSS CTSS LURS QTS; QTSS ITNRS.
	assert.equal(await hexOf(0x0d, {}), "dc030000");
	assert.equal(await hexOf(0x0d, { 2: 0x80 }), `dc03000c${"00".repeat(12)}`);
	assert.equal(await hexOf(0x0d, { 2: 0x80 }, 4), "dc03000c");
	assert.deepEqual((await maintenance(0x0d, {}, 3)).sense, badCdb(6));
});

test("REPORT TARGET PORT GROUPS", async () => {
	const group = "000100010000000100000001";
	assert.equal(await hexOf(0x0a, {}), `0000000c${group}`);
	assert.equal(await hexOf(0x0a, { 1: 0x20 }), `0000001010000000${group}`);
	assert.equal(await hexOf(0x0a, {}, 4), "0000000c");
	assert.deepEqual((await maintenance(0x0a, { 1: 0x40 })).sense, badCdb(1, 7));
});

test("docs/scsi.md is current (npm run docs)", () => {
	assert.equal(
		readFileSync(projectPath("docs/scsi.md"), "utf8"),
		renderScsiReference(),
	);
});
