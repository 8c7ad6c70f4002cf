// SPDX-License-Identifier: MIT
// Our numbers are those of the system's own header.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { OPERATIONS } from "../../src/engine/scsi/opcodes.ts";
import { SENSE_KEY, STATUS } from "../../src/engine/scsi/sense.ts";

const header = new Map(
	[
		...readFileSync("/usr/include/scsi/scsi.h", "utf8").matchAll(
			/^#define\s+(\w+)\s+(0x[0-9a-f]+)/gim,
		),
	].map(([, name = "", value]) => [name, Number(value)]),
);

/** Names of the header by ours, where they are not made alike. */
const OTHER_NAMES: Record<string, string> = {
	MODE_SELECT_6: "MODE_SELECT",
	MODE_SENSE_6: "MODE_SENSE",
	RESERVE_6: "RESERVE",
	RELEASE_6: "RELEASE",
	START_STOP_UNIT: "START_STOP",
	RECEIVE_DIAGNOSTIC_RESULTS: "RECEIVE_DIAGNOSTIC",
	PREVENT_ALLOW_MEDIUM_REMOVAL: "ALLOW_MEDIUM_REMOVAL",
	READ_CAPACITY_10: "READ_CAPACITY",
	WRITE_AND_VERIFY_10: "WRITE_VERIFY",
	WRITE_AND_VERIFY_12: "WRITE_VERIFY_12",
	VERIFY_10: "VERIFY",
	PRE_FETCH_10: "PRE_FETCH",
	SYNCHRONIZE_CACHE_10: "SYNCHRONIZE_CACHE",
	WRITE_SAME_10: "WRITE_SAME",
};

test("operation codes", () => {
	const compared = OPERATIONS.map(({ name, opcode }) => {
		const ours = name
			.replace(/:.*/, "")
			.replaceAll(/[ -]/g, "_")
			.replaceAll(/[()]/g, "");
		const theirs = header.get(OTHER_NAMES[ours] ?? ours);
		if (theirs !== undefined) assert.equal(opcode, theirs, name);
		return theirs;
	});
	assert(compared.filter((code) => code !== undefined).length >= 40);
});

test("sense keys", () => {
	for (const [name, key] of Object.entries(SENSE_KEY))
		assert.equal(key, header.get(name), name);
});

test("status codes, which the header has without their lowest bit", () => {
	const names = {
		GOOD: "GOOD",
		CHECK_CONDITION: "CHECK_CONDITION",
		CONDITION_MET: "CONDITION_GOOD",
		BUSY: "BUSY",
		RESERVATION_CONFLICT: "RESERVATION_CONFLICT",
		TASK_SET_FULL: "QUEUE_FULL",
	} as const;
	for (const [ours, theirs] of Object.entries(names))
		assert.equal(
			STATUS[ours as keyof typeof names] >> 1,
			header.get(theirs),
			ours,
		);
});
