// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { badCdb, type HarnessOptions, harness } from "../support/scsi.ts";

const inquiry = (length = 512) => [0x12, 0, 0, length >> 8, length & 0xff, 0];
const vpd = (page: number, length = 512) => [
	0x12,
	1,
	page,
	length >> 8,
	length & 0xff,
	0,
];

/** The body of a page, whose header is checked. */
async function body(page: number, options: HarnessOptions = {}) {
	const { data, status } = await harness(options).send(0, vpd(page), {
		room: 512,
	});
	assert.equal(status, 0);
	assert.equal(data[0], 0);
	assert.equal(data[1], page);
	assert.equal(data.readUInt16BE(2), data.length - 4);
	return data.subarray(4);
}

/** Designation descriptors, as "association/type/code set" and what they hold. */
function designations(bytes: Buffer): [string, Buffer][] {
	const out: [string, Buffer][] = [];
	for (let at = 0; at < bytes.length; ) {
		const [set = 0, kind = 0, , length = 0] = bytes.subarray(at, at + 4);
		assert.equal(set >> 4, 0);
		assert.equal(kind & 0xc0, 0);
		const key = `${(kind >> 4) & 3}/${kind & 0xf}/${set & 0xf}`;
		out.push([key, bytes.subarray(at + 4, at + 4 + length)]);
		at += 4 + length;
	}
	return out;
}

test("standard data", async () => {
	const { data, status, residual } = await harness().send(0, inquiry(), {
		room: 512,
	});
	assert.equal(status, 0);
	assert.equal(data.length, 96);
	assert.equal(residual, 512 - 96);
	// Disk, not removable, SPC-4, HISUP and format 2, length, TPGS and 3PC, CMDQUE.
	assert.deepEqual([...data.subarray(0, 8)], [0, 0, 6, 0x12, 91, 0x18, 0, 2]);
	const text = data.toString("latin1", 8, 36);
	assert.equal(text, "vhostctlTest disk       0001");
	// SAM-5, SPC-4, SBC-3.
	assert.equal(data.toString("hex", 58, 66), "00a0046004c00000");
});

test("names that are too long are cut, those that are not ASCII replaced", async () => {
	const identity = { vendor: "ä-vendor-long", product: "x".repeat(40) };
	const { send } = harness({ disk: { identity } });
	const { data } = await send(0, inquiry(36), { room: 36 });
	assert.equal(data.toString("latin1", 8, 36), `?-vendor${"x".repeat(16)}0001`);
});

test("the allocation length cuts, in 16 bits, and is not an error", async () => {
	const { send } = harness();
	for (let length = 0; length < 256; length++) {
		const { data, status, residual } = await send(0, inquiry(length), {
			room: 256,
		});
		assert.equal(status, 0);
		assert.equal(data.length, Math.min(length, 96));
		assert.equal(residual, 256 - data.length);
	}
});

test("an allocation length beyond the buffer is an overrun, and nothing is done", async () => {
	const { data, overrun } = await harness().send(0, inquiry(37), { room: 36 });
	assert.equal(overrun, true);
	assert.equal(data.length, 0);
});

test("bad CDBs", async () => {
	const { send } = harness();
	const cases: [string, number[], Buffer][] = [
		["a page code without EVPD", [0x12, 0, 0x80, 0, 36, 0], badCdb(2)],
		["CMDDT", [0x12, 2, 0, 0, 36, 0], badCdb(1, 1)],
		["a reserved bit", [0x12, 0x81, 0, 0, 36, 0], badCdb(1, 7)],
		["a page that is not there", vpd(0x84), badCdb(2)],
		["85h: there are no management addresses", vpd(0x85), badCdb(2)],
		["NACA", [0x12, 0, 0, 0, 36, 4], badCdb(5, 2)],
	];
	for (const [name, cdb, sense] of cases) {
		const answer = await send(0, cdb, { room: 512 });
		assert.equal(answer.status, 2, name);
		assert.deepEqual(answer.sense, sense, name);
		assert.equal(answer.residual, 512, name);
	}
});

test("00h lists pages in ascending order, and each of them is there", async () => {
	const { send } = harness();
	const pages = [...(await body(0x00))];
	assert.deepEqual(
		pages,
		[0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0xb0, 0xb1, 0xb2],
	);
	for (const page of pages)
		assert.equal((await send(0, vpd(page), { room: 512 })).status, 0);
});

