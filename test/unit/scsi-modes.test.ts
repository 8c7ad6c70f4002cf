// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import type { Store } from "../../src/engine/scsi/task.ts";
import {
	badCdb,
	badList,
	fixedSense,
	type Harness,
	type HarnessOptions,
	harness,
	memoryStore,
} from "../support/scsi.ts";

const SAVED = 0xc0;
const DEFAULT = 0x80;
const CHANGEABLE = 0x40;
const DBD = 0x08;
const LLBAA = 0x10;

const sense6 = (page: number, flags = DBD, subpage = 0, length = 255) => [
	0x1a,
	flags,
	page,
	subpage,
	length,
	0,
];
const sense10 = (page: number, flags = DBD, subpage = 0) => [
	0x5a,
	flags,
	page,
	subpage,
	0,
	0,
	0,
	0x10,
	0,
	0,
];
const select6 = (length: number, flags = 0x10) => [
	0x15,
	flags,
	0,
	0,
	length,
	0,
];
const select10 = (length: number, flags = 0x10) => [
	0x55,
	flags,
	0,
	0,
	0,
	0,
	0,
	0,
	length,
	0,
];

const CACHING = `0812${"04"}${"00".repeat(17)}`;
const CONTROL = "0a0a02100000000000000000";
const pages = {
	recovery: `010a${"00".repeat(10)}`,
	caching: CACHING,
	control: CONTROL,
	extension: `4a01001c01${"00".repeat(27)}`,
	power: `1a26${"00".repeat(38)}`,
	exceptions: `1c0a08${"00".repeat(9)}`,
};
const WITHOUT_SUBPAGES = [
	pages.recovery,
	pages.caching,
	pages.control,
	pages.power,
	pages.exceptions,
].join("");
const WITH_SUBPAGES = Object.values(pages).join("");

/** Nothing is savable, so that PS is zero everywhere. */
const plain = (options: HarnessOptions = {}) =>
	harness({ store: null, ...options });

async function hexOf(h: Harness, cdb: number[]): Promise<string> {
	const { data, status, sense } = await h.send(0, cdb, { room: 4096 });
	assert.equal(status, 0, sense?.toString("hex"));
	return data.toString("hex");
}

/** MODE SELECT(6) of pages, in hexadecimal, from a nexus. */
function select(h: Harness, list: string, flags = 0x10, nexus = 0) {
	const dataOut = Buffer.from(`00000000${list}`, "hex");
	return h.send(nexus, select6(dataOut.length, flags), { dataOut });
}

const caching = (wce: boolean) => `0812${wce ? "04" : "00"}${"00".repeat(17)}`;
const control = (flags: { dSense?: boolean; swp?: boolean }) =>
	`0a0a${flags.dSense ? "06" : "02"}10${flags.swp ? "08" : "00"}${"00".repeat(7)}`;

test("MODE SENSE: header, block descriptor, pages", async () => {
	const h = plain();
	const cases: [string, number[], string][] = [
		["one page", sense6(0x08), `17001000${CACHING}`],
		[
			"with a descriptor",
			sense6(0x08, 0),
			`1f001008${"0000040000000200"}${CACHING}`,
		],
		["all", sense6(0x3f), `63001000${WITHOUT_SUBPAGES}`],
		["all, all subpages", sense6(0x3f, DBD, 0xff), `83001000${WITH_SUBPAGES}`],
		["a subpage", sense6(0x0a, DBD, 1), `23001000${pages.extension}`],
		[
			"all subpages of a page",
			sense6(0x0a, DBD, 0xff),
			`2f001000${CONTROL}${pages.extension}`,
		],
		["(10)", sense10(0x08), `001a001000000000${CACHING}`],
		[
			"(10) with a short descriptor",
			sense10(0x08, 0),
			`0022001000000008${"0000040000000200"}${CACHING}`,
		],
		[
			"(10) with a long descriptor",
			sense10(0x08, LLBAA),
			`002a001001000010${"0000000000000400"}${"00000000"}${"00000200"}${CACHING}`,
		],
		[
			"(10) with LLBAA and DBD",
			sense10(0x08, LLBAA | DBD),
			`001a001000000000${CACHING}`,
		],
		["defaults", sense6(DEFAULT | 0x0a), `0f001000${CONTROL}`],
		[
			"changeable: D_SENSE, SWP",
			sense6(CHANGEABLE | 0x0a),
			`0f001000${"0a0a04000800000000000000"}`,
		],
		["changeable: WCE", sense6(CHANGEABLE | 0x08), `17001000${CACHING}`],
		[
			"changeable: nothing",
			sense6(CHANGEABLE | 0x0a, DBD, 1),
			`23001000${"4a01001c"}${"00".repeat(28)}`,
		],
	];
	for (const [name, cdb, hex] of cases)
		assert.equal(await hexOf(h, cdb), hex, name);
});

