// SPDX-License-Identifier: MIT
// The programs in docs/library.md, as they are printed, each in a process of its own: they start,
// do what the page says, and end in good order.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
	mkdirSync,
	readdirSync,
	readFileSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { createRuntime } from "../../src/engine/runtime.ts";
import { decodeU64, encodeU64 } from "../../src/engine/vhost-user/codec.ts";
import {
	connectFrontend,
	type Frontend,
	type FrontendOptions,
} from "../../src/engine/vhost-user/frontend.ts";
import {
	FLAG_NEED_REPLY,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { native } from "../../src/ffi/native.ts";
import { projectPath } from "../support/instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";
import { makeRingIo } from "../support/ring-io.ts";
import { makePeer } from "../support/vhost-user.ts";

const IN_TIME = 20_000;
const SOCKET_DIR = "/run/vms";

const page = readFileSync(projectPath("docs/library.md"), "utf8");
const programs = new Map(
	[...page.matchAll(/<!-- run: (\w+) -->\n```ts\n([\s\S]*?)```/g)].map(
		([, name = "", text = ""]): [string, string] => [name, text],
	),
);
const runtime = createRuntime();
/** As after npm install: a folder with the programs, and the package where Node looks for it. */
const home = makeTempDir();
mkdirSync(join(home, "node_modules"));
symlinkSync(projectPath(), join(home, "node_modules/vhostctl"));
const tried = new Set<string>();

after(async () => {
	await runtime.close();
	removeTempDir(home);
});

/** Starts a program of the page, with its sockets in dir. */
function start(name: string, dir: string): Process {
	tried.add(name);
	const text = programs.get(name) ?? assert.fail(`no program ${name}`);
	const file = join(home, `${name}.mjs`);
	writeFileSync(file, text.replaceAll(SOCKET_DIR, dir));
	const config = projectPath("deno.json");
	const flags =
		"Deno" in globalThis ? ["run", "-A", "--no-check", "--config", config] : [];
	return startProcess(process.execPath, [...flags, file]);
}

interface Played {
	dir: string;
	program: Process;
	/** Waits until the program has printed that. */
	printed(text: string): Promise<void>;
	connect(options?: Partial<FrontendOptions>): Promise<Frontend>;
}

/** Runs a program of the page while play does; then it has to end well. */
async function playWith(
	name: string,
	play: (played: Played) => Promise<void>,
): Promise<void> {
	const dir = makeTempDir();
	const program = start(name, dir);
	const frontends: Frontend[] = [];
	const printed = (text: string) =>
		waitUntil(
			() => {
				assert(program.alive(), program.stderr());
				return program.stdout().includes(text);
			},
			IN_TIME,
			() => `${text}\n${program.stdout()}\n${program.stderr()}`,
		);
	try {
		await printed("ready: ");
		const [, path = ""] = program.stdout().match(/ready: (.*)/) ?? [];
		const connect = async (options: Partial<FrontendOptions> = {}) => {
			const frontend = await connectFrontend(runtime, path, {
				queues: 1,
				queueSize: 16,
				memoryBytes: 1024 * 1024,
				mode: "interrupt",
				configSize: 0,
				...options,
			});
			frontends.push(frontend);
			return frontend;
		};
		await play({ dir, program, printed, connect });
		for (const frontend of frontends.splice(0)) await frontend.close();
		process.kill(program.pid, "SIGTERM");
		const code = await within(program.exited, IN_TIME, () => "its end");
		assert.equal(code, 0, program.stderr());
		assert.deepEqual(readdirSync(dir), []);
	} finally {
		for (const frontend of frontends) await frontend.close();
		await program.kill();
		removeTempDir(dir);
	}
}

test("disks", () =>
	playWith("disks", async ({ dir, connect }) => {
		const { config } = await connect({ configSize: 60 });
		assert.equal(config.readBigUInt64LE(0), 2097152n);
		assert.deepEqual(readdirSync(dir).sort(), ["vm0", "vm1"]);
	}));

test("rng, and the driver's side", () =>
	playWith("rng", async ({ dir, connect }) => {
		const io = makeRingIo(await connect());
		const { written, data } = await io.exchange([], [40_000]);
		assert.equal(written, 40_000);
		assert(new Set(data).size === 256);
		const driver = start("driver", dir);
		assert.equal(await driver.exited, 0, driver.stderr());
		const [, hex = ""] =
			driver.stdout().match(/^8 bytes: ([0-9a-f]{16})$/m) ?? [];
		assert.notEqual(hex, "", driver.stdout());
		assert.notEqual(hex, "0".repeat(16));
	}));

test("upper", () =>
	playWith("upper", async ({ connect }) => {
		const io = makeRingIo(await connect({ queues: 2 }));
		const slow = io.offer([Buffer.from("slow")], [10], 1);
		const fast = await io.exchange(
			[Buffer.from("fa"), Buffer.from("st")],
			[10],
		);
		assert.equal(fast.data.toString("latin1", 0, fast.written), "FAST");
		const { data, written } = await slow.used();
		assert.equal(data.toString("latin1", 0, written), "SLOW");
		const long = await io.exchange([Buffer.alloc(5000, "a")], [10]);
		assert.equal(long.written, 0);
	}));

test("watch", () =>
	playWith("watch", async ({ connect, printed }) => {
		const frontend = await connect({ features: (1n << 32n) | 8n });
		await printed(": connected");
		await printed(": features 140000008");
		await printed(": 1 regions");
		await printed(": queue 0, 16 entries, starts");
		await frontend.request("SET_STATUS", encodeU64(15n));
		await printed(": status 15");
		await frontend.stopRing(0);
		await printed(": queue 0 stops");
		await frontend.reset();
		await printed(": reset");
		await frontend.close();
		await printed(": gone");
	}));

test("config", () =>
	playWith("config", async ({ connect, program }) => {
		const frontend = await connect({ configSize: 8 });
		assert.equal(frontend.config.readUInt32LE(0), 80);
		await frontend.writeConfig(4, Buffer.of(1, 2, 3, 4));
		assert.equal((await frontend.readConfig(4, 4)).toString("hex"), "01020304");
		await assert.rejects(frontend.writeConfig(0, Buffer.of(1)));
		const told = new Promise<void>((resolve) =>
			frontend.onConfigChange(resolve),
		);
		process.kill(program.pid, "SIGUSR1");
		await within(told, IN_TIME, () => "the change");
		assert.equal((await frontend.readConfig(0, 4)).readUInt32LE(), 132);
	}));

test("messages", () =>
	playWith("messages", async ({ dir, printed }) => {
		const fd = native.socketConnect(join(dir, "messages"));
		const peer = makePeer(runtime.adopt(fd));
		native.fdClose(fd);
		const ask = async (request: number, value: bigint) => {
			const ack = await peer.ask(
				request,
				encodeU64(value),
				[],
				FLAG_NEED_REPLY,
			);
			return decodeU64(ack?.payload ?? Buffer.alloc(0));
		};
		peer.send(
			"SET_PROTOCOL_FEATURES",
			encodeU64(PROTOCOL_FEATURES.REPLY_ACK | 16n),
		);
		assert.equal(await ask(20, 9000n), 0n);
		await printed("mtu 9000\nmessage 20: done");
		assert.equal(await ask(19, 0n), 1n);
		await printed("message 19: refused");
		await peer.close();
	}));

test("no program of the page is left out", () => {
	assert.deepEqual([...tried].sort(), [...programs.keys()].sort());
	const all = page.match(/^```ts$/gm)?.length;
	assert.equal(programs.size, all);
});