test("80h: the serial number", async () => {
	assert.equal((await body(0x80)).toString(), "SN0123456789");
	const empty = await body(0x80, { disk: { identity: { serial: "" } } });
	assert.equal(empty.toString(), " ");
});

test("83h: designators of the logical unit, its port and its target", async () => {
	const found = designations(await body(0x83));
	const [naa] = found.map(([, bytes]) => bytes);
	assert(naa);
	assert.equal(naa.length, 8);
	assert.equal((naa[0] ?? 0) >> 4, 3);
	const target = "3a5c6e7f00112233";
	const name = (hex: string) =>
		Buffer.concat([Buffer.from(`naa.${hex.toUpperCase()}`), Buffer.alloc(4)]);
	const expected: [string, Buffer][] = [
		["0/3/1", naa],
		["0/1/2", Buffer.from("vhostctlTest disk       SN0123456789")],
		["0/8/3", name(naa.toString("hex"))],
		["0/10/1", Buffer.from("10006a3c2f5e9d1b4c578f102b4d6e8fa0c1", "hex")],
		["1/3/1", found[4]?.[1] ?? Buffer.alloc(0)],
		["1/4/1", Buffer.from([0, 0, 0, 1])],
		["1/5/1", Buffer.from([0, 0, 0, 1])],
		["2/3/1", Buffer.from(target, "hex")],
		["2/8/3", name(target)],
	];
	assert.deepEqual(found, expected);
	assert.equal((found[4]?.[1]?.[0] ?? 0) >> 4, 3);
});

test("83h: the same after a restart, another for another disk", async () => {
	const first = await body(0x83);
	assert.deepEqual(await body(0x83), first);
	const uuid = "6a3c2f5e-9d1b-4c57-8f10-2b4d6e8fa0c2";
	const other = await body(0x83, { disk: { identity: { uuid } } });
	assert.notDeepEqual(other.subarray(4, 12), first.subarray(4, 12));
});

test("86h: simple tasks, and a volatile cache if there is one", async () => {
	const expected = Buffer.alloc(60);
	expected[1] = 0x01;
	expected[2] = 0x01;
	assert.deepEqual(await body(0x86), expected);
	expected[2] = 0;
	const supports = { flush: false };
	assert.deepEqual(await body(0x86, { disk: { supports } }), expected);
});

test("87h and 88h", async () => {
	assert.equal((await body(0x87)).toString("hex"), "3fff0000");
	const port = designations(await body(0x83))[4]?.[1]?.toString("hex");
	const head = `0000000100000000`;
	const ports = (await body(0x88)).toString("hex");
	assert.equal(ports, `${head}0000000c01130008${port}`);
});

test("B0h: limits follow the block sizes", async () => {
	const small = await body(0xb0, { disk: { physicalBlockSize: 4096 } });
	assert.equal(
		small.toString("hex"),
		// WSNZ, COMPARE AND WRITE 255, granularity 8, 4 MiB, no optimum, no prefetch limit,
		// unmap 64 MiB in 256 descriptors of 8 blocks, aligned at 0; WRITE SAME 16 MiB.
		`01ff0008${"00002000"}${"00000000".repeat(2)}${"00020000"}${"00000100"}${"00000008"}${"80000000"}${"0000000000008000"}${"00".repeat(20)}`,
	);
	const disk = { blockSize: 65536, physicalBlockSize: 65536, blocks: 8 };
	const large = await body(0xb0, { disk });
	assert.equal(
		large.toString("hex", 0, 40),
		`01100001${"00000040"}${"00000000".repeat(2)}${"00000400"}${"00000100"}${"00000001"}${"80000000"}${"0000000000000100"}`,
	);
});

test("B0h and B2h: nothing of unmapping where there is none", async () => {
	const disk = { supports: { unmap: false } };
	assert.equal(
		(await body(0xb0, { disk })).toString("hex", 16, 32),
		"00".repeat(16),
	);
	assert.equal((await body(0xb2, { disk })).toString("hex"), "00000000");
});

test("B1h: not rotating; WABEREQ, as blocks can be erased; FUAB and VBULS", async () => {
	const expected = Buffer.alloc(60);
	expected[1] = 1;
	expected[3] = 0x40;
	expected[4] = 3;
	assert.deepEqual(await body(0xb1), expected);
});

test("B2h: page length is 4 when DP is zero", async () => {
	// LBPU, LBPWS, LBPWS10, LBPRZ; thin.
	assert.equal((await body(0xb2)).toString("hex"), "00e40200");
});
