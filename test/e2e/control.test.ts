// SPDX-License-Identifier: MIT
// The control socket as its clients see it: well-behaved ones, and others.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
	chmodSync,
	existsSync,
	linkSync,
	statSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { createServer, connect as dial, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import * as v from "valibot";
import { connect } from "../../src/engine/control/client.ts";
import { METHODS, type MethodName } from "../../src/engine/control/schema.ts";
import { startControl } from "../../src/engine/control/server.ts";
import {
	assertNoLeak,
	fails,
	footprint,
	startTestEngine,
	type TestEngine,
} from "../support/engine.ts";
import { waitUntil, within } from "../support/processes.ts";

const IN_TIME = 10_000;

let t: TestEngine;
before(async () => {
	t = await startTestEngine();
});
after(() => t.close());

/** A client that sends any bytes. */
interface Raw {
	readonly socket: Socket;
	send(text: string): void;
	/** What came so far. */
	text(): string;
	/** The next response, parsed. */
	next(): Promise<Record<string, unknown>>;
	/** Resolves when the server has hung up. */
	closed: Promise<unknown>;
}

async function raw(): Promise<Raw> {
	const socket = dial({ path: t.control.path, allowHalfOpen: true });
	await once(socket, "connect");
	let all = "";
	let taken = 0;
	socket.setEncoding("utf8").on("data", (data: string) => {
		all += data;
	});
	socket.on("error", () => {});
	return {
		socket,
		send: (text) => void socket.write(text),
		text: () => all,
		async next() {
			const hasLine = () => all.indexOf("\n", taken) >= 0;
			await waitUntil(hasLine, IN_TIME, () => `a response after ${all}`);
			const end = all.indexOf("\n", taken);
			const line = all.slice(taken, end);
			taken = end + 1;
			return JSON.parse(line);
		},
		closed: new Promise((resolve) => {
			socket.once("end", resolve).once("close", resolve);
		}),
	};
}

async function withRaw(work: (client: Raw) => Promise<void>): Promise<void> {
	const client = await raw();
	try {
		await work(client);
	} finally {
		client.socket.destroy();
	}
}

async function assertAlive(): Promise<void> {
	const { version } = await within(
		t.client.call("spdk_get_version", {}),
		IN_TIME,
		() => "an answer",
	);
	assert.match(version, /^vhostctl v\d/);
}

const VERSION = '{"jsonrpc":"2.0","id":1,"method":"spdk_get_version"}';

test("the socket belongs to this user alone", () => {
	assert.equal(statSync(t.control.path).mode & 0o777, 0o600);
});

test("another user is refused even where the socket's mode lets them in", async () => {
	// Only root can be another user; nobody else could test more than the mode above.
	if (process.getuid?.() !== 0 || "Deno" in globalThis) return assertAlive();
	const { mode } = statSync(t.control.path);
	chmodSync(t.dir, 0o711);
	chmodSync(t.control.path, 0o666);
	const script = `
		const socket = require("net").connect(${JSON.stringify(t.control.path)});
		let connected = false;
		socket.on("connect", () => {
			connected = true;
			socket.write(${JSON.stringify(VERSION)});
		});
		socket.on("data", () => process.exit(1));
		socket.on("error", () => process.exit(connected ? 0 : 2));
		socket.on("close", () => process.exit(0));`;
	const child = spawn(process.execPath, ["-e", script], {
		uid: 65534,
		stdio: "ignore",
	});
	const [code] = await within(once(child, "exit"), IN_TIME, () => "its end");
	chmodSync(t.control.path, mode & 0o777);
	assert.equal(code, 0, "hung up on, without an answer");
	await assertAlive();
});

test("requests back to back are each answered under their id", () =>
	withRaw(async (client) => {
		const ids = [1, "two", 3.5, null];
		client.send(
			ids
				.map((id) => JSON.stringify({ id, method: "spdk_get_version" }))
				.join(""),
		);
		const seen = new Set<unknown>();
		for (const _ of ids) seen.add((await client.next()).id);
		assert.deepEqual(seen, new Set(ids));
	}));

test("a request cut into single bytes is answered", () =>
	withRaw(async (client) => {
		for (const byte of VERSION) {
			client.send(byte);
			await new Promise((resolve) => setImmediate(resolve));
		}
		assert.equal((await client.next()).id, 1);
	}));

test("a slow request does not hold up a quick one", () =>
	withRaw(async (client) => {
		const params = { name: "slow", timeout: 60_000 };
		client.send(JSON.stringify({ id: 1, method: "bdev_get_bdevs", params }));
		client.send(JSON.stringify({ id: 2, method: "spdk_get_version" }));
		assert.equal((await client.next()).id, 2);
		await t.client.call("bdev_null_create", {
			name: "slow",
			block_size: 512,
			num_blocks: 8,
		});
		assert.equal((await client.next()).id, 1);
		await t.client.call("bdev_null_delete", { name: "slow" });
	}));

test("a notification is carried out and not answered", () =>
	withRaw(async (client) => {
		const params = { name: "quiet", block_size: 512, num_blocks: 8 };
		client.send(JSON.stringify({ method: "bdev_null_create", params }));
		client.send(JSON.stringify({ method: "no_such_method" }));
		client.send(VERSION);
		assert.equal((await client.next()).id, 1);
		assert.equal(client.text().split("\n").length, 2);
		await t.client.call("bdev_null_delete", { name: "quiet" });
	}));

test("a batch is answered by one array; notifications in it are not", () =>
	withRaw(async (client) => {
		const batch = [
			{ id: 1, method: "spdk_get_version" },
			{ method: "rpc_get_methods" },
			{ id: 2, method: "nope" },
			5,
		];
		client.send(JSON.stringify(batch));
		const answer: unknown = await client.next();
		assert(Array.isArray(answer));
		const codes = answer.map((one) => [one.id, one.error?.code]);
		assert.deepEqual(codes, [
			[1, undefined],
			[2, -32601],
			[null, -32600],
		]);
		client.send(JSON.stringify([{ method: "rpc_get_methods" }]));
		for (const bad of [[], Array(129).fill(batch[0])]) {
			client.send(JSON.stringify(bad));
			const { error } = await client.next();
			assert.equal((error as { code: number }).code, -32600);
		}
	}));

const ENVELOPES: [string, number][] = [
	["5 ", -32600],
	['"text"', -32600],
	["null", -32600],
	["{}", -32600],
	['{"id":1}', -32600],
	['{"id":1,"method":5}', -32600],
	['{"id":{},"method":"spdk_get_version"}', -32600],
	['{"id":1,"method":"spdk_get_version","jsonrpc":"1.0"}', -32600],
	['{"id":1,"method":"spdk_get_version","extra":1}', -32600],
	['{"id":1,"method":"nope"}', -32601],
	['{"id":1,"method":"constructor"}', -32601],
	['{"id":1,"method":"__proto__"}', -32601],
	['{"id":1,"method":"spdk_get_version","__proto__":{"id":2}}', -32600],
	['{"id":1,"method":"spdk_get_version","params":{"x":1}}', -32602],
	['{"id":1,"method":"spdk_get_version","params":{"__proto__":{}}}', -32602],
	['{"id":1,"method":"spdk_get_version","params":[1]}', -32602],
	['{"id":1,"method":"spdk_get_version","params":"x"}', -32602],
	['{"id":1,"method":"bdev_get_bdevs","params":{"name":"nope"}}', -19],
];

for (const [text, code] of ENVELOPES) {
	test(`${text} is error ${code}, and the connection goes on`, () =>
		withRaw(async (client) => {
			client.send(text);
			const { error } = await client.next();
			assert.equal((error as { code: number }).code, code);
			client.send(VERSION);
			assert((await client.next()).result);
		}));
}

const BROKEN = [
	"}",
	"{]",
	"GET / HTTP/1.1\r\n\r\n",
	'{"id":1,"method":',
	"\u0000\u0001",
	"[".repeat(1000),
	'{"a":'.repeat(1000),
	`{"id":1,"method":"${"x".repeat(2 * 1024 * 1024)}`,
	" ".repeat(2 * 1024 * 1024),
];

for (const text of BROKEN) {
	test(`broken: ${JSON.stringify(text.slice(0, 20))} is -32700, then the end`, () =>
		withRaw(async (client) => {
			client.send(VERSION);
			client.send(text);
			client.socket.end();
			const first = await client.next();
			const second = await client.next();
			assert.equal(first.id, 1, "what was asked before is answered");
			assert.equal((second.error as { code: number }).code, -32700);
			await within(client.closed, IN_TIME, () => "the end");
			await assertAlive();
		}));
}

test("a client that stops writing still gets its answers", () =>
	withRaw(async (client) => {
		client.socket.end(VERSION + VERSION);
		await client.next();
		await client.next();
		await within(client.closed, IN_TIME, () => "the end");
	}));

test("clients that hang up in the middle harm nobody and leave nothing", async () => {
	await assertAlive();
	const start = footprint();
	for (let i = 0; i < 200; i++) {
		const client = await raw();
		const text = i % 2 ? VERSION.repeat(20) : VERSION.slice(0, i % 50);
		client.send(text);
		client.socket.destroy();
	}
	await assertAlive();
	await assertNoLeak(start);
});

test("a client that does not read is stopped, not stored", () =>
	withRaw(async (client) => {
		client.socket.pause();
		let taken = 0;
		let done = false;
		const request = '{"id":1,"method":"rpc_get_methods"}'.repeat(1000);
		const pour = () => {
			while (!done && client.socket.writableLength < 1e6) {
				client.socket.write(request, () => {
					taken += request.length;
				});
			}
		};
		const timer = setInterval(pour, 5);
		try {
			// Each request makes 20 times its size: the server must stop taking them.
			let last = -1;
			await waitUntil(
				async () => {
					const still = taken === last && taken > 0;
					last = taken;
					await new Promise((resolve) => setTimeout(resolve, 300));
					return still;
				},
				30_000,
				() => "the server stops reading",
			);
			assert(taken < 20e6, `${taken} bytes were taken`);
			await assertAlive();
		} finally {
			done = true;
			clearInterval(timer);
		}
	}));

test("random bytes and cut requests never end the server", async () => {
	let seed = 1;
	const random = (n: number) => {
		seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
		return seed % n;
	};
	for (let i = 0; i < 150; i++) {
		const client = await raw();
		const bytes = Array.from({ length: 1 + random(200) }, () =>
			random(3) ? VERSION.charCodeAt(random(VERSION.length)) : random(256),
		);
		client.socket.end(Uint8Array.from(bytes));
		await within(client.closed, IN_TIME, () => `the end after ${bytes}`);
		for (const line of client.text().split("\n").filter(Boolean)) {
			assert.equal(JSON.parse(line).jsonrpc, "2.0");
		}
		client.socket.destroy();
	}
	await assertAlive();
});

test("more clients than are served are hung up on; the others go on", async () => {
	const clients = await Promise.all(Array.from({ length: 80 }, raw));
	try {
		await assertAlive();
	} finally {
		for (const client of clients) client.socket.destroy();
	}
	await waitUntil(
		async () => {
			const client = await raw();
			client.send(VERSION);
			const answered = await Promise.race([
				client.next().then(() => true),
				client.closed.then(() => false),
			]);
			client.socket.destroy();
			return answered;
		},
		IN_TIME,
		() => "a place is free again",
	);
});

test("results are what the schema says", async () => {
	await t.client.call("bdev_malloc_create", {
		name: "shape",
		block_size: 512,
		num_blocks: 64,
	});
	await t.client.call("vhost_create_blk_controller", {
		ctrlr: "shape.0",
		dev_name: "shape",
	});
	await t.client.call("bdev_enable_histogram", { name: "shape", enable: true });
	const calls: [MethodName, Record<string, unknown>][] = [
		["rpc_get_methods", {}],
		["spdk_get_version", {}],
		["framework_get_reactors", {}],
		["thread_get_stats", {}],
		["bdev_get_bdevs", { name: "shape" }],
		["bdev_get_iostat", {}],
		["bdev_get_iostat", { names: ["shape"], per_channel: true }],
		["bdev_reset_iostat", {}],
		["bdev_get_histogram", { name: "shape" }],
		["vhost_get_controllers", {}],
		["vhostctl_get_stats", {}],
		["vhostctl_get_hugepages", {}],
		["bdev_malloc_resize", { name: "shape", new_size: 1 }],
		["bdev_malloc_delete", { name: "shape" }],
		["vhost_get_controllers", { name: "shape.0" }],
		["vhost_delete_controller", { ctrlr: "shape.0" }],
	];
	for (const [method, params] of calls) {
		const result: unknown = await t.client.call(method as string, params);
		v.parse(METHODS[method].result, result);
	}
});

test("spdk_kill_instance signals", async () => {
	const kill = t.client.call("spdk_kill_instance", { sig_name: "SIGTERM" });
	assert.equal(await kill, true);
	assert.deepEqual(t.signals.splice(0), ["SIGTERM"]);
	await fails(
		t.client.call("spdk_kill_instance" as string, { sig_name: "SIGSTOP" }),
		"E_INVALID",
		/sig_name/,
	);
});

test("nobody at the socket: the client says how to start one", async () => {
	const path = join(t.dir, "nobody.sock");
	await fails(connect(path), "E_CONNECT", /vhostctl serve -r/);
});

test("calls under way fail when the instance hangs up", async () => {
	const path = join(t.dir, "short.sock");
	const control = await startControl(t.engine, { path });
	const client = await connect(path);
	const params = { name: "never", timeout: 1000 };
	const call = client.call("bdev_get_bdevs", params);
	const failed = fails(call, "E_CONNECT", /hung up/);
	await client.call("spdk_get_version", {});
	await control.close();
	await failed;
	await fails(client.call("spdk_get_version", {}), "E_CONNECT");
	assert.equal(existsSync(path), false);
	assert.equal(existsSync(`${path}.lock`), false);
});

test("a second server on the path is refused", async () => {
	await fails(
		startControl(t.engine, { path: t.control.path }),
		"E_BUSY",
		/another instance/,
	);
	await assertAlive();
});

test("a socket that nobody listens on is taken over", async () => {
	const path = join(t.dir, "stale.sock");
	const gone = createServer().listen(path);
	await once(gone, "listening");
	// Closing would remove the file: a hard link to it is what a crash leaves.
	linkSync(path, `${path}.kept`);
	await new Promise((resolve) => gone.close(resolve));
	linkSync(`${path}.kept`, path);
	const control = await startControl(t.engine, { path });
	const client = await connect(path);
	await client.call("spdk_get_version", {});
	client.close();
	await control.close();
	unlinkSync(`${path}.kept`);
});

test("a live socket of somebody else, or a file, is left alone", async () => {
	const path = join(t.dir, "live.sock");
	const live = createServer((socket) => socket.destroy()).listen(path);
	await once(live, "listening");
	await fails(startControl(t.engine, { path }), "E_BUSY", /listens there/);
	await new Promise((resolve) => live.close(resolve));
	const file = join(t.dir, "file");
	writeFileSync(file, "text");
	await fails(startControl(t.engine, { path: file }), "E_EXISTS", /no socket/);
	const long = join(t.dir, "x".repeat(108));
	await fails(startControl(t.engine, { path: long }), "E_INVALID", /107/);
	assert.equal(existsSync(`${path}.lock`), false);
});
