// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { answer, attachedTo, failure, sendSignal } from "../support/cli.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";

let instance: Instance;
let attached: (...args: string[]) => Promise<string>;
before(async () => {
	instance = await startInstance();
	attached = attachedTo(instance);
});
after(() => instance.stop());

const lines = (text: string) =>
	text
		.trimEnd()
		.split("\n")
		.map((line) => line.trim().split(/ {2,}/));

test("bdevs are created, listed, resized and deleted", async () => {
	const made = await attached(
		...["bdev", "create", "malloc", "0123", "--size", "8M"],
		...["--block-size", "4K"],
	);
	assert.equal(made, "0123\n");
	assert.equal(await attached("bdev", "resize", "0123", "16M"), "");
	const odd = ["bdev", "resize", "0123", "1000", "-r", instance.rpcSocket];
	await failure(2, /multiple of 1M/, ...odd);
	const [titles, row] = lines(await attached("bdev", "list", "0123"));
	assert.deepEqual(titles, [
		...["name", "kind", "size", "block size", "uuid", "used by"],
	]);
	assert.deepEqual(row?.slice(0, 4), ["0123", "malloc", "16 MiB", "4096"]);
	const [bdev] = JSON.parse(await attached("bdev", "list", "0123", "--json"));
	assert.equal(bdev.num_blocks, 4096);
	assert.equal(bdev.uuid, row?.[4]);
	assert.equal(await attached("bdev", "delete", "0123"), "");
	const gone = ["bdev", "list", "0123", "-r", instance.rpcSocket];
	await failure(3, /0123/, ...gone);
});

test("a file bdev follows its file", async () => {
	const path = join(instance.dir, "disk.img");
	writeFileSync(path, "");
	truncateSync(path, 1024 * 1024);
	const create = ["bdev", "create", "file", "image", "--path", path];
	assert.equal(await attached(...create, "--json"), '"image"\n');
	truncateSync(path, 2 * 1024 * 1024);
	await attached("bdev", "resize", "image");
	const [, row] = lines(await attached("bdev", "list", "image"));
	assert.deepEqual(row?.slice(0, 3), ["image", "file", "2 MiB"]);
	const resize = ["bdev", "resize", "image", "4M", "-r", instance.rpcSocket];
	await failure(2, /image is a file/, ...resize);
	await attached("bdev", "delete", "image");
	assert(existsSync(path));
});

test("controllers are created, listed and deleted", async () => {
	await attached("bdev", "create", "null", "n", "--size", "1G");
	const socket = await attached("blk", "create", "vm0", "--bdev", "n");
	assert.equal(socket, `${instance.socket("vm0")}\n`);
	assert(existsSync(instance.socket("vm0")));
	const [titles, row] = lines(await attached("blk", "list"));
	assert.deepEqual(titles, [
		...["name", "bdev", "access", "cpumask", "front ends", "socket"],
	]);
	assert.deepEqual(row?.slice(0, 3), ["vm0", "n", "read-write"]);
	const [, bdev] = lines(await attached("bdev", "list", "n"));
	assert.equal(bdev?.[5], "vm0");
	const taken = ["blk", "create", "vm1", "--bdev", "n"];
	await failure(5, /vm0|claimed|use/, ...taken, "-r", instance.rpcSocket);
	const twice = ["blk", "create", "vm0", "--bdev", "n"];
	await failure(4, /vm0/, ...twice, "-r", instance.rpcSocket);
	assert.equal(await attached("blk", "delete", "vm0"), "");
	assert(!existsSync(instance.socket("vm0")));
	await attached("bdev", "delete", "n");
});

test("rpc calls any method and prints what it gives", async () => {
	const methods = JSON.parse(await attached("rpc", "rpc_get_methods"));
	assert(methods.includes("bdev_get_bdevs"));
	const params = '{"name": "r", "block_size": 512, "num_blocks": 2048}';
	const made = await attached("rpc", "bdev_malloc_create", params);
	assert.equal(made, '"r"\n');
	assert.equal(
		await attached("rpc", "bdev_malloc_delete", '{"name":"r"}'),
		"true\n",
	);
	const socket = ["-r", instance.rpcSocket];
	await failure(2, /method/i, "rpc", "no_such_method", ...socket);
	await failure(2, /block_size/, "rpc", "bdev_malloc_create", "{}", ...socket);
	await failure(2, /not JSON/, "rpc", "x", "{", ...socket);
	await failure(2, /must be an object/, "rpc", "x", "[1]", ...socket);
});

test("stats tells what is there, as tables and as JSON", async () => {
	await attached("bdev", "create", "null", "s", "--size", "1G");
	await attached("blk", "create", "vms", "--bdev", "s");
	const tables = await attached("stats");
	for (const word of ["Reactors", "adaptive", "Bdevs", "Controllers", "vms"])
		assert(tables.includes(word), `${word} in\n${tables}`);
	const json = JSON.parse(await attached("stats", "--json"));
	assert.equal(json.bdevs[0].name, "s");
	assert.equal(json.controllers[0].ctrlr, "vms");
	assert.equal(json.reactors.length, 1);
	await attached("blk", "delete", "vms");
	await attached("bdev", "delete", "s");
});

