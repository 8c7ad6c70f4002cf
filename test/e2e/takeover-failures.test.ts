// SPDX-License-Identifier: MIT
// Takeovers that fail on the way: guests go on, whoever has them.
import assert from "node:assert/strict";
import { once } from "node:events";
import { renameSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../../src/engine/control/client.ts";
import { takeOver } from "../../src/engine/control/takeover.ts";
import { createRuntime } from "../../src/engine/runtime.ts";
import { leaveEngine } from "../../src/engine/takeover/give.ts";
import { createLink, type Link } from "../../src/engine/takeover/link.ts";
import { type Estate, FORMAT } from "../../src/engine/takeover/parcel.ts";
import { connectFrontend } from "../../src/engine/vhost-user/frontend.ts";
import { native } from "../../src/ffi/native.ts";
import { failure, sendSignal } from "../support/cli.ts";
import { assertNoLeak, footprint } from "../support/engine.ts";
import { startLoad } from "../support/load.ts";
import { waitUntil } from "../support/processes.ts";
import {
	type Dynasty,
	exitOf,
	isReady,
	logOf,
	withDynasty,
} from "../support/takeover.ts";

const MIB = 1024 * 1024;
const ROUNDS = Number(process.env.VHOSTCTL_TAKEOVER_ROUNDS ?? 2);
/** Of descriptors, and of memory; Deno and sanitizers reserve more addresses than that for themselves. */
const LIMITS =
	"Deno" in globalThis || process.env.LD_PRELOAD
		? ["ulimit -n 128"]
		: ["ulimit -n 128", "ulimit -v 2500000"];

function makeImage(dynasty: Dynasty): string {
	const path = dynasty.path("disk.img");
	writeFileSync(path, "");
	truncateSync(path, 32 * MIB);
	return path;
}

/** Objects of every kind. */
function everything(dynasty: Dynasty): string[] {
	const image = makeImage(dynasty);
	return [
		...["--bdev", "malloc:name=ram,size=32M", "--blk", "ram=ram"],
		...["--bdev", `file:name=file,path=${image}`, "--scsi", "scsi=file"],
	];
}

/** A second, of each disk: what is asked for beyond it waits, and leaves the machine to others. */
const IOPS = 2000;

const limit = (dynasty: Dynasty, name: string) =>
	dynasty.rpc("bdev_set_qos_limit", { name, rw_ios_per_sec: IOPS });

/** Loads on both, for so long. */
async function startLoads(dynasty: Dynasty, seconds: number) {
	for (const name of ["ram", "file"]) await limit(dynasty, name);
	const loads = [
		startLoad(dynasty.path("ram"), seconds),
		startLoad(dynasty.path("scsi"), seconds, "--target", "0"),
	];
	return () => Promise.all(loads.map((load) => load.finish()));
}

/** Begins a takeover, has `work` with the link, and breaks it off. */
async function breakOff(
	dynasty: Dynasty,
	work: (link: Link) => Promise<void>,
): Promise<void> {
	const runtime = createRuntime();
	const client = await connect(dynasty.rpcSocket);
	try {
		const { socket } = await client.call("vhostctl_take_over", {
			format: FORMAT,
		});
		const fd = native.socketConnect(socket);
		const link = createLink(runtime.adopt(fd));
		native.fdClose(fd);
		await work(link);
		link.close();
	} finally {
		client.close();
		await runtime.close();
	}
}

async function discard(link: Link): Promise<unknown> {
	const { document, fds } = await link.receive(10_000);
	for (const fd of fds) native.fdClose(fd);
	return document;
}

/** Where a successor may go. */
const STEPS: Record<string, (link: Link) => Promise<void>> = {
	"before anything is said": async () => {},
	"when it was told what there is": async (link) => void (await discard(link)),
	"while guests are being stopped": async (link) => {
		await discard(link);
		await link.send({ prepared: 0 });
	},
	"when it has the guests' state": async (link) => {
		await discard(link);
		await link.send({ prepared: 0 });
		await discard(link);
	},
	"with a word that means nothing": async (link) => {
		await discard(link);
		await link.send(null);
		await link.send("?");
		await discard(link);
	},
};

test("a successor that goes at any step leaves all as it was", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(...everything(dynasty));
		const finish = await startLoads(dynasty, 8);
		await sleep(1500);
		let failed = 0;
		for (const [name, step] of Object.entries(STEPS)) {
			await breakOff(dynasty, step);
			failed++;
			const told = () => dynasty.ruler.stderr().split("goes on").length - 1;
			await waitUntil(
				() => told() === failed,
				10_000,
				() => `${name}${logOf(dynasty.ruler)}`,
			);
			await dynasty.assertRules();
		}
		// It is still to be had.
		await dynasty.succeed();
		await finish();
		await dynasty.end();
	}));