test("MODE SENSE: the allocation length cuts, and the header tells all the same", async () => {
	const { send } = plain();
	const answer = await send(0, sense6(0x3f, DBD, 0, 4), { room: 4 });
	assert.equal(answer.data.toString("hex"), "63001000");
	assert.equal(answer.residual, 0);
	const overrun = await send(0, sense6(0x3f, DBD, 0, 5), { room: 4 });
	assert.equal(overrun.overrun, true);
});

test("MODE SENSE: a disk of more than 2^32 blocks has FFFFFFFFh, and a long descriptor", async () => {
	const h = plain();
	h.disk.numBlocks = 2 ** 33;
	const short = await hexOf(h, sense10(0x1c, 0));
	assert.equal(short.slice(16, 32), "ffffffff00000200");
	const long = await hexOf(h, sense10(0x1c, LLBAA));
	assert.equal(long.slice(16, 48), "00000002000000000000000000000200");
});

test("MODE SENSE: what is not there", async () => {
	const { send } = plain();
	const cases: [string, number[], Buffer][] = [
		["a page", sense6(0x02), badCdb(2, 5)],
		["a subpage", sense6(0x08, DBD, 1), badCdb(3)],
		["a subpage of all pages", sense6(0x3f, DBD, 1), badCdb(3)],
		["saved values", sense6(SAVED | 0x08), fixedSense(0x5, 0x3900)],
		["LLBAA in the short form", sense6(0x08, LLBAA), badCdb(1, 4)],
		["a reserved bit", sense10(0x08, 0x80), badCdb(1, 7)],
	];
	for (const [name, cdb, expected] of cases) {
		const { status, sense } = await send(0, cdb, { room: 4096 });
		assert.equal(status, 2, name);
		assert.deepEqual(sense, expected, name);
	}
});

test("the write-protect bit: of a read-only disk, and of SWP", async () => {
	const locked = plain({ disk: { readonly: true } });
	assert.equal((await hexOf(locked, sense6(0x1c))).slice(0, 8), "0f009000");
	assert.equal((await hexOf(locked, sense10(0x1c))).slice(0, 8), "00120090");
	const h = plain();
	await select(h, control({ swp: true }));
	assert.equal((await hexOf(h, sense6(0x1c))).slice(0, 8), "0f009000");
});

test("a disk without a cache cannot be given one", async () => {
	const h = plain({ disk: { supports: { flush: false } } });
	assert.equal(h.lu.writeback, false);
	const none = `0812${"00".repeat(18)}`;
	assert.equal(await hexOf(h, sense6(0x08)), `17001000${none}`);
	assert.equal(await hexOf(h, sense6(CHANGEABLE | 0x08)), `17001000${none}`);
	const { sense } = await select(h, caching(true));
	assert.deepEqual(sense, badList(6, 2));
});

test("MODE SELECT: WCE off flushes, and tells the host", async () => {
	const h = plain();
	assert.equal(h.lu.writeback, true);
	const before = h.changes();
	const { status, residual } = await select(h, caching(false));
	assert.equal(status, 0);
	assert.equal(residual, 0);
	assert.equal(h.lu.writeback, false);
	assert(h.changes() > before);
	assert.deepEqual(
		h.disk.calls.map(({ op }) => op),
		["flush"],
	);
	assert.equal((await select(h, caching(true))).status, 0);
	assert.equal(h.disk.calls.length, 1);
});

test("MODE SELECT: nothing is changed if the flush fails", async () => {
	const h = plain({ nexuses: 2 });
	h.disk.fail({ op: "flush", errno: "EIO" });
	const { sense } = await select(h, control({ dSense: true }) + caching(false));
	assert.deepEqual(sense, fixedSense(0x3, 0x0c00));
	assert.equal(h.lu.writeback, true);
	assert.equal(h.lu.descriptorSense, false);
	assert.equal((await h.send(1, [0, 0, 0, 0, 0, 0])).status, 0);
});

