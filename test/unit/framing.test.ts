// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { createFramer } from "../../src/engine/control/framing.ts";

const LIMITS = { maxBytes: 1000, maxDepth: 4 };

/** The values in chunks of bytes. */
function frame(...chunks: (string | Uint8Array)[]): unknown[] {
	const values: unknown[] = [];
	const framer = createFramer(LIMITS, (value) => values.push(value));
	for (const chunk of chunks) framer.write(Buffer.from(chunk));
	return values;
}

test("objects back to back, with and without space", () => {
	assert.deepEqual(frame('{"a":1}{"b":[2]}\n\t {"c":{}}[]'), [
		{ a: 1 },
		{ b: [2] },
		{ c: {} },
		[],
	]);
});

test("a value comes out with its last byte, not before", () => {
	const values: unknown[] = [];
	const framer = createFramer(LIMITS, (value) => values.push(value));
	framer.write(Buffer.from('{"a":[1,{"b":"}"}]'));
	assert.deepEqual(values, []);
	assert.equal(framer.idle, false);
	framer.write(Buffer.from("}"));
	assert.deepEqual(values, [{ a: [1, { b: "}" }] }]);
	assert.equal(framer.idle, true);
});

test("any values in any cuts come out as they went in", () => {
	const value = fc.oneof(
		fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ maxDepth: 1 })),
		fc.array(fc.jsonValue({ maxDepth: 1 })),
	);
	fc.assert(
		fc.property(fc.array(value), fc.integer({ min: 1, max: 7 }), (all, cut) => {
			const bytes = Buffer.from(all.map((v) => JSON.stringify(v)).join(""));
			const values: unknown[] = [];
			const framer = createFramer({ maxBytes: 1e6, maxDepth: 10 }, (v) =>
				values.push(v),
			);
			for (let i = 0; i < bytes.length; i += cut) {
				framer.write(bytes.subarray(i, i + cut));
			}
			assert.equal(JSON.stringify(values), JSON.stringify(all));
		}),
		{ numRuns: 200 },
	);
});

for (const broken of [
	"}",
	"]",
	"{]",
	"{,}",
	'{"a"}',
	'{"a":}',
	'{"a":1,}',
	"{'a':1}",
	"[1,]",
	"nul1",
	"hello",
	'{"a":01}',
	'{"a":"\n"}',
	"\u0000",
]) {
	test(`${JSON.stringify(broken)} is broken`, () => {
		assert.throws(() => frame(broken));
	});
}

test("bytes that are no UTF-8 do no harm", () => {
	try {
		const [value] = frame(
			Uint8Array.of(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d),
		);
		assert.equal(typeof value, "object");
	} catch (error) {
		assert(error instanceof Error);
	}
});

test("depth is limited, for objects and arrays alike", () => {
	assert.deepEqual(frame("[[[[]]]]"), [[[[[]]]]]);
	assert.throws(() => frame("[[[[["), /deeper than 4/);
	assert.throws(() => frame('{"a":'.repeat(5)), /deeper than 4/);
	assert.doesNotThrow(() => frame("[[[]]]".repeat(100)));
});

test("a value's bytes are limited, not those of many", () => {
	const small = `{"a":"${"x".repeat(900)}"}`;
	assert.equal(frame(small, small, small).length, 3);
	assert.equal(frame(small + small + small).length, 3);
	assert.throws(() => frame(`{"a":"${"x".repeat(1000)}`), /longer than 1000/);
	assert.throws(() => frame(" ".repeat(1001)), /longer than 1000/);
});

test("__proto__ is a member like others", () => {
	const [value] = frame('{"__proto__":{"polluted":1}}');
	assert.equal(Object.getPrototypeOf(value), Object.prototype);
	assert.deepEqual(Object.entries(Object(value)), [
		["__proto__", { polluted: 1 }],
	]);
	assert.equal("polluted" in {}, false);
});

test("U+FEFF is a character like others, wherever the bytes are cut", () => {
	const bytes = Buffer.from('{"\ufeff":"\ufeffa\ufeff"}["\ufeff"]');
	for (let cut = 1; cut <= bytes.length; cut++) {
		const chunks = [];
		for (let i = 0; i < bytes.length; i += cut)
			chunks.push(bytes.subarray(i, i + cut));
		assert.deepEqual(frame(...chunks), [
			{ "\ufeff": "\ufeffa\ufeff" },
			["\ufeff"],
		]);
	}
});
