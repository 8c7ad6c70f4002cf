// SPDX-License-Identifier: MIT
// The log of `vhostctl serve` as its readers see it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createConnection } from "node:net";
import process from "node:process";
import { test } from "node:test";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import {
	encodeAddress,
	encodeFdIndex,
	encodeMemory,
	encodeState,
} from "../../src/engine/vhost-user/codec.ts";
import { native, PAGES_SHARED, type Pages } from "../../src/ffi/native.ts";
import { attachedTo, failure } from "../support/cli.ts";
import {
	type Instance,
	rpcCall,
	startInstance,
	vhostctl,
} from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { ack, negotiate, say } from "../support/session-rig.ts";
import { makePeer, type RawPeer } from "../support/vhost-user.ts";

const PATIENCE_MS = 20_000;
const DISK = ["--bdev", "malloc:name=a,size=1M", "--blk", "vm0=a"];

interface Line {
	readonly time: string;
	readonly level: string;
	readonly msg: string;
	readonly controller?: string;
	readonly session?: number;
	readonly ring?: number;
	readonly bdev?: string;
	readonly component?: string;
	readonly kind?: string;
	readonly code?: string;
	readonly repeated?: number;
}

/** What is looked at of vhostctl_get_stats. */
interface GuestStats {
	readonly controllers: readonly {
		readonly sessions: readonly {
			readonly rings: readonly {
				readonly malformed: number;
				readonly ops: { readonly other: { readonly errors: number } };
			}[];
		}[];
	}[];
}

/** What a server has written so far: each line is an object. */
function linesOf({ process: { stderr } }: Instance): Line[] {
	const whole = stderr().slice(0, stderr().lastIndexOf("\n") + 1);
	return whole
		.split("\n")
		.slice(0, -1)
		.map((line) => JSON.parse(line));
}

/** How often it happened, as lines tell. */
function total(lines: readonly Line[]): number {
	return lines.reduce((sum, { repeated = 0 }) => sum + 1 + repeated, 0);
}

/** Runs `work` with an instance that logs as JSON; gives all that it logged to its end. */
async function logged(
	args: readonly string[],
	work: (server: Instance, connect: () => RawPeer) => Promise<void>,
): Promise<Line[]> {
	const server = await startInstance(["--log-format", "json", ...args]);
	let runtime: Runtime | undefined;
	const connect = () => {
		runtime ??= createRuntime();
		const fd = native.socketConnect(server.socket("vm0"));
		const peer = makePeer(runtime.adopt(fd));
		native.fdClose(fd);
		return peer;
	};
	try {
		await work(server, connect);
	} finally {
		await runtime?.close();
		await server.stop();
	}
	return linesOf(server);
}

test("each line is an object, and names the controller that it is about", async () => {
	const lines = await logged(DISK, async (_, connect) => {
		const peer = connect();
		await negotiate(peer);
		await peer.close();
	});
	for (const { time, level, msg } of lines) {
		assert(Math.abs(Date.parse(time) - Date.now()) < 60_000, time);
		assert.match(level, /^(error|warning|notice|info|debug)$/);
		assert.equal(typeof msg, "string");
	}
	const about = lines.filter(({ controller }) => controller === "vm0");
	const tell = about.map(({ kind, session }) => [kind, session]);
	assert.deepEqual(tell, [
		[undefined, undefined], // serves at
		["connected", 1],
		["ended", 1],
		[undefined, undefined], // deleted
	]);
	const disk = lines.filter(({ bdev }) => bdev === "a");
	assert.match(disk[0]?.msg ?? "", /^Malloc disk, /);
	assert.equal(lines.at(-1)?.level, "notice");
});

test("levels and flags change while it runs, by any client", async () => {
	await logged(DISK, async (server, connect) => {
		const cli = attachedTo(server);
		const debug = (component: string) =>
			linesOf(server).filter((line) => line.component === component).length;
		assert.equal(await server.rpc("log_get_level"), "INFO");
		assert.equal(await server.rpc("log_get_print_level"), "INFO");
		assert.equal(debug("rpc"), 0);
		assert.equal(
			await cli("rpc", "log_set_print_level", '{"level": "DEBUG"}'),
			"true\n",
		);
		assert.equal(await server.rpc("log_get_level"), "DEBUG");
		assert(debug("rpc") > 0);
		assert.equal(await server.rpc("log_clear_flag", { flag: "RPC" }), true);
		const calls = debug("rpc");
		assert.deepEqual(await server.rpc("log_get_flags"), {
			rpc: false,
			takeover: true,
			vhost: true,
			vhost_ring: true,
		});
		assert.equal(debug("rpc"), calls);
		const peer = connect();
		await negotiate(peer);
		await peer.close();
		const asked = linesOf(server).filter(({ msg }) =>
			msg.startsWith("SET_FEATURES: "),
		);
		assert.deepEqual(
			asked.map(({ controller, component }) => [controller, component]),
			[["vm0", "vhost"]],
		);
		assert.equal(await server.rpc("log_set_flag", { flag: "all" }), true);
		await assert.rejects(
			server.rpc("log_set_flag", { flag: "nvme" }),
			/there is no log flag 'nvme'/,
		);
		assert.equal(await server.rpc("log_set_level", { level: "ERROR" }), true);
		const before = linesOf(server).length;
		await assert.rejects(server.rpc("no_such_method"));
		assert.equal(await server.rpc("log_get_print_level"), "ERROR");
		assert.equal(linesOf(server).length, before);
	});
});

