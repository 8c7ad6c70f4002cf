// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { test } from "node:test";
import {
	codeFromRpc,
	ERRORS,
	type ErrorCode,
	fromErrno,
	VhostctlError,
} from "../../src/engine/errors.ts";

const codes = Object.keys(ERRORS) as ErrorCode[];

test("each kind of failure has its own number, but for misuse of the command line", () => {
	const numbers = codes
		.filter((code) => code !== "E_USAGE")
		.map((code) => ERRORS[code].rpc);
	assert.equal(new Set(numbers).size, numbers.length);
	for (const code of codes) {
		const { exit, rpc, errno } = ERRORS[code];
		assert(exit > 0 && exit < 126, code);
		assert(rpc < 0, code);
		assert(errno in constants.errno, code);
	}
});

test("numbers that name an errno are that errno, negated", () => {
	const table: Record<string, number> = { ...constants.errno };
	for (const code of codes) {
		const { rpc, errno } = ERRORS[code];
		if (rpc > -32000) assert.equal(rpc, -(table[errno] ?? 0), code);
	}
});

test("a client gets back the code that the server sent", () => {
	for (const code of codes) {
		const expected = code === "E_USAGE" ? "E_INVALID" : code;
		assert.equal(codeFromRpc(ERRORS[code].rpc), expected);
	}
	assert.equal(codeFromRpc(-4242), "E_IO");
});

test("what the system throws becomes one of ours, with context and cause", () => {
	let cause: unknown;
	try {
		readFileSync("/nonexistent/file");
	} catch (error) {
		cause = error;
	}
	const error = fromErrno(cause, "bdev F0");
	assert.equal(error.code, "E_NOT_FOUND");
	assert.match(error.message, /^bdev F0: .*ENOENT/);
	assert.equal(error.cause, cause);
	assert.deepEqual(error.details, { errno: "ENOENT" });
});

test("errno names sort into the codes", () => {
	const withCode = (code: string) =>
		fromErrno(Object.assign(new Error("x"), { code }), "c").code;
	const expected: [string, ErrorCode][] = [
		["EINVAL", "E_INVALID"],
		["EEXIST", "E_EXISTS"],
		["EADDRINUSE", "E_BUSY"],
		["EMFILE", "E_NO_MEMORY"],
		["EACCES", "E_PERMISSION"],
		["ENOSYS", "E_UNSUPPORTED"],
		["EPIPE", "E_CONNECT"],
		["EPROTO", "E_PROTOCOL"],
		["EILSEQ", "E_IO"],
		["ERR_INVALID_ARG_TYPE", "E_INTERNAL"],
	];
	for (const [errno, code] of expected) assert.equal(withCode(errno), code);
	assert.equal(fromErrno("text", "c").code, "E_INTERNAL");
});

test("our own errors pass through unchanged", () => {
	const error = new VhostctlError("E_BUSY", "claimed", {
		details: { by: "b" },
	});
	assert.equal(fromErrno(error, "elsewhere"), error);
	assert.deepEqual(
		[error.name, error.code, error.message, error.details],
		["VhostctlError", "E_BUSY", "claimed", { by: "b" }],
	);
});
