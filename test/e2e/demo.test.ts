// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { projectPath } from "../support/instance.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	within,
} from "../support/processes.ts";

const LIMIT_MS = 60_000;

test("the demonstration works, in under a minute, and leaves nothing behind", async () => {
	const sources = import.meta.url.endsWith(".ts");
	const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
	const program = projectPath(sources ? "demo/demo.ts" : "dist/demo/demo.js");
	const dir = makeTempDir();
	const demo = startProcess(process.execPath, [...flags, program], {
		env: { TMPDIR: dir },
	});
	try {
		const code = await within(demo.exited, LIMIT_MS, () => demo.stdout());
		assert.equal(code, 0, `${demo.stdout()}${demo.stderr()}`);
		const text = demo.stdout();
		assert.match(text, /512 MiB written and read back: 131072 blocks/);
		assert.match(text, /\nread +\d+ .*\/s/);
		assert.match(text, /\nControllers\n(.*\n)vm0 .* running /);
		assert.match(text, /-chardev socket,id=disk0,path=\S+\/vm0/);
		assert.deepEqual(readdirSync(dir), []);
	} finally {
		await demo.kill();
		removeTempDir(dir);
	}
});