test("a mistake that is made a thousand times takes few lines, with the count and the reason", async () => {
	const times = 1000;
	const lines = await logged(DISK, async (_, connect) => {
		const peer = connect();
		await negotiate(peer);
		for (let i = 0; i < times; i++) assert.equal(await ack(peer, 19), 1n); // SEND_RARP
		await peer.close();
	});
	const mistakes = lines.filter(({ level }) => level === "warning");
	assert(mistakes.length <= 10, `${mistakes.length} lines`);
	assert.equal(total(mistakes), times);
	for (const { controller, session, kind, code, msg } of mistakes) {
		assert.deepEqual(
			{ controller, session, kind, code },
			{
				controller: "vm0",
				session: 1,
				kind: "message-SEND_RARP",
				code: "E_UNSUPPORTED",
			},
		);
		assert.match(msg, /^SEND_RARP: .*this is no network device$/);
	}
});

/** Sets ring 0 up in pages, kicked, as a driver that has corrupted it already. */
async function breakRing(peer: RawPeer, pages: Pages): Promise<void> {
	const { addr, fd, size } = pages;
	const place = { desc: addr, avail: addr + 4096n, used: addr + 8192n };
	// An available index that is further ahead than the ring is long.
	native.copyIn(place.avail + 2n, Buffer.from([0xe8, 3]));
	const region = { gpa: 0n, userAddr: addr, size, offset: 0n };
	await say(peer, "SET_MEM_TABLE", encodeMemory([region]), [fd]);
	await say(peer, "SET_VRING_NUM", encodeState({ index: 0, num: 8 }));
	await say(peer, "SET_VRING_BASE", encodeState({ index: 0, num: 0 }));
	const address = encodeAddress({ index: 0, flags: 0, log: 0n, ...place });
	await say(peer, "SET_VRING_ADDR", address);
	const [kick, err] = [native.eventfd(), native.eventfd()];
	await say(peer, "SET_VRING_ERR", encodeFdIndex(0, true), [err]);
	await say(peer, "SET_VRING_KICK", encodeFdIndex(0, true), [kick]);
	native.eventfdSignal(kick);
	await waitUntil(
		async () => native.eventfdTake(err),
		PATIENCE_MS,
		() => "the ring is broken",
	);
	for (const fd of [kick, err]) native.fdClose(fd);
}

test("a ring that is broken again and again is told of with the reason", async () => {
	const times = 30;
	const pages = native.pagesAlloc({
		size: 1n << 20n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	const lines = await logged(DISK, async (_, connect) => {
		for (let i = 0; i < times; i++) {
			const peer = connect();
			await negotiate(peer);
			await breakRing(peer, pages);
			await peer.close();
		}
	});
	native.pagesFree(pages);
	const broken = lines.filter(({ kind }) => kind === "ring-broken-avail-index");
	assert.equal(total(broken), times);
	assert(broken.length <= 5, `${broken.length} lines`);
	for (const { controller, session, ring, level, msg } of broken) {
		assert.deepEqual([level, controller, ring], ["warning", "vm0", 0]);
		assert.equal(typeof session, "number");
		assert.match(msg, /^broken: the available index is further ahead than/);
	}
});

/** Sets ring 0 up with 1024 entries of which so many are offered, and none is in the memory. */
async function offerNonsense(
	peer: RawPeer,
	{ addr, fd, size }: Pages,
	count: number,
): Promise<void> {
	const place = { desc: addr, avail: addr + 16384n, used: addr + 24576n };
	const descriptor = Buffer.alloc(16);
	descriptor.writeBigUInt64LE(size, 0);
	descriptor.writeUInt32LE(512, 8);
	const heads = Buffer.alloc(4 + 2 * count);
	heads.writeUInt16LE(count, 2);
	for (let i = 0; i < count; i++) {
		native.copyIn(place.desc + 16n * BigInt(i), descriptor);
		heads.writeUInt16LE(i, 4 + 2 * i);
	}
	native.copyIn(place.avail, heads);
	const region = { gpa: 0n, userAddr: addr, size, offset: 0n };
	await say(peer, "SET_MEM_TABLE", encodeMemory([region]), [fd]);
	await say(peer, "SET_VRING_NUM", encodeState({ index: 0, num: 1024 }));
	await say(peer, "SET_VRING_BASE", encodeState({ index: 0, num: 0 }));
	const address = encodeAddress({ index: 0, flags: 0, log: 0n, ...place });
	await say(peer, "SET_VRING_ADDR", address);
	const kick = native.eventfd();
	await say(peer, "SET_VRING_KICK", encodeFdIndex(0, true), [kick]);
	native.eventfdSignal(kick);
	native.fdClose(kick);
	const used = () => native.copyOut(place.used + 2n, 2).readUInt16LE();
	await waitUntil(
		async () => used() === count,
		PATIENCE_MS,
		() => `${used()} requests came back`,
	);
}

test("a thousand malformed requests are counted, and told of in a few lines", async () => {
	const times = 1000;
	const pages = native.pagesAlloc({
		size: 1n << 20n,
		pageSize: 4096n,
		flags: PAGES_SHARED,
	});
	const lines = await logged(DISK, async (server, connect) => {
		const peer = connect();
		await negotiate(peer);
		await offerNonsense(peer, pages, times);
		const stats = await server.rpc("vhostctl_get_stats", { name: "vm0" });
		const { rings } = (stats as GuestStats).controllers[0]?.sessions[0] ?? {};
		assert.equal(rings?.[0]?.malformed, times);
		assert.equal(rings?.[0]?.ops.other.errors, times);
		const exposition = await server.rpc("vhostctl_get_metrics");
		assert.match(
			JSON.stringify(exposition),
			/vhostctl_ring_malformed_requests_total\{[^}]*vm0[^}]*\} 1000\b/,
		);
		await peer.close();
	});
	native.pagesFree(pages);
	const told = lines.filter(({ level }) => level === "warning");
	assert(told.length >= 1 && told.length <= 5, `${told.length} lines`);
	for (const { controller, session, ring } of told)
		assert.deepEqual([controller, session, ring], ["vm0", 1, 0]);
	assert.equal(told[0]?.kind, "request-malformed-address");
	assert.match(
		told[0]?.msg ?? "",
		/^malformed request \(head \d+\): its chain is about memory that is not the guest's \(EFAULT\); \d+ so far$/,
	);
	assert.match(told.at(-1)?.msg ?? "", /; 1000 so far$/);
});

