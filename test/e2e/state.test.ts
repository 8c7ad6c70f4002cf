// SPDX-License-Identifier: MIT
// The state file: what is in the way of it, and what cannot be restored.
import assert from "node:assert/strict";
import {
	existsSync,
	lstatSync,
	readFileSync,
	rmSync,
	symlinkSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { run } from "../support/cli.ts";
import {
	type Instance,
	rpcCall,
	startInstance,
	vhostctl,
} from "../support/instance.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	waitUntil,
} from "../support/processes.ts";

const PATIENCE_MS = 20_000;
/** Node and Deno put it differently. */
const NO_ROOM = /state file .*(ENOSPC|No space left)/;

async function inDir(work: (dir: string) => Promise<void>): Promise<void> {
	const dir = makeTempDir();
	try {
		await work(dir);
	} finally {
		removeTempDir(dir);
	}
}

async function names({ rpc }: Pick<Instance, "rpc">): Promise<string[]> {
	const bdevs = (await rpc("bdev_get_bdevs")) as { name: string }[];
	return bdevs.map(({ name }) => name).sort();
}

function methodsIn(path: string): string[] {
	const { subsystems } = JSON.parse(readFileSync(path, "utf8")) as {
		subsystems: { config: { method: string }[] }[];
	};
	return subsystems.flatMap(({ config }) => config.map(({ method }) => method));
}

test("what cannot be restored is told and kept, until it can be or is deleted", () =>
	inDir(async (dir) => {
		const state = join(dir, "state.json");
		const disk = join(dir, "disk.img");
		writeFileSync(disk, "");
		truncateSync(disk, 1 << 20);
		const specs = [
			"--bdev",
			`file:name=f,path=${disk}`,
			"--bdev",
			"malloc:name=m,size=1M",
		];
		const args = [...specs, "--blk", "vf=f", "--blk", "vm=m", "--state", state];
		const first = await startInstance(args, {}, dir);
		await first.rpc("bdev_null_create", {
			name: "n",
			block_size: 512,
			num_blocks: 8,
		});
		await first.crash();
		rmSync(disk);

		const second = await startInstance(args, {}, dir);
		assert.deepEqual(await names(second), ["m", "n"]);
		await waitUntil(
			() =>
				second
					.log()
					.includes("vhost_create_blk_controller: no bdev f; kept for"),
			PATIENCE_MS,
			second.log,
		);
		assert.match(
			second.log(),
			/bdev\[\d\] bdev_aio_create: .*; kept for the next start/,
		);
		assert.match(second.log(), /bdev m: comes back empty/);
		assert.match(second.log(), /not looked at/);
		await second.rpc("bdev_null_delete", { name: "n" });
		await second.crash();
		writeFileSync(disk, "");
		truncateSync(disk, 1 << 20);

		const third = await startInstance(args, {}, dir);
		assert.deepEqual(await names(third), ["f", "m"]);
		await third.crash();
		rmSync(disk);

		const fourth = await startInstance(args, {}, dir);
		assert.equal(
			await fourth.rpc("vhost_delete_controller", { ctrlr: "vf" }),
			true,
		);
		assert.equal(await fourth.rpc("bdev_aio_delete", { name: "f" }), true);
		await assert.rejects(
			fourth.rpc("bdev_aio_delete", { name: "f" }),
			/no bdev f/,
		);
		assert.deepEqual(methodsIn(state), [
			"bdev_malloc_create",
			"vhost_create_blk_controller",
		]);
		await fourth.crash();
	}));

test("a file that cannot be the state is refused, and left as it is", () =>
	inDir(async (dir) => {
		const state = join(dir, "state.json");
		const serve = (path: string) =>
			run("serve", "-r", join(dir, "r"), "-S", dir, "--state", path);
		const whole = '{"vhostctl": {"state": 1}, "subsystems": []}';
		for (const [text, code, why] of [
			["", 2, /not JSON.*move it away/],
			[whole.slice(0, -5), 2, /not JSON/],
			["[]", 2, /no configuration/],
			[
				whole.replace("1", "2"),
				9,
				/later version: it has format 2, this version knows 1/,
			],
		] as const) {
			writeFileSync(state, text);
			const ended = await serve(state);
			assert.equal(ended.code, code, ended.stderr);
			assert.match(ended.stderr, why);
			assert.equal(readFileSync(state, "utf8"), text);
		}
		const folder = await serve(dir);
		assert.match(folder.stderr, /is not a file/);
		const nowhere = await serve(join(dir, "none", "state.json"));
		assert.equal(nowhere.code, 3, nowhere.stderr);
		symlinkSync(join(dir, "missing"), join(dir, "dangling"));
		assert.equal((await serve(join(dir, "dangling"))).code, 3);
	}));