test("what cannot be taken over is refused, with the reason, and harms nobody", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(...everything(dynasty), "-m", "0-1");
		const finish = await startLoads(dynasty, 12);
		await sleep(1500);
		const cases: [number, RegExp, ...string[]][] = [
			[4, /bdev ram already/, "--bdev", "malloc:name=ram,size=1M"],
			[3, /nobody/, "--blk", "more=nobody"],
			[5, /claimed/, "--blk", "more=ram"],
			[2, /4095/, "-m", "[4095]"],
			[2, /stay/, "-S", `${dynasty.dir}/elsewhere`],
			[3, /no\/such/, "--bdev", "file:name=f,path=/no/such"],
		];
		for (const [code, message, ...args] of cases) {
			const heir = dynasty.heir(["--log-level", "error", ...args]);
			assert.equal(await exitOf(heir), code, logOf(heir));
			assert.match(heir.stderr(), message);
			assert.equal(heir.stdout(), "");
			await dynasty.assertRules();
		}
		await dynasty.succeed();
		await finish();
		await dynasty.end();
	}));

test("a successor that cannot open or map what it is given leaves all as it was", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(...everything(dynasty));
		const finish = await startLoads(dynasty, 10);
		await sleep(1500); // it is not the first to connect
		const runtime = createRuntime();
		const options = { queues: 64, queueSize: 64, mode: "interrupt" } as const;
		const frontend = await connectFrontend(runtime, dynasty.path("ram"), {
			...{ ...options, memoryBytes: 2 * 1024 * MIB },
		});
		try {
			// It starts with half of either, which the front end's rings and memory are too much for.
			for (const limit of LIMITS) {
				const heir = dynasty.heir([], limit);
				assert.notEqual(await exitOf(heir), 0, logOf(heir));
				assert.match(heir.stderr(), /controller scsi: serves/, limit);
				await dynasty.assertRules();
				await frontend.readConfig(0, 8);
			}
			await dynasty.succeed();
			await frontend.readConfig(0, 8);
			await finish();
		} finally {
			await frontend.close();
			await runtime.close();
		}
		await dynasty.end();
	}));

test("without an instance there is nothing to take over", () =>
	withDynasty(async (dynasty) => {
		const takeover = ["serve", "--takeover", "-r", dynasty.rpcSocket];
		await failure(10, /no instance answers/, ...takeover);
		await dynasty.start();
		await dynasty.rpc("bdev_null_create", {
			...{ name: "n", block_size: 512, num_blocks: 8 },
		});
		const blk = { ctrlr: "b", dev_name: "n" };
		await dynasty.rpc("vhost_create_blk_controller", blk);
		await dynasty.rpc("bdev_null_delete", { name: "n" });
		await failure(5, /b has lost its bdev/, ...takeover);
		await assert.rejects(
			dynasty.rpc("vhostctl_take_over", { format: 9999 }),
			/format/,
		);
		await dynasty.assertRules();
		await dynasty.end();
	}));

test("meanwhile what changes something is refused, and what tells something is not", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start();
		await breakOff(dynasty, async (link) => {
			await discard(link);
			const create = { name: "n", block_size: 512, num_blocks: 8 };
			await assert.rejects(
				dynasty.rpc("bdev_null_create", create),
				/being taken over/,
			);
			await dynasty.rpc("bdev_get_bdevs");
			await assert.rejects(
				dynasty.rpc("vhostctl_take_over", { format: FORMAT }),
				/another instance takes over/,
			);
		});
		await waitUntil(
			() => /not taken over, goes on/.test(dynasty.ruler.stderr()),
			10_000,
			() => "it goes on",
		);
		await dynasty.rpc("bdev_null_create", {
			...{ name: "n", block_size: 512, num_blocks: 8 },
		});
		sendSignal(dynasty.ruler, "SIGTERM");
		assert.equal(await exitOf(dynasty.ruler), 0);
	}));