test("a front end that connects and fails in a loop takes few lines", async () => {
	const times = 150;
	const lines = await logged(DISK, async (_, connect) => {
		for (let i = 0; i < times; i++) {
			const peer = connect();
			// A version of the protocol that there is not.
			const message = Buffer.from([1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
			peer.sendBytes(message);
			await peer.closed;
		}
	});
	assert(lines.length < 50, `${lines.length} lines`);
	for (const kind of ["connected", "ended", "message-unknown"]) {
		const found = lines.filter((line) => line.kind === kind);
		assert.equal(total(found), times, kind);
		for (const { controller } of found) assert.equal(controller, "vm0");
	}
});

test("clients that break the protocol are told of, and counted", async () => {
	const times = 100;
	const lines = await logged([], async (server) => {
		const say = async (text: string) => {
			const socket = createConnection(server.rpcSocket);
			socket.on("error", () => {});
			socket.end(text);
			socket.resume();
			await once(socket, "close");
		};
		for (let i = 0; i < times; i++) await say("{]");
		for (let i = 0; i < times; i++) await say('{"id": 1}');
		for (let i = 0; i < times; i++)
			await rpcCall(server.rpcSocket, `method_${i}`).catch(() => {});
	});
	assert(lines.length < 60, `${lines.length} lines`);
	for (const [kind, reason] of [
		["rpc-parse", /^control socket: parse error: /],
		["rpc-request", /^control socket: invalid request: 'method' must be /],
		["rpc-unknown", /^method_\d+: there is no method 'method_\d+'$/],
	] as const) {
		const found = lines.filter((line) => line.kind === kind);
		assert.equal(total(found), times, kind);
		for (const { msg } of found) assert.match(msg, reason);
	}
});

test("a reader of the log that stands still, or goes, holds nothing up", async () => {
	const dir = makeTempDir();
	const own = ["-S", dir, "-r", `${dir}/rpc.sock`, "--log-level", "debug"];
	const [command, args] = vhostctl("serve", ...own);
	// Its standard error is a pipe that nobody reads.
	const server = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
	try {
		server.stderr.pause();
		server.stdout.resume();
		const call = () => rpcCall(`${dir}/rpc.sock`, "log_get_level");
		const answers = () =>
			call().then(
				() => true,
				() => false,
			);
		await waitUntil(answers, PATIENCE_MS, () => "it answers");
		// More than a pipe and its reader's buffers hold.
		const more = '{"jsonrpc": "2.0", "method": "log_get_flags"}'.repeat(6000);
		const socket = createConnection(`${dir}/rpc.sock`);
		socket.end(more);
		socket.resume();
		await once(socket, "close");
		assert.equal(await call(), "DEBUG");
		server.stderr.destroy();
		await once(server.stderr, "close");
		for (let i = 0; i < 10; i++) assert.equal(await call(), "DEBUG");
		// kill() of the child would have Deno tell the signal instead of the code.
		process.kill(server.pid ?? 0, "SIGTERM");
		const [code] = await once(server, "exit");
		assert.equal(code, 0);
	} finally {
		server.kill("SIGKILL");
		removeTempDir(dir);
	}
});

test("formats that are none are refused", async () => {
	await failure(2, /--log-format/, "serve", "--log-format", "xml");
});
