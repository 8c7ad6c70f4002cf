// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readdirSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { attachedTo, failure, sendSignal } from "../support/cli.ts";
import { startInstance, vhostctl } from "../support/instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";

const PATIENCE_MS = 20_000;

/** Runs `work` with a directory and a way to start instances in it; nothing outlives it. */
async function inDir(
	work: (dir: string, serve: (...args: string[]) => Process) => Promise<void>,
): Promise<void> {
	const dir = makeTempDir();
	const started: Process[] = [];
	try {
		await work(dir, (...args) => {
			const own = ["-S", dir, "-r", join(dir, "rpc.sock")];
			const [command, words] = vhostctl("serve", ...own, ...args);
			const server = startProcess(command, words);
			started.push(server);
			return server;
		});
	} finally {
		await Promise.all(started.map((server) => server.kill()));
		removeTempDir(dir);
	}
}

async function ready(server: Process, dir: string): Promise<void> {
	const log = () => `${server.stdout()}${server.stderr()}`;
	await waitUntil(
		() => {
			assert(server.alive(), log());
			return server.stdout() === `ready: ${join(dir, "rpc.sock")}\n`;
		},
		PATIENCE_MS,
		() => `serve is ready\n${log()}`,
	);
}

function exit(server: Process): Promise<number | string> {
	return within(
		server.exited,
		PATIENCE_MS,
		() => `serve ends\n${server.stderr()}`,
	);
}

test("what the command line asks for is there when the instance is ready", async () => {
	const instance = await startInstance([
		...["--bdev", "malloc:name=a,size=8M", "--bdev", "null:name=b,size=1G"],
		...["--blk", "vm0=a", "--blk", "vm1=b,readonly,cpumask=0x1"],
		...["--mode", "interrupt", "-m", "[0]"],
	]);
	try {
		const attached = attachedTo(instance);
		const controllers = JSON.parse(await attached("blk", "list", "--json"));
		const told = controllers.map(
			(one: {
				ctrlr: string;
				backend_specific: { block: { bdev: string; readonly: boolean } };
			}) => [one.ctrlr, one.backend_specific.block],
		);
		assert.deepEqual(
			told.map(([name, { bdev, readonly }]: [string, never]) => [
				name,
				bdev,
				readonly,
			]),
			[
				["vm0", "a", false],
				["vm1", "b", true],
			],
		);
		const stats = JSON.parse(await attached("stats", "--json"));
		assert.equal(stats.reactors[0].mode, "interrupt");
		assert.equal(statSync(instance.rpcSocket).mode & 0o777, 0o600);
	} finally {
		await instance.stop();
	}
});

test("SIGINT and SIGTERM end it cleanly, with readable logs", async () => {
	for (const signal of ["SIGINT", "SIGTERM"] as const)
		await inDir(async (dir, serve) => {
			const bdev = ["--bdev", "malloc:name=a,size=1M", "--blk", "vm0=a"];
			const server = serve(...bdev);
			await ready(server, dir);
			sendSignal(server, signal);
			assert.equal(await exit(server), 0);
			assert.deepEqual(readdirSync(dir), []);
			assert.match(server.stderr(), new RegExp(`ending on ${signal}`));
			for (const line of server.stderr().trimEnd().split("\n"))
				assert.match(line, /^\d{4}-\S+Z (notice|info|warning|error) +\S/);
		});
});

test("a second signal ends it at once", async () => {
	await inDir(async (dir, serve) => {
		const server = serve();
		await ready(server, dir);
		// A client that does not read its answers makes a clean end wait.
		const client = connect(join(dir, "rpc.sock")).pause();
		client.on("error", () => {}); // what it still had to write
		try {
			await once(client, "connect");
			const call = '{"jsonrpc": "2.0", "id": 1, "method": "rpc_get_methods"}';
			client.write(call.repeat(5000));
			await once(client, "readable");
			sendSignal(server, "SIGTERM");
			await waitUntil(
				() => server.stderr().includes("ending on SIGTERM"),
				PATIENCE_MS,
				() => `the first signal\n${server.stderr()}`,
			);
			sendSignal(server, "SIGTERM");
			assert.equal(await exit(server), 128 + 15);
		} finally {
			client.destroy();
		}
	});
});

test("a second instance on the same socket is refused and harms nobody", async () => {
	await inDir(async (dir, serve) => {
		const first = serve();
		await ready(first, dir);
		const second = serve();
		assert.equal(await exit(second), 5);
		assert.match(second.stderr(), /^vhostctl: .*rpc\.sock/m);
		assert.equal(second.stdout(), "");
		assert(first.alive());
		assert(existsSync(join(dir, "rpc.sock")));
	});
});

test("what a killed instance left is taken over", async () => {
	await inDir(async (dir, serve) => {
		const bdev = ["--bdev", "malloc:name=a,size=1M", "--blk", "vm0=a"];
		const first = serve(...bdev);
		await ready(first, dir);
		await first.kill();
		assert(existsSync(join(dir, "rpc.sock")));
		assert(existsSync(join(dir, "vm0")));
		const second = serve(...bdev);
		await ready(second, dir);
		sendSignal(second, "SIGTERM");
		assert.equal(await exit(second), 0);
		assert.deepEqual(readdirSync(dir), []);
	});
});

test("spdk_kill_instance ends it cleanly", async () => {
	await inDir(async (dir, serve) => {
		const server = serve();
		await ready(server, dir);
		const kill = ["rpc", "spdk_kill_instance", '{"sig_name": "SIGTERM"}'];
		const [command, args] = vhostctl(...kill, "-r", join(dir, "rpc.sock"));
		const caller = startProcess(command, args);
		assert.equal(await exit(caller), 0, caller.stderr());
		assert.equal(await exit(server), 0);
		assert.deepEqual(readdirSync(dir), []);
	});
});

test("a command line that cannot be served leaves nothing behind", async () => {
	const dir = makeTempDir();
	const socket = join(dir, "rpc.sock");
	const cases: [number, RegExp, ...string[]][] = [
		[3, /no\/such/, "--bdev", "file:name=f,path=/no/such"],
		[3, /nobody/, "--blk", "vm0=nobody"],
		[4, /a/, "--bdev", "null:name=a,size=1M"],
		[2, /4095/, "-m", "4095,4094"],
		[2, /--mode is "pol"; did you mean poll\?/, "--mode", "pol"],
		[2, /--log-level/, "--log-level", "loud"],
		[2, /a malloc bdev needs size/, "--bdev", "malloc:name=d"],
	];
	const first = ["--bdev", "null:name=a,size=1M", "--log-level", "error"];
	try {
		for (const [code, message, ...args] of cases) {
			const own = ["serve", "-S", dir, "-r", socket];
			const words = args.includes("--log-level") ? first.slice(0, 2) : first;
			await failure(code, message, ...own, ...words, ...args);
			assert.deepEqual(readdirSync(dir), []);
		}
	} finally {
		removeTempDir(dir);
	}
});