test("MODE SELECT: D_SENSE changes the sense data, SWP refuses writes", async () => {
	const h = plain();
	await select(h, control({ dSense: true, swp: true }));
	assert.equal(h.lu.descriptorSense, true);
	const write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
	const { sense } = await h.send(0, write, { dataOut: Buffer.alloc(512) });
	assert.equal(sense?.toString("hex"), "7207270200000000");
	const { sense: bad } = await h.send(0, sense6(0x02), { room: 255 });
	assert.equal(bad?.toString("hex"), "72052400000000080206" + "0000cd000200");
	await select(h, control({}));
	const done = await h.send(0, write, { dataOut: Buffer.alloc(512) });
	assert.equal(done.status, 0);
});

test("MODE SELECT: other initiators meet MODE PARAMETERS CHANGED, if something did", async () => {
	const h = plain({ nexuses: 3 });
	const ready = [0, 0, 0, 0, 0, 0];
	await select(h, caching(true), 0x10, 1);
	assert.equal((await h.send(0, ready)).status, 0);
	await select(h, caching(false), 0x10, 1);
	assert.deepEqual((await h.send(0, ready)).sense, fixedSense(0x6, 0x2a01));
	assert.equal((await h.send(0, ready)).status, 0);
	assert.equal((await h.send(1, ready)).status, 0);
	assert.deepEqual((await h.send(2, ready)).sense, fixedSense(0x6, 0x2a01));
});

test("MODE SELECT(6): bad lists, which change nothing", async () => {
	const h = plain();
	const cases: [string, string, Buffer][] = [
		["a header too short", "000000", fixedSense(0x5, 0x1a00)],
		["a medium type", "00010000", badList(1)],
		["a reserved bit of the header", "00000100", badList(2, 0)],
		["an odd descriptor length", "00000004", badList(3)],
		["a descriptor cut off", "0000000800000000", fixedSense(0x5, 0x1a00)],
		["another number of blocks", "000000080000040100000200", badList(4)],
		["another block length", "000000080000040000001000", badList(10)],
		["a density code", "000000080000040001000200", badList(8)],
		[
			"a page that is not there",
			`00000000${"020e"}${"00".repeat(14)}`,
			badList(4, 5),
		],
		["all pages", `00000000${"3f00"}`, badList(4, 5)],
		["a subpage that is not there", `00000000${"48010000"}`, badList(5)],
		["a page in the wrong form", `00000000${"480000120400"}`, badList(5)],
		["a page length", `00000000${"0811"}${"00".repeat(17)}`, badList(5)],
		["a subpage length", `00000000${"4a01001b"}${"00".repeat(27)}`, badList(6)],
		[
			"a page cut off",
			`00000000${CACHING.slice(0, -2)}`,
			fixedSense(0x5, 0x1a00),
		],
		["a page header cut off", `00000000${"08"}`, fixedSense(0x5, 0x1a00)],
		[
			"a bit that is fixed",
			`00000000${"0812"}05${"00".repeat(17)}`,
			badList(6, 0),
		],
		[
			"a second page that is wrong",
			`00000000${caching(false)}${"0a0a0a10"}${"00".repeat(8)}`,
			badList(26, 3),
		],
	];
	for (const [name, hex, expected] of cases) {
		const dataOut = Buffer.from(hex, "hex");
		const { status, sense } = await h.send(0, select6(dataOut.length), {
			dataOut,
		});
		assert.equal(status, 2, name);
		assert.deepEqual(sense, expected, name);
		assert.equal(h.lu.writeback, true, name);
	}
});

test("MODE SELECT: bad CDBs", async () => {
	const { send } = plain();
	const dataOut = Buffer.from(`00000000${CACHING}`, "hex");
	const cases: [string, number[], Buffer][] = [
		["SP, with nowhere to save", select6(24, 0x11), badCdb(1, 0)],
		["no PF", select6(24, 0x00), badCdb(1, 4)],
		["RTD", select6(24, 0x12), badCdb(1, 1)],
		["a reserved byte", [0x15, 0x10, 0, 1, 24, 0], badCdb(3, 0)],
	];
	for (const [name, cdb, expected] of cases) {
		const { sense, residual } = await send(0, cdb, { dataOut });
		assert.deepEqual(sense, expected, name);
		assert.equal(residual, dataOut.length, name);
	}
	const overrun = await send(0, select6(25), { dataOut });
	assert.equal(overrun.overrun, true);
});

test("MODE SELECT: no list is no error", async () => {
	const { send } = plain();
	assert.equal((await send(0, select6(0))).status, 0);
	assert.equal((await send(0, select10(0, 0))).status, 0);
});

