// SPDX-License-Identifier: MIT
// SYNCHRONIZE CACHE and PRE-FETCH.
import assert from "node:assert/strict";
import type { Harness } from "../support/scsi.ts";
import {
	badCdb,
	badLba,
	type Case,
	fixedSense,
	type RangeFields,
	rangeCdb,
	testCases,
} from "../support/scsi-cases.ts";

const BLOCKS = 64;
const DISK = { blocks: BLOCKS, maxBlocks: 4 };

function untouched(h: Harness): void {
	assert.deepEqual(h.disk.calls, []);
}

function cacheCases(
	size: 10 | 16,
	synchronize: number,
	prefetch: number,
): Case[] {
	const sync = (fields: RangeFields) => rangeCdb(synchronize, size, fields);
	const fetch = (fields: RangeFields) => rangeCdb(prefetch, size, fields);
	const flushed = (h: Harness) =>
		assert.deepEqual(h.disk.calls, [{ op: "flush" }]);
	const cases: Case[] = [
		{
			name: `SYNCHRONIZE CACHE (${size}) empties the cache`,
			cdb: sync({ lba: 3, blocks: 4 }),
			after: flushed,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) to the end`,
			cdb: sync({ lba: BLOCKS - 1 }),
			after: flushed,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) with IMMED and a group number`,
			cdb: sync({ flags: 0x02, group: 0x1f }),
			after: flushed,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) with IMMED does not wait`,
			before: (h) => {
				h.disk.hold();
			},
			cdb: sync({ flags: 0x02 }),
			after: flushed,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) with IMMED that fails later`,
			before: (h) => h.disk.fail({ op: "flush", errno: "EIO" }),
			cdb: sync({ flags: 0x02 }),
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) across the end`,
			cdb: sync({ lba: BLOCKS - 1, blocks: 2 }),
			sense: badLba(BLOCKS),
			after: untouched,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) beyond the end`,
			cdb: sync({ lba: BLOCKS + 5 }),
			sense: badLba(BLOCKS + 5),
			after: untouched,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) that fails`,
			before: (h) => h.disk.fail({ op: "flush", errno: "EIO" }),
			cdb: sync({}),
			sense: fixedSense(3, 0x0c00),
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) where there is no cache`,
			disk: { ...DISK, supports: { flush: false } },
			cdb: sync({}),
			after: untouched,
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) of a disk that is read-only`,
			disk: { ...DISK, readonly: true },
			cdb: sync({}),
		},
		{
			name: `SYNCHRONIZE CACHE (${size}) with a reserved bit`,
			cdb: sync({ flags: 0x01 }),
			sense: badCdb(1, 0),
		},
		{
			name: `PRE-FETCH (${size}) reads`,
			cdb: fetch({ lba: 3, blocks: 5, group: 3 }),
			after: (h) =>
				assert.deepEqual(h.disk.calls, [
					{ op: "read", lba: 3, blocks: 4 },
					{ op: "read", lba: 7, blocks: 1 },
				]),
		},
		{
			name: `PRE-FETCH (${size}) to the end`,
			cdb: fetch({ lba: BLOCKS - 3 }),
			after: (h) =>
				assert.deepEqual(h.disk.calls, [
					{ op: "read", lba: BLOCKS - 3, blocks: 3 },
				]),
		},
		{
			name: `PRE-FETCH (${size}) of a lot reads no more than one transfer`,
			disk: { blocks: 20000 },
			cdb: fetch({}),
			after: (h) =>
				assert.equal(
					h.disk.calls.reduce((sum, { blocks = 0 }) => sum + blocks, 0),
					8192,
				),
		},
		{
			name: `PRE-FETCH (${size}) with IMMED does not wait`,
			before: (h) => {
				h.disk.hold();
			},
			cdb: fetch({ flags: 0x02 }),
		},
		{
			name: `PRE-FETCH (${size}) across the end`,
			cdb: fetch({ lba: 1, blocks: BLOCKS }),
			sense: badLba(BLOCKS),
			after: untouched,
		},
		{
			name: `PRE-FETCH (${size}) of what cannot be read`,
			before: (h) => h.disk.fail({ op: "read", errno: "EIO", lba: 1 }),
			cdb: fetch({ lba: 0, blocks: 2 }),
			sense: fixedSense(3, 0x1100),
		},
		{
			name: `PRE-FETCH (${size}) with a reserved bit`,
			cdb: fetch({ flags: 0x10 }),
			sense: badCdb(1, 4),
		},
	];
	return cases.map((one) => ({ disk: DISK, ...one }));
}

testCases([...cacheCases(10, 0x35, 0x34), ...cacheCases(16, 0x91, 0x90)]);