test("mistakes are told by name, with what would be right", async () => {
	const cases: [RegExp, ...string[]][] = [
		[/a command is needed/],
		[/unknown command bdve; did you mean bdev\?/, "bdve"],
		[/unknown option --hlep; did you mean --help\?/, "--hlep"],
		[/unknown command bdev lst; did you mean list\?/, "bdev", "lst"],
		[/--sise; did you mean --size\?/, "bdev", "create", "malloc", "--sise"],
		[/a malloc bdev needs --size/, "bdev", "create", "malloc", "d"],
		[/a null bdev needs a name/, "bdev", "create", "null", "--size", "1M"],
		[/did you mean malloc\?/, "bdev", "create", "maloc"],
		[/--size is "1KB"/, "bdev", "create", "malloc", "d", "--size", "1KB"],
		[/blk create needs --bdev/, "blk", "create", "x"],
		[/goes with --in-process/, "blk", "create", "x", "--bdev=y", "-S", "z"],
		[/usage: vhostctl bdev delete <name>/, "bdev", "delete"],
		[/perf needs --socket/, "perf"],
		[/did you mean randread\?/, "perf", "--socket=x", "--rw=rndread"],
		[/there is crc32c/, "perf", "--socket=x", "--verify=md5"],
	];
	for (const [message, ...args] of cases) await failure(2, message, ...args);
});

test("without an instance, commands say so and how to start one", async () => {
	const path = join(instance.dir, "nobody.sock");
	await failure(
		10,
		/no instance answers at .*vhostctl serve/,
		"bdev",
		"list",
		"-r",
		path,
	);
});

test("$VHOSTCTL_SOCKET names the instance", () => {
	const [command, args] = vhostctl("bdev", "list", "--json");
	const env = { ...process.env, VHOSTCTL_SOCKET: instance.rpcSocket };
	const { status, stdout } = spawnSync(command, args, {
		env,
		encoding: "utf8",
	});
	assert.equal(status, 0);
	assert.deepEqual(JSON.parse(stdout), []);
});

test("a reader that goes away ends a command quietly", () => {
	const [command, args] = vhostctl(
		"rpc",
		"rpc_get_methods",
		"-r",
		instance.rpcSocket,
	);
	const { status, stderr } = spawnSync(
		"bash",
		["-o", "pipefail", "-c", '"$@" | true', "-", command, ...args],
		{
			encoding: "utf8",
		},
	);
	assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
});

test("help and version are where they are looked for", async () => {
	for (const words of [[], ["stats"], ["bdev"], ["bdev", "create"]]) {
		const help = await answer(...words, "--help");
		assert.match(help, /\nUsage:\n {2}\$ vhostctl/);
		assert.equal(await answer(...words, "-h"), help);
	}
	assert.match(await answer("--version"), /^vhostctl \d+\.\d+\.\d+\n$/);
});

test("a disk may be served in one process, until a signal", async () => {
	const dir = makeTempDir();
	try {
		const [command, args] = vhostctl(
			...["blk", "create", "vm", "--in-process", "-S", dir],
			...["--bdev", "malloc:size=16M"],
		);
		const server = startProcess(command, args);
		try {
			const path = join(dir, "vm");
			await waitUntil(
				() => server.stdout() === `${path}\n`,
				20_000,
				() => `the socket's path\n${server.stdout()}${server.stderr()}`,
			);
			const verify = ["--rw", "write", "--verify", "crc32c"];
			await answer("perf", "--socket", path, ...verify);
			sendSignal(server, "SIGINT");
			const code = await within(server.exited, 20_000, () => "it ends");
			assert.equal(code, 0, server.stderr());
			assert(!existsSync(path));
		} finally {
			await server.kill();
		}
	} finally {
		removeTempDir(dir);
	}
});

function elapsed(command: string, args: string[]): number {
	const start = performance.now();
	const { status } = spawnSync(command, args);
	assert.equal(status, 0);
	return performance.now() - start;
}

test("an attached command takes at most 3 times as long as the runtime alone", {
	skip: "Deno" in globalThis && "a ratio of Node's",
}, () => {
	const [command, args] = vhostctl("bdev", "list", "-r", instance.rpcSocket);
	let bare = Infinity;
	let attached = Infinity;
	// The best of several: other tests run beside this one.
	for (let round = 0; round < 9; round++) {
		bare = Math.min(bare, elapsed(process.execPath, ["-e", "0"]));
		attached = Math.min(attached, elapsed(command, args));
	}
	const ratio = attached / bare;
	assert(ratio <= 3, `${ratio.toFixed(2)} times ${bare.toFixed(0)} ms`);
});