test("MODE SELECT: what MODE SENSE gave can be sent back", async () => {
	for (const store of [null, memoryStore()]) {
		const h = harness({ store });
		for (const cdb of [
			sense6(0x3f, 0, 0xff),
			sense10(0x3f, 0, 0xff),
			sense10(0x3f, LLBAA, 0xff),
		]) {
			const { data } = await h.send(0, cdb, { room: 4096 });
			const ten = cdb[0] === 0x5a;
			data.fill(0, 0, ten ? 2 : 1);
			const back = ten ? select10(data.length) : select6(data.length);
			const { status, sense } = await h.send(0, back, { dataOut: data });
			assert.equal(status, 0, sense?.toString("hex"));
		}
	}
});

test("MODE SELECT(10): bad headers, and descriptors of both lengths", async () => {
	const { send } = plain();
	const cases: [string, string, Buffer | undefined][] = [
		["a header too short", "00000000000000", fixedSense(0x5, 0x1a00)],
		["a medium type", "0000010000000000", badList(2)],
		["a reserved bit", "0000000002000000", badList(4, 1)],
		[
			"a long descriptor in the short form",
			`0000000000000010${"00".repeat(16)}`,
			badList(6),
		],
		[
			"another block length, long",
			`0000000001000010${"0000000000000400"}${"00000000"}${"00000400"}`,
			badList(22),
		],
		[
			"all ones: as large as it is",
			`0000000000000008${"ffffffff"}${"00000200"}`,
			undefined,
		],
		[
			"zero: as large as it is",
			`0000000000000008${"00000000"}${"00000200"}`,
			undefined,
		],
	];
	for (const [name, hex, expected] of cases) {
		const dataOut = Buffer.from(hex, "hex");
		const { sense } = await send(0, select10(dataOut.length), { dataOut });
		assert.deepEqual(sense, expected, name);
	}
});

test("saved values survive a restart; others do not survive a reset", async () => {
	const store = memoryStore();
	const h = harness({ store });
	assert.equal((await select(h, caching(false), 0x11)).status, 0);
	assert.equal((await select(h, control({ swp: true }))).status, 0);
	// PS is set in the pages that can be changed; WP is of the current SWP.
	assert.equal(
		await hexOf(h, sense6(SAVED | 0x3f)),
		`63009000${pages.recovery}88${caching(false).slice(2)}8a${CONTROL.slice(2)}${pages.power}${pages.exceptions}`,
	);
	h.lu.reset();
	assert.equal(h.lu.writeback, false);
	assert.equal(h.lu.modes.softwareWriteProtect, false);
	const again = harness({ store });
	assert.equal(again.lu.writeback, false);
	// Back to the defaults: nothing is kept.
	assert.equal((await select(again, caching(true), 0x11)).status, 0);
	assert.equal(store.documents.size, 0);
});

test("saved values are of one disk, and under a UUID", async () => {
	const store = memoryStore();
	const h = harness({ store });
	await select(h, caching(false), 0x11);
	const [key = ""] = store.documents.keys();
	assert.match(
		key,
		/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/,
	);
	assert.notEqual(key, h.disk.identity.uuid);
	const uuid = "6a3c2f5e-9d1b-4c57-8f10-2b4d6e8fa0c2";
	const other = harness({ store, disk: { identity: { uuid } } });
	assert.equal(other.lu.writeback, true);
});

test("a store with nonsense in it gives the defaults", () => {
	const documents: unknown[] = [
		7,
		null,
		[],
		{ "8/0": 1, "10/0": "zz" },
		{ "8/0": "ffff", "10/0": "ffffff" },
	];
	for (const document of documents) {
		const store: Store = { load: () => document, save() {} };
		const { lu } = harness({ store });
		assert.equal(lu.modes.softwareWriteProtect, false);
	}
	const store: Store = {
		load() {
			throw new Error("no such folder");
		},
		save() {},
	};
	const { lu, logged } = harness({ store });
	assert.equal(lu.writeback, true);
	assert(logged.some((line) => line.includes("no such folder")));
});

test("a store that cannot save: HARDWARE ERROR, and nothing is changed", async () => {
	const store: Store = {
		load: () => undefined,
		save() {
			throw new Error("disk full");
		},
	};
	const h = harness({ store });
	const { sense } = await select(h, control({ dSense: true }), 0x11);
	assert.deepEqual(sense, fixedSense(0x4, 0x4400));
	assert.equal(h.lu.descriptorSense, false);
	assert(h.logged.some((line) => line.includes("disk full")));
});
