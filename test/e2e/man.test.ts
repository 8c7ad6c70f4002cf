// SPDX-License-Identifier: MIT
// The manual pages and --help say the same.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { answer } from "../support/cli.ts";
import { projectPath } from "../support/instance.ts";

const PAGES = readdirSync(projectPath("man")).filter((name) =>
	name.endsWith(".1"),
);

const told = new Map<string, Promise<string>>();

/** What a command's --help says; each is run once. */
function helpOf(...words: string[]): Promise<string> {
	const key = words.join(" ");
	const help = told.get(key) ?? answer(...words, "--help");
	told.set(key, help);
	return help;
}

/** Every page that there is a command for, with the words of its commands. */
async function commands(): Promise<[page: string, ...words: string[]][]> {
	const top = listed(await helpOf());
	const found: [string, ...string[]][] = [["vhostctl.1"]];
	for (const group of top) {
		const page = `vhostctl-${group}.1`;
		const subcommands = listed(await helpOf(group));
		if (subcommands.length === 0) found.push([page, group]);
		for (const name of subcommands) found.push([page, group, name]);
	}
	return found;
}

/** The names under "Commands:". */
function listed(help: string): string[] {
	const [, body = ""] = /\nCommands:\n((?: {2}.*\n)+)/.exec(help) ?? [];
	return [...body.matchAll(/^ {2}([\w-]+)/gm)].map(([, name]) => name ?? "");
}

/** Options under "Options:": `-r, --rpc-socket`. */
function helped(help: string): string[] {
	const [, body = ""] = /\nOptions:\n((?: {2}.*\n?)+)/.exec(help) ?? [];
	const rows = [...body.matchAll(/^ {2}(-.*?)(?: <[^>]*>)?(?: {2,}|$)/gm)];
	return rows.map(([, names]) => names ?? "").sort();
}

/** Options that a page, or its part about one command, lists. */
function documented(page: string, words: string[]): string[] {
	const text = readFileSync(projectPath("man", page), "utf8");
	const parts = text.split(/^\.Ss /m);
	const part =
		parts.find((one) => one.startsWith(`${words.join(" ")}\n`)) ?? text;
	return [...part.matchAll(/^\.It (Fl .*)$/gm)]
		.map(([, item]) =>
			(item ?? "")
				.replace(/ Ar .*$/, "")
				.replaceAll("Fl ", "-")
				.replaceAll(" ,", ","),
		)
		.sort();
}

test("every option of --help is in the page, and every option of the page in --help", async () => {
	const all = await commands();
	assert.equal(all.length, 28);
	for (const [page, ...words] of all) {
		const help = helped(await helpOf(...words));
		// vhostctl(1) says once for all that every command has --help.
		const own = help.filter(
			(option) => words.length === 0 || option !== "-h, --help",
		);
		assert(own.length > 0, `${words.join(" ")} has options`);
		assert.deepEqual(
			documented(page, words),
			own,
			`${page}: ${words.join(" ")}`,
		);
	}
});

test("every help has a usage and an example", async () => {
	for (const [, ...words] of await commands()) {
		const help = await helpOf(...words);
		assert.match(help, /\nUsage:\n {2}\$ vhostctl/);
		assert.match(help, /\nExamples:\n {2}\$ vhostctl/);
	}
});

test("there is a page for every command, and a command for every page", async () => {
	const pages = new Set((await commands()).map(([page]) => page));
	assert.deepEqual([...pages].sort(), [...PAGES].sort());
});

test("package.json installs every page", () => {
	const { man } = JSON.parse(readFileSync(projectPath("package.json"), "utf8"));
	assert.deepEqual(man.sort(), PAGES.map((page) => `man/${page}`).sort());
});

test("every argument in --help's usage is in the page's synopsis", async () => {
	for (const [page, ...words] of await commands()) {
		const help = await helpOf(...words);
		const usage = /\n {2}\$ vhostctl(.*)\n/.exec(help)?.[1] ?? "";
		const text = readFileSync(projectPath("man", page), "utf8");
		const synopsis = text.slice(
			text.indexOf(".Sh SYNOPSIS"),
			text.indexOf(".Sh DESC"),
		);
		const names = [...usage.matchAll(/[<[]([a-z]+)[>\]]/g)].map(([, n]) => n);
		for (const name of names.filter((one) => one !== "options"))
			assert.match(synopsis, new RegExp(`Ar ${name}\\b`), `${page}: ${name}`);
	}
});

test("the exit statuses of the page are those of the errors", async () => {
	const { ERRORS } = await import("../../src/engine/errors.ts");
	const text = readFileSync(projectPath("man/vhostctl.1"), "utf8");
	const part = text.slice(text.indexOf(".Sh EXIT STATUS"));
	const listed = [...part.matchAll(/^\.It (\d+)$/gm)].map(([, n]) => Number(n));
	const codes = new Set([0, ...Object.values(ERRORS).map(({ exit }) => exit)]);
	assert.deepEqual(
		listed,
		[...codes].sort((a, b) => a - b),
	);
});

test("mandoc finds no fault with the pages", () => {
	for (const page of PAGES) {
		const args = ["-Tlint", "-W", "warning", projectPath("man", page)];
		const { status, stdout } = spawnSync("mandoc", args, { encoding: "utf8" });
		assert.deepEqual({ status, stdout }, { status: 0, stdout: "" });
	}
});