test("one instance at a time has a state file; a symbolic link to it stays one", () =>
	inDir(async (dir) => {
		const state = join(dir, "state.json");
		const link = join(dir, "link.json");
		writeFileSync(state, '{"subsystems": []}');
		symlinkSync(state, link);
		const instance = await startInstance(["--state", link]);
		try {
			const other = join(dir, "other");
			const ended = await run(
				"serve",
				"-r",
				`${other}.sock`,
				"-S",
				dir,
				"--state",
				state,
			);
			assert.equal(ended.code, 5);
			assert.match(ended.stderr, /another instance has the state file/);
			await instance.rpc("bdev_null_create", {
				name: "n",
				block_size: 512,
				num_blocks: 8,
			});
			assert(lstatSync(link).isSymbolicLink());
			assert.deepEqual(methodsIn(state), ["bdev_null_create"]);
		} finally {
			await instance.stop();
		}
		assert(!existsSync(`${state}.lock`));
		assert(!existsSync(`${state}.new`));
	}));

test("without room for the state a change fails, and nothing is changed", () =>
	inDir(async (dir) => {
		const rpcSocket = join(dir, "rpc.sock");
		const own = ["-r", rpcSocket, "-S", dir, "--state-dir", dir];
		const [command, words] = vhostctl(
			"serve",
			...own,
			"--state",
			"/mnt/state.json",
		);
		// A small file system of its own, which this process sees through /proc.
		const mount = 'mount -t tmpfs -o size=128k none /mnt && exec "$@"';
		const server = startProcess("unshare", [
			"-rm",
			"sh",
			"-c",
			mount,
			"sh",
			command,
			...words,
		]);
		try {
			await waitUntil(
				() => server.stdout().includes("ready:"),
				PATIENCE_MS,
				() => server.stderr(),
			);
			const rpc = (method: string, params?: object) =>
				rpcCall(rpcSocket, method, params);
			const mnt = `/proc/${server.pid}/root/mnt`;
			const create = (name: string) =>
				rpc("bdev_null_create", { name, block_size: 512, num_blocks: 8 });
			await create("a");
			const before = readFileSync(join(mnt, "state.json"), "utf8");
			assert.throws(
				() => writeFileSync(join(mnt, "fill"), new Uint8Array(1 << 20)),
				/ENOSPC|No space left/,
			);
			await assert.rejects(create("b"), NO_ROOM);
			await assert.rejects(rpc("bdev_null_delete", { name: "a" }), NO_ROOM);
			assert.deepEqual(await names({ rpc }), ["a"]);
			assert.equal(readFileSync(join(mnt, "state.json"), "utf8"), before);
			rmSync(join(mnt, "fill"));
			await create("b");
			assert.equal(methodsIn(join(mnt, "state.json")).length, 2);
		} finally {
			await server.kill();
		}
	}));

test("who takes over goes on with the state file", () =>
	inDir(async (dir) => {
		const state = join(dir, "state.json");
		const args = [
			"--bdev",
			"null:name=n,size=1M",
			"--blk",
			"vm0=n",
			"--state",
			state,
		];
		const instance = await startInstance(args, {}, dir);
		const own = ["-r", instance.rpcSocket, "--state", state];
		const successor = startProcess(...vhostctl("serve", "--takeover", ...own));
		try {
			await waitUntil(
				() => successor.stdout().includes("ready:"),
				PATIENCE_MS,
				() => successor.stderr() + instance.log(),
			);
			await instance.rpc("bdev_null_create", {
				name: "m",
				block_size: 512,
				num_blocks: 8,
			});
			assert.deepEqual(methodsIn(state), [
				"bdev_null_create",
				"bdev_null_create",
				"vhost_create_blk_controller",
			]);
		} finally {
			await successor.kill();
			await instance.crash();
		}
	}));
