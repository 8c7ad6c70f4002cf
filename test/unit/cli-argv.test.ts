// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import {
	type Command,
	type Given,
	type Group,
	runGroup,
} from "../../src/cli/command.ts";
import { UsageError } from "../../src/cli/errors.ts";

const OPTIONS = [
	{ usage: "--size <size>", help: "" },
	{ usage: "-r, --rpc-socket <path>", help: "" },
	{ usage: "--in-process", help: "" },
	{ usage: "--json", help: "" },
	{ usage: "--bdev <spec>", help: "", repeats: true },
];

function group(usages: string[], run: (given: Given) => void): Group {
	const command = (usage: string): Command => ({
		usage,
		summary: "",
		options: OPTIONS,
		example: "",
		run: async (given) => run(given),
	});
	return { name: "thing", summary: "", commands: usages.map(command) };
}

/** What a command of the group `thing` is given for these words. */
async function givenFor(...words: string[]): Promise<Given> {
	let found: Given | undefined;
	const things = group(["make <name> [more]", "list"], (given) => {
		found = given;
	});
	await runGroup(things, words);
	assert(found, "the command ran");
	return found;
}

test("words that look like numbers stay as they were typed", async () => {
	for (const word of [
		"0123",
		"1e3",
		"0x10",
		"1.0",
		"007",
		"Infinity",
		"5",
		"",
	]) {
		const given = await givenFor(
			"make",
			word,
			"--size",
			word,
			`--bdev=${word}`,
		);
		assert.deepEqual(given.args, [word]);
		assert.equal(given.text("size"), word);
		assert.deepEqual(given.list("bdev"), [word]);
	}
});

test("a flag does not take the word after it", async () => {
	const given = await givenFor("make", "--in-process", "vm0", "--json", "x");
	assert.deepEqual(given.args, ["vm0", "x"]);
	assert(given.flag("in-process"));
	assert(given.flag("json"));
	assert(!(await givenFor("make", "vm0")).flag("json"));
});

test("an option's value may be empty, start with a dash, or be attached", async () => {
	assert.equal((await givenFor("make", "a", "--size=")).text("size"), "");
	assert.equal(
		(await givenFor("make", "a", "--size", "-1")).text("size"),
		"-1",
	);
	assert.equal((await givenFor("make", "a", "-r/x")).text("rpc-socket"), "/x");
	assert.equal((await givenFor("make", "a", "-r=/x")).text("rpc-socket"), "/x");
	assert.equal((await givenFor("make", "a", "--size=a=b")).text("size"), "a=b");
});

test("options may stand before the sub-command, and -- ends them", async () => {
	const given = await givenFor("--size", "1", "make", "--", "--size", "-");
	assert.deepEqual(given.args, ["--size", "-"]);
	assert.equal(given.text("size"), "1");
});

test("an option may be repeated only where that has a meaning", async () => {
	const given = await givenFor("make", "a", "--bdev", "x", "--bdev", "y");
	assert.deepEqual(given.list("bdev"), ["x", "y"]);
	await refused(/--size is given twice/, "make", "a", "--size=1", "--size=2");
});

async function refused(message: RegExp, ...words: string[]): Promise<void> {
	await assert.rejects(givenFor(...words), (error) => {
		assert(error instanceof UsageError, String(error));
		assert.match(error.message, message);
		return true;
	});
}

test("what is not known is refused by name", async () => {
	await refused(/^unknown option --sise$/, "make", "a", "--sise", "1");
	await refused(/^unknown option -x$/, "make", "a", "-x");
	await refused(/^unknown option --no-json$/, "make", "a", "--no-json");
	await refused(/^unknown option --r$/, "make", "a", "--r", "x");
	await refused(/^unknown option -size$|^unknown option -s$/, "make", "-size");
	await refused(/^unknown command thing mak$/, "mak");
	await refused(/needs a command: make, list/);
	await refused(/^--size needs a value$/, "make", "a", "--size");
	await refused(/^--json takes no value$/, "make", "a", "--json=yes");
	await refused(
		/^missing arguments; usage: vhostctl thing make <name>/,
		"make",
	);
	await refused(/^too many arguments: `c`/, "make", "a", "b", "c");
});

test("a required option that is missing is named with its command", async () => {
	const given = await givenFor("make", "a");
	assert.throws(() => given.required("bdev"), /thing make needs --bdev/);
});

test("a group of one command takes its arguments at once", async () => {
	let args: readonly string[] = [];
	const single = group(["<method> [params]"], (given) => {
		args = given.args;
	});
	await runGroup(single, ["list", "{}"]);
	assert.deepEqual(args, ["list", "{}"]);
});
