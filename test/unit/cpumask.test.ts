// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import {
	allowedCpus,
	formatCpumask,
	parseCpumask,
} from "../../src/engine/cpumask.ts";
import { VhostctlError } from "../../src/engine/errors.ts";

const GOOD: [string, number[]][] = [
	["0x1", [0]],
	["5", [0, 2]],
	["0xF0", [4, 5, 6, 7]],
	["[0]", [0]],
	["[0,2-3]", [0, 2, 3]],
	["[3, 1]", [1, 3]],
	["[1,1]", [1]],
	["0x10000000000000000", [64]],
];

for (const [text, cpus] of GOOD) {
	test(`mask ${text}`, () => assert.deepEqual(parseCpumask(text), cpus));
}

const BAD = [
	"",
	"0",
	"0x",
	"0xg",
	"[]",
	"[2-1]",
	"[1-]",
	"[-1]",
	"[4096]",
	"1,2",
	`0x${"f".repeat(2000)}`,
];

for (const text of BAD) {
	test(`mask '${text.slice(0, 20)}' is refused`, () => {
		assert.throws(
			() => parseCpumask(text),
			(error) => error instanceof VhostctlError && error.code === "E_INVALID",
		);
	});
}

test("a mask reads back as it was written", () => {
	for (const cpus of [[0], [1, 3], [0, 63, 64, 127]]) {
		assert.deepEqual(parseCpumask(formatCpumask(cpus)), cpus);
	}
});

test("this process may run somewhere", () => {
	assert(allowedCpus().length > 0);
});
