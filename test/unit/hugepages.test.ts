// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { hugepagePools } from "../../src/engine/hugepages.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

let sys: string;
beforeEach(() => {
	sys = makeTempDir();
});
afterEach(() => removeTempDir(sys));

function pool(folder: string, kib: number, total: number, free: number): void {
	const path = join(sys, folder, `hugepages-${kib}kB`);
	mkdirSync(path, { recursive: true });
	writeFileSync(join(path, "nr_hugepages"), `${total}\n`);
	writeFileSync(join(path, "free_hugepages"), `${free}\n`);
}

test("pools are listed by node and size", () => {
	pool("devices/system/node/node1/hugepages", 2048, 8, 3);
	pool("devices/system/node/node0/hugepages", 1048576, 2, 2);
	pool("devices/system/node/node0/hugepages", 2048, 4, 0);
	mkdirSync(join(sys, "devices/system/node/power"));
	pool("kernel/mm/hugepages", 2048, 12, 3);
	assert.deepEqual(hugepagePools(sys), [
		{ node: 0, pageSize: 2 ** 21, total: 4, free: 0 },
		{ node: 0, pageSize: 2 ** 30, total: 2, free: 2 },
		{ node: 1, pageSize: 2 ** 21, total: 8, free: 3 },
	]);
});

test("without NUMA nodes the system's pools are taken", () => {
	pool("kernel/mm/hugepages", 2048, 12, 3);
	assert.deepEqual(hugepagePools(sys), [
		{ node: -1, pageSize: 2 ** 21, total: 12, free: 3 },
	]);
});

test("a kernel without hugepages has no pools", () => {
	assert.deepEqual(hugepagePools(sys), []);
});