test("a running instance that dies on the way leaves everything to its successor", () =>
	withDynasty(async (dynasty) => {
		const before = footprint();
		await dynasty.start(...everything(dynasty));
		const options = ["--inflight", "--reconnect", "20"];
		const load = startLoad(dynasty.path("ram"), 5, ...options);
		await sleep(1500);
		const old = dynasty.ruler;
		const { engine, control } = await takeOver({
			path: dynasty.rpcSocket,
			anew: {},
			kill: () => {},
			extend: async () => {
				process.kill(old.pid, "SIGKILL");
				await old.exited;
			},
		});
		try {
			await load.finish();
			assert.deepEqual(
				engine.controllers().map(({ name }) => name),
				["ram", "scsi"],
			);
		} finally {
			await control.close();
			await engine.close();
		}
		await assertNoLeak(before);
	}));

test("a successor that dies with the guests leaves them to the one before it", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(...everything(dynasty));
		const options = ["--inflight", "--reconnect", "20"];
		const load = startLoad(dynasty.path("ram"), 6, ...options);
		await sleep(1500);
		await breakOff(dynasty, async (link) => {
			const { document, fds } = await link.receive(10_000);
			await link.send({});
			await discard(link);
			const { token } = document as Estate;
			assert(native.eventfdTake(fds[token] ?? -1));
			// Its control socket is where its predecessor's was.
			const server = createServer().listen(`${dynasty.rpcSocket}.0000`);
			await once(server, "listening");
			renameSync(`${dynasty.rpcSocket}.0000`, dynasty.rpcSocket);
			server.close();
			for (const fd of fds) native.fdClose(fd);
		});
		await waitUntil(
			() => dynasty.ruler.stderr().includes("goes on"),
			10_000,
			() => `it goes on${logOf(dynasty.ruler)}`,
		);
		await dynasty.assertRules();
		await load.finish();
		await dynasty.succeed();
		await dynasty.end();
	}));

test("an engine in a process with others is taken over from, and leaves nothing", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(...everything(dynasty));
		const finish = await startLoads(dynasty, 5);
		await sleep(1000);
		const old = dynasty.ruler;
		const anew = {};
		const extend = async () => {};
		const path = dynasty.rpcSocket;
		const first = await takeOver({ path, anew, extend, kill: () => {} });
		assert.equal(await exitOf(old), 0);
		const heir = dynasty.heir();
		await first.control.handedOver;
		await first.control.close();
		await leaveEngine(first.engine);
		assert(await isReady(heir, path), logOf(heir));
		dynasty.crown(heir);
		await finish();
		await dynasty.end();
	}));

test(`whoever is killed at a random moment, ${ROUNDS} times: requests go on, none is lost`, () =>
	withDynasty(async (dynasty) => {
		const image = makeImage(dynasty);
		const objects = [
			...["--bdev", `file:name=file,path=${image}`, "--blk", "file=file"],
		];
		await dynasty.start(...objects);
		const options = ["--inflight", "--reconnect", "30"];
		const load = startLoad(dynasty.path("file"), 4 * ROUNDS, ...options);
		await sleep(1000);
		const ends: string[] = [];
		for (let round = 0; round < ROUNDS && load.process.alive(); round++) {
			const old = dynasty.ruler;
			const heir = dynasty.heir();
			await waitUntil(
				() => old.stderr().includes("a successor takes over"),
				20_000,
				() => `the takeover begins${logOf(old)}${logOf(heir)}`,
			);
			await sleep(Math.random() * 250);
			const [victim, other] = round % 2 === 0 ? [heir, old] : [old, heir];
			if (victim.alive()) process.kill(victim.pid, "SIGKILL");
			await victim.exited;
			if (other === heir) await isReady(heir, dynasty.rpcSocket);
			else await sleep(500); // it notices
			const goesOn = other.alive();
			ends.push(`${victim === heir ? "new" : "old"} killed: ${goesOn}`);
			if (goesOn) dynasty.crown(other);
			else await dynasty.start(...objects);
			await dynasty.assertRules();
		}
		assert(ends.length > ROUNDS / 2);
		await load.finish();
		console.log(ends.join(", "));
		await dynasty.end();
	}));
