// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { sendSignal } from "../support/cli.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import {
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";

const PATIENCE_MS = 20_000;
const ENTER = "\x1b[?1049h";
const LEAVE = "\x1b[?1049l";

let instance: Instance;
before(async () => {
	instance = await startInstance([
		...["--bdev", "malloc:name=disk0,size=16M", "--blk", "vm0=disk0"],
	]);
});
after(() => instance.stop());

function watch(of: Instance, ...more: string[]): [string, string[]] {
	return vhostctl("stats", "--watch", "-r", of.rpcSocket, ...more);
}

/** Drives vm0 until killed. */
function load(): Process {
	const drive = ["--rw", "randrw", "--time", "60", "--queues", "2"];
	const perf = ["perf", "--socket", instance.socket("vm0"), ...drive];
	return startProcess(...vhostctl(...perf));
}

test("--watch --json gives a line a second, until SIGINT, with growing counts", async () => {
	const driver = load();
	const watcher = startProcess(...watch(instance, "--json"));
	const lines = () => watcher.stdout().split("\n").slice(0, -1);
	try {
		await waitUntil(
			() => lines().length >= 3,
			PATIENCE_MS,
			() => `three lines\n${watcher.stdout()}${watcher.stderr()}`,
		);
		sendSignal(watcher, "SIGINT");
		const code = await within(watcher.exited, PATIENCE_MS, () => "it ends");
		assert.equal(code, 0, watcher.stderr());
		const told = lines().map((line) => JSON.parse(line));
		const counts = told.map(({ bdevs }) => bdevs[0].ops.read.count);
		assert(counts.at(-1) > counts[0], `${counts}`);
		const [session] = told.at(-1).controllers[0].sessions;
		assert.equal(session.rings.length, 2);
		const [first, second] = told.map(({ uptime_ns }) => uptime_ns);
		assert(second - first > 0.9e9, "a second between lines");
	} finally {
		await watcher.kill();
		await driver.kill();
	}
});

/** Runs the watcher on a terminal; `output` is all that it wrote there. */
async function onTerminal(
	of: Instance,
	work: (type: (keys: string) => void, output: () => string) => Promise<void>,
): Promise<void> {
	const [command, args] = watch(of);
	const line = [command, ...args].map((word) => `'${word}'`).join(" ");
	const terminal = startProcess("script", ["-qec", line, "/dev/null"], {
		interactive: true,
	});
	let output = "";
	terminal.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
		output += text;
	});
	try {
		await work(
			(keys) => terminal.child.stdin?.write(keys),
			() => output,
		);
		await within(terminal.exited, PATIENCE_MS, () => `it ends\n${output}`);
		assert.equal(output.split(ENTER).length, 2, "entered once");
		assert.equal(output.split(LEAVE).length, 2, "left once");
		assert(output.indexOf(LEAVE) > output.lastIndexOf("Reactors"));
	} finally {
		await terminal.kill();
	}
}

test("on a terminal it shows rates and gives the screen back on ^C", async () => {
	await onTerminal(instance, async (type, output) => {
		await waitUntil(
			() => output().includes("kicks/s"),
			PATIENCE_MS,
			() => `rates\n${output()}`,
		);
		type("\x03");
	});
});

test("it gives the screen back when the instance goes away", async () => {
	const own = await startInstance();
	try {
		await onTerminal(own, async (_, output) => {
			await waitUntil(
				() => output().includes("Reactors"),
				PATIENCE_MS,
				() => `the screen\n${output()}`,
			);
			await own.process.kill();
		});
	} finally {
		await own.process.kill();
		removeTempDir(own.dir);
	}
});
