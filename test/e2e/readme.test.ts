// SPDX-License-Identifier: MIT
// The README's quick tour, typed into a shell as a reader would.
import assert from "node:assert/strict";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { projectPath, vhostctl } from "../support/instance.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	waitUntil,
} from "../support/processes.ts";

const PATIENCE_MS = 60_000;

/** The blocks of shell that the README marks to be run. */
function blocks(): string[] {
	const text = readFileSync(projectPath("README.md"), "utf8");
	const marked = text.matchAll(/<!-- run -->\n```sh\n([\s\S]*?)```/g);
	return [...marked].map(([, block]) => block ?? "");
}

/** Puts a `vhostctl` that runs this tree's into `dir`. */
function install(dir: string): void {
	const [command, args] = vhostctl();
	const words = [command, ...args].map((word) => `'${word}'`).join(" ");
	const path = join(dir, "vhostctl");
	writeFileSync(path, `#!/bin/sh\nexec ${words} "$@"\n`);
	chmodSync(path, 0o755);
}

test("the quick tour works as it is printed", async () => {
	const found = blocks();
	assert.equal(found.length, 8);
	const bin = makeTempDir();
	const dir = makeTempDir();
	install(bin);
	const shell = startProcess("bash", ["-e"], {
		cwd: dir,
		env: { PATH: `${bin}${delimiter}${process.env.PATH}` },
		interactive: true,
	});
	let output = "";
	shell.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
		output += text;
	});
	const told = (text: string) =>
		waitUntil(
			() => {
				assert(shell.alive() || output.includes(text), shell.stderr());
				return output.includes(text);
			},
			PATIENCE_MS,
			() => `${text}\n${output}\n${shell.stderr()}`,
		);
	try {
		for (const [i, block] of found.entries()) {
			shell.child.stdin?.write(`${block}\necho "block ${i} is done"\n`);
			await told(`block ${i} is done`);
			if (block.includes("&\n")) await told("ready: ");
		}
		shell.child.stdin?.end("wait\n");
		assert.equal(await shell.exited, 0, shell.stderr());
		for (const part of [
			"disk0",
			"vm0",
			"verified: 2048 blocks, 0 bad",
			"vm1",
			"EE_slow0",
			"vm2, target 5, LUN 0",
			"verified: 512 blocks, 0 bad",
		])
			assert(output.includes(part), `${part} in\n${output}`);
		assert.match(output, /"num_blocks": ?4194304/);
		assert.deepEqual(readdirSync(dir), ["disk1.img"]);
	} finally {
		await shell.kill();
		removeTempDir(dir);
		removeTempDir(bin);
	}
});
