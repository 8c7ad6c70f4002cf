// SPDX-License-Identifier: MIT
// docs/spdk.md says of each method of SPDK's whether it is here: this holds it to the schema.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Method } from "../../src/engine/control/schema/types.ts";
import { METHODS } from "../../src/engine/control/schema.ts";
import { projectPath } from "../support/instance.ts";

const TABLE: Readonly<Record<string, Method>> = METHODS;
const page = readFileSync(projectPath("docs", "spdk.md"), "utf8");

/** What the page says of the methods that it has as here. */
const claims = new Map(
	[...page.matchAll(/^\| (`\w+`(?:, `\w+`)*) \| (yes|no effect) \|/gm)].flatMap(
		([, names = "", here = ""]) =>
			names.split(", ").map((name) => [name.slice(1, -1), here] as const),
	),
);

/** Names, and beginnings of names with a star after them, that it has as not here. */
const absent = [
	...(page.split("\n## Not here\n")[1] ?? "").matchAll(/^\| (`.*?) \|/gm),
]
	.flatMap(([, names = ""]) => [...names.matchAll(/`([a-z_]+\*?)`/g)])
	.map(([, name = ""]) => name);

test("the page has every method that SPDK has too, with its effect", () => {
	for (const [name, { own, effect }] of Object.entries(TABLE)) {
		const here = effect === "ignored" ? "no effect" : "yes";
		assert.equal(claims.get(name), own ? undefined : here, name);
	}
});

test("what the page says is here is here", () => {
	assert(claims.size > 40, `${claims.size} methods`);
	const missing = [...claims.keys()].filter(
		(name) => !Object.hasOwn(TABLE, name),
	);
	assert.deepEqual(missing, []);
});

test("what the page says is not here is not", () => {
	assert(absent.length > 30, absent.join(" "));
	for (const name of Object.keys(TABLE)) {
		if (TABLE[name]?.effect === "ignored") continue; // options of what is not here
		const listed = absent.find((entry) =>
			entry.endsWith("*")
				? name.startsWith(entry.slice(0, -1))
				: entry === name,
		);
		assert.equal(listed, undefined, name);
	}
});
