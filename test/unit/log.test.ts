// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "../../src/engine/log.ts";

test("lines have a time, a level and a text, from the asked level up", () => {
	const lines: string[] = [];
	const log = createLogger("warning", (line) => lines.push(line));
	log.error("one");
	log.warning("two");
	log.info("three");
	log.debug("four");
	assert.equal(lines.length, 2);
	assert.match(lines[0] ?? "", /^\d{4}-\d\d-\d\dT[\d:.]+Z error {3}one\n$/);
	assert.match(lines[1] ?? "", / warning two\n$/);
});

test("control characters do not get through", () => {
	const lines: string[] = [];
	createLogger("info", (line) => lines.push(line)).info("a\nb\u001b[2Jc");
	assert.match(lines.join(""), /a\\nb\\u001b\[2Jc\n$/);
});
