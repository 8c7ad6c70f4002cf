// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import process from "node:process";
import { after, before, test } from "node:test";
import { attachedTo, failure, sendSignal } from "../support/cli.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import {
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";
import {
	assertEnds,
	ENTER,
	LEAVE,
	onTerminal,
	type Terminal,
} from "../support/terminal.ts";

const PATIENCE_MS = 20_000;

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

const live = (of: Instance, ...more: string[]) => [
	...["stats", "--watch", "-r", of.rpcSocket],
	...more,
];

/** Once taken, once given back, and nothing shown after that but what the shell says. */
function assertGivenBack(terminal: Terminal, times = 1): void {
	const output = terminal.output();
	assert.equal(output.split(ENTER).length, times + 1, "taken");
	assert.equal(output.split(LEAVE).length, times + 1, "given back");
	assert(output.lastIndexOf(LEAVE) > output.lastIndexOf("\x1b[H"));
}

test("the screen fits the terminal, is sorted by keys and follows its size", async () => {
	const driver = load();
	try {
		await onTerminal(live(instance), async (terminal) => {
			await terminal.shows(/^disk0 +[\d.]+[kM] .*[▁▂▃▄▅▆▇█]/m);
			await terminal.shows(/^vm0 \(disk0\) +[\d.]+[kM]/m);
			assert.equal(terminal.frame().length, 24);
			for (const line of terminal.frame())
				assert([...line].length <= 80, `80 columns: ${line}`);
			await terminal.shows(/sorted by IOPS/);
			terminal.type("n");
			await terminal.shows(/sorted by name/);
			terminal.type("\x1b[C\x1b[C");
			await terminal.shows(/sorted by throughput/);
			terminal.type("r\x1bOD");
			await terminal.shows(/sorted by IOPS, reversed/);
			terminal.type("?");
			await terminal.shows(/this help/);
			terminal.type("?");
			await terminal.shows(/^BDEV/m);
			terminal.resize(8, 60);
			await terminal.shows(/more below/);
			assert.equal(terminal.frame().length, 8);
			for (const line of terminal.frame())
				assert([...line].length <= 60, `60 columns: ${line}`);
			terminal.type("\x1b[B");
			await waitUntil(
				() => !terminal.frame().some((line) => line.startsWith("REACTOR")),
				PATIENCE_MS,
				() => "scrolled",
			);
			terminal.type("q");
			assert.equal(await terminal.ended(), 0);
			assertGivenBack(terminal);
		});
	} finally {
		await driver.kill();
	}
});

test("it gives the terminal back on ^C and on signals", async () => {
	await onTerminal(live(instance, "disk0"), async (terminal) => {
		await terminal.shows(/^disk0/m);
		assert(!terminal.frame().some((line) => line.startsWith("vm0")), "alone");
		terminal.type("\x03");
		assert.equal(await terminal.ended(), 0);
		assertGivenBack(terminal);
	});
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
		await onTerminal(live(instance), async (terminal) => {
			process.kill(terminal.pid, signal);
			assert.equal(await terminal.ended(), 0, signal);
			assertGivenBack(terminal);
		});
});

test("it gives the terminal back while it is suspended, and takes it again", async () => {
	await onTerminal(live(instance), async (terminal) => {
		for (const suspend of [
			() => terminal.type("\x1a"),
			() => void process.kill(terminal.pid, "SIGTSTP"),
		]) {
			const taken = terminal.output().split(ENTER).length;
			suspend();
			await waitUntil(
				() =>
					terminal.output().split(LEAVE).length === taken &&
					terminal.modes() === terminal.modesBefore,
				PATIENCE_MS,
				() => "it is given back",
			);
			process.kill(terminal.pid, "SIGCONT");
			await waitUntil(
				() => terminal.output().split(ENTER).length === taken + 1,
				PATIENCE_MS,
				() => "it is taken again",
			);
		}
		terminal.type("q");
		assert.equal(await terminal.ended(), 0);
		assertGivenBack(terminal, 3);
	});
});

test("it gives the terminal back when the instance goes away, and ends with its terminal", async () => {
	const own = await startInstance();
	try {
		await onTerminal(live(own), async (terminal) => {
			await terminal.shows(/^REACTOR/m);
			await terminal.hangUp();
			await assertEnds(terminal.pid);
		});
		await onTerminal(live(own), async (terminal) => {
			await terminal.shows(/^REACTOR/m);
			await own.process.kill();
			assert.equal(await terminal.ended(), 10);
			assertGivenBack(terminal);
			const [, after = ""] = terminal.output().split(LEAVE);
			assert.match(after, /^vhostctl: .*rpc\.sock/);
		});
	} finally {
		await own.process.kill();
		removeTempDir(own.dir);
	}
});

test("an instance that stands still does not keep the screen from ending", async () => {
	const own = await startInstance();
	try {
		await onTerminal(live(own), async (terminal) => {
			await terminal.shows(/^REACTOR/m);
			process.kill(own.process.pid, "SIGSTOP");
			terminal.type("q");
			assert.equal(await terminal.ended(), 0);
			assertGivenBack(terminal);
		});
	} finally {
		process.kill(own.process.pid, "SIGCONT");
		await own.stop();
	}
});

test("without a terminal it writes one screen after the other as text", async () => {
	const watcher = startProcess(...watch(instance));
	try {
		await waitUntil(
			() => watcher.stdout().split("REACTOR").length > 2,
			PATIENCE_MS,
			() => watcher.stdout() + watcher.stderr(),
		);
		sendSignal(watcher, "SIGTERM");
		assert.equal(await watcher.exited, 0);
		assert(!watcher.stdout().includes("\x1b"), "no escape sequences");
	} finally {
		await watcher.kill();
	}
});

test("one object is shown by its name", async () => {
	const ask = attachedTo(instance);
	assert.match(await ask("stats", "disk0"), /disk0/);
	const told = JSON.parse(await ask("stats", "vm0", "--json"));
	assert.deepEqual(told.bdevs, []);
	assert.equal(told.controllers[0].ctrlr, "vm0");
	const at = ["-r", instance.rpcSocket];
	await failure(
		3,
		/no bdev and no controller nobody/,
		"stats",
		"nobody",
		...at,
	);
});
