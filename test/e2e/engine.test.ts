// SPDX-License-Identifier: MIT
// The engine end to end: bdevs behind controllers, driven from the sockets' other ends.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import {
	closeSync,
	existsSync,
	openSync,
	readFileSync,
	statSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { allowedCpus } from "../../src/engine/engine.ts";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import { decodeBlkConfig } from "../../src/engine/virtio/blk-config.ts";
import { VIRTIO_BLK_F } from "../../src/engine/virtio/features.ts";
import {
	request,
	S_IOERR,
	S_OK,
	S_UNSUPP,
	T_FLUSH,
	T_GET_ID,
	T_IN,
	T_OUT,
} from "../support/disk-io.ts";
import {
	assertNoLeak,
	fails,
	footprint,
	startTestEngine,
	type TestEngine,
} from "../support/engine.ts";
import { waitUntil, within } from "../support/processes.ts";

const IN_TIME = 10_000;
const MIB = 1024 * 1024;

let t: TestEngine;
let runtime: Runtime;
let frontends: Frontend[];

beforeEach(async () => {
	t = await startTestEngine({ cpus: allowedCpus() });
	runtime = createRuntime();
	frontends = [];
});
afterEach(async () => {
	for (const frontend of frontends) await frontend.close();
	await runtime.close();
	await t.close();
});

async function attach(name: string, queues = 1): Promise<Frontend> {
	const frontend = await connectFrontend(runtime, t.engine.socketPath(name), {
		queues,
		queueSize: 128,
		memoryBytes: 4 * MIB,
		mode: "interrupt",
	});
	frontends.push(frontend);
	return frontend;
}

async function serveMalloc(name = "disk", blocks = 2048): Promise<void> {
	await t.engine.bdevs.createMalloc({
		name,
		blockSize: 512,
		numBlocks: blocks,
	});
	await t.engine.createBlkController({ name: `${name}.sock`, bdev: name });
}

function pattern(bytes: number, seed: number): Buffer {
	return Buffer.from(
		Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + seed) & 0xff),
	);
}

async function capacity(frontend: Frontend): Promise<number> {
	return Number((await frontend.readConfig(0, 8)).readBigUInt64LE());
}

test("what is written is read back, and told in the statistics", async () => {
	await serveMalloc();
	const disk = await attach("disk.sock");
	const data = pattern(8192, 7);
	assert.equal((await request(disk, T_OUT, 100, data)).status, S_OK);
	const back = await request(disk, T_IN, 100, 8192);
	assert.equal(back.status, S_OK);
	assert.deepEqual(back.data, data);
	assert.equal((await request(disk, T_FLUSH, 0)).status, S_OK);
	const id = await request(disk, T_GET_ID, 0, 20);
	assert.equal(id.data.toString().replace(/\0+$/, ""), "disk");
	assert.equal((await request(disk, T_IN, 2048, 512)).status, S_IOERR);
	assert.equal((await request(disk, 99, 0)).status, S_UNSUPP);

	const { bdevs } = await t.client.call("vhostctl_get_stats", { name: "disk" });
	assert.equal(bdevs[0]?.ops.write.bytes, 8192);
	assert.equal(bdevs[0]?.ops.read.bytes, 8192);
	assert.equal(bdevs[0]?.ops.flush.count, 1);
	assert((bdevs[0]?.ops.write.p50_ns ?? 0) > 0);
	const { controllers } = await t.client.call("vhostctl_get_stats", {
		name: "disk.sock",
	});
	const [ring] = controllers[0]?.sessions[0]?.rings ?? [];
	assert.equal(ring?.ops.write.count, 1);
	assert.equal(ring?.running, true);
	assert.equal(ring?.inflight, 0);
});

test("iostat counts from its last reset, reactor by reactor", async () => {
	await serveMalloc();
	const disk = await attach("disk.sock");
	await request(disk, T_OUT, 0, pattern(4096, 1));
	const iostat = async (params: object = {}) => {
		const stat = await t.client.call("bdev_get_iostat", params);
		assert("bdevs" in stat);
		return stat.bdevs[0];
	};
	const first = await iostat();
	assert.equal(first?.num_write_ops, 1);
	assert.equal(first?.bytes_written, 4096);
	assert((first?.min_write_latency_ticks ?? 0) > 0);
	await t.client.call("bdev_reset_iostat", { mode: "maxmin" });
	const second = await iostat({ reset_mode: "all" });
	assert.equal(second?.num_write_ops, 1, "maxmin keeps the counts");
	assert.equal(second?.max_write_latency_ticks, 0);
	await request(disk, T_IN, 0, 512);
	const third = await iostat();
	assert.equal(third?.num_write_ops, 0);
	assert.equal(third?.num_read_ops, 1);
	const split = await t.client.call("bdev_get_iostat", {
		names: ["disk"],
		per_channel: true,
	});
	assert("channels" in split);
	assert.equal(
		split.channels.reduce((sum, one) => sum + one.num_read_ops, 0),
		1,
	);
	await fails(
		t.client.call("bdev_get_iostat", { per_channel: true }),
		"E_INVALID",
		/names/,
	);
});

test("a histogram counts what came after it was enabled", async () => {
	await serveMalloc();
	const disk = await attach("disk.sock");
	const get = () => t.client.call("bdev_get_histogram", { name: "disk" });
	await fails(get(), "E_INVALID", /bdev_enable_histogram/);
	await request(disk, T_IN, 0, 512);
	await t.client.call("bdev_enable_histogram", {
		name: "disk",
		enable: true,
		opc: "read",
	});
	for (let i = 0; i < 3; i++) await request(disk, T_IN, i, 512);
	await request(disk, T_OUT, 0, pattern(512, 1));
	const { histogram, granularity, min_range, max_range } = await get();
	const counts = Buffer.from(histogram, "base64");
	assert.equal(counts.length, ((max_range - min_range + 1) * 8) << granularity);
	let total = 0n;
	for (let at = 0; at < counts.length; at += 8) {
		total += counts.readBigUInt64LE(at);
	}
	assert.equal(total, 3n);
});

test("the configuration space says what the bdev is", async () => {
	await t.engine.bdevs.createNull({
		name: "n",
		blockSize: 4096,
		numBlocks: 1000,
		physicalBlockSize: 16384,
	});
	await t.engine.createBlkController({ name: "n.sock", bdev: "n" });
	const disk = await attach("n.sock");
	const config = decodeBlkConfig(disk.config);
	assert.equal(config.capacity, 8000n);
	assert.equal(config.blkSize, 4096);
	assert.equal(config.physicalBlockExp, 2);
	assert.equal(config.numQueues, 256);
	assert.equal(config.writeback, true);
	assert(config.maxDiscardSeg > 1);
	const whole = await disk.readConfig(0, 256);
	assert.deepEqual(whole.subarray(20, 24), await disk.readConfig(20, 4));
	await disk.writeConfig(32, Buffer.of(0));
	assert.equal((await disk.readConfig(32, 1)).readUInt8(), 0);
	await fails(disk.writeConfig(0, Buffer.of(1)), "E_PROTOCOL");
});

test("read-only: the guest is told, writes fail, readers share", async () => {
	await serveMalloc();
	await t.engine.deleteController("disk.sock");
	for (const name of ["a", "b"]) {
		await t.engine.createBlkController({ name, bdev: "disk", readonly: true });
	}
	const [a, b] = [await attach("a"), await attach("b")];
	for (const disk of [a, b]) {
		assert.notEqual(disk.features & VIRTIO_BLK_F.RO, 0n);
		assert.equal(disk.features & VIRTIO_BLK_F.DISCARD, 0n);
		assert.equal((await request(disk, T_IN, 0, 512)).status, S_OK);
		const refused = await request(disk, T_OUT, 0, pattern(512, 1));
		assert.equal(refused.status, S_IOERR);
	}
	await fails(
		t.engine.createBlkController({ name: "w", bdev: "disk" }),
		"E_BUSY",
		/claimed by controller a/,
	);
});

test("several front ends share a controller; each sees the others' writes", async () => {
	await serveMalloc();
	const [a, b] = [await attach("disk.sock"), await attach("disk.sock")];
	const data = pattern(4096, 3);
	await request(a, T_OUT, 8, data);
	assert.deepEqual((await request(b, T_IN, 8, 4096)).data, data);
	const [controller] = await t.client.call("vhost_get_controllers", {});
	assert.equal(controller?.sessions.length, 2);
	assert(controller?.sessions.every((session) => session.started));
});

test("queues of one controller spread over the reactors", async () => {
	await serveMalloc();
	const queues = t.engine.reactors.length * 2;
	const disk = await attach("disk.sock", queues);
	for (let i = 0; i < queues; i++) {
		assert.equal((await request(disk, T_IN, i, 512, i)).status, S_OK);
	}
	assert.deepEqual(
		t.engine.reactors.map((reactor) => reactor.rings),
		t.engine.reactors.map(() => 2),
	);
	await disk.close();
	frontends = [];
	const rings = () => t.engine.reactors.reduce((n, r) => n + r.rings, 0);
	await waitUntil(
		() => rings() === 0,
		IN_TIME,
		() => "the rings stop",
	);
});

for (const [from, to] of [
	[2048, 8192],
	[2048, 1024],
	[2048, 400_000],
] as const) {
	test(`a live resize from ${from} to ${to} blocks keeps the data and is seen`, async () => {
		await serveMalloc("disk", from);
		const disk = await attach("disk.sock");
		const changed = new Promise<void>((resolve) =>
			disk.onConfigChange(resolve),
		);
		const data = pattern(4096, 9);
		await request(disk, T_OUT, 64, data);
		await t.engine.bdevs.resize("disk", to);
		await within(changed, IN_TIME, () => "CONFIG_CHANGE_MSG");
		assert.equal(await capacity(disk), to);
		assert.deepEqual((await request(disk, T_IN, 64, 4096)).data, data);
		assert.equal((await request(disk, T_IN, to - 8, 4096)).status, S_OK);
		assert.equal((await request(disk, T_IN, to, 512)).status, S_IOERR);
	});
}

test("a file that grows is seen after a rescan, and keeps what was written", async () => {
	const filename = join(t.dir, "disk.img");
	writeFileSync(filename, Buffer.alloc(MIB));
	await t.engine.bdevs.createFile({ driver: "uring", name: "f", filename });
	await t.engine.createBlkController({ name: "f.sock", bdev: "f" });
	const disk = await attach("f.sock");
	const data = pattern(4096, 5);
	assert.equal((await request(disk, T_OUT, 8, data)).status, S_OK);
	truncateSync(filename, 2 * MIB);
	await t.client.call("bdev_uring_rescan", { name: "f" });
	assert.equal(await capacity(disk), 4096);
	assert.equal((await request(disk, T_OUT, 4088, data)).status, S_OK);
	assert.equal((await request(disk, T_FLUSH, 0)).status, S_OK);
	const bytes = readFileSync(filename);
	assert.deepEqual(bytes.subarray(4096, 8192), data);
	assert.deepEqual(bytes.subarray(2 * MIB - 4096), data);
});

test("a bdev deleted under I/O: requests fail, the front end lives, the name is free", async () => {
	await serveMalloc();
	const disk = await attach("disk.sock");
	let stop = false;
	const statuses: number[] = [];
	const load = (async () => {
		while (!stop) statuses.push((await request(disk, T_IN, 0, 4096)).status);
	})();
	await waitUntil(
		() => statuses.length > 5,
		IN_TIME,
		() => "I/O",
	);
	await t.client.call("bdev_malloc_delete", { name: "disk" });
	await waitUntil(
		() => statuses.at(-1) === S_IOERR,
		IN_TIME,
		() => "errors",
	);
	stop = true;
	await load;
	assert.equal(statuses[0], S_OK);
	assert.equal(await capacity(disk), 0);
	const [controller] = await t.client.call("vhost_get_controllers", {});
	assert.deepEqual(controller?.backend_specific, {
		block: { readonly: false, bdev: null, transport: "vhost_user_blk" },
	});
	await t.engine.bdevs.createMalloc({
		name: "disk",
		blockSize: 512,
		numBlocks: 8,
	});
	const late = await attach("disk.sock");
	assert.equal(await capacity(late), 0);
	assert.equal((await request(late, T_IN, 0, 512)).status, S_IOERR);
});

test("a controller in use is busy; let go, it can be deleted", async () => {
	await serveMalloc();
	const disk = await attach("disk.sock");
	const path = t.engine.socketPath("disk.sock");
	await fails(
		t.client.call("vhost_delete_controller", { ctrlr: "disk.sock" }),
		"E_BUSY",
		/front end connected/,
	);
	assert.equal((await request(disk, T_IN, 0, 512)).status, S_OK);
	const deleted = t.client.call("vhost_delete_controller", {
		ctrlr: "disk.sock",
	});
	await disk.close();
	frontends = [];
	assert.equal(await deleted, true);
	assert.equal(existsSync(path), false);
	const [bdev] = await t.client.call("bdev_get_bdevs", { name: "disk" });
	assert.equal(bdev?.claimed, false);
});

test("names, masks and paths that make no controller are refused", async () => {
	await t.engine.bdevs.createNull({ name: "n", blockSize: 512, numBlocks: 8 });
	const create = (name: string, more: object = {}) =>
		t.engine.createBlkController({ name, bdev: "n", ...more });
	for (const name of [
		"",
		".",
		"..",
		"a/b",
		"/a",
		"../a",
		"a\0b",
		"x".repeat(200),
	]) {
		await fails(create(name), "E_INVALID");
	}
	await fails(create("a", { cpus: [4000] }), "E_INVALID", /4000/);
	await fails(create("a", { cpus: [0, 4000] }), "E_INVALID", /4000/);
	await fails(create("a", { cpus: [] }), "E_INVALID");
	await fails(create("a", { bdev: "none" }), "E_NOT_FOUND", /none/);
	await create("a");
	await fails(create("a"), "E_EXISTS");
	assert.equal(statSync(t.engine.socketPath("a")).mode & 0o777, 0o600);
	assert.deepEqual(
		t.engine.controllers().map(({ name }) => name),
		["a"],
	);
	assert.throws(() => t.engine.controllers("b"), /no controller b/);
	await fails(t.engine.deleteController("b"), "E_NOT_FOUND");
});

test("a path that somebody uses is left alone, and the bdev unclaimed", async () => {
	await t.engine.bdevs.createNull({ name: "n", blockSize: 512, numBlocks: 8 });
	const live = createServer().listen(t.engine.socketPath("live"));
	await once(live, "listening");
	const create = (name: string) =>
		t.engine.createBlkController({ name, bdev: "n" });
	await fails(create("live"), "E_BUSY", /listens there/);
	await new Promise((resolve) => live.close(resolve));
	closeSync(openSync(t.engine.socketPath("file"), "w"));
	await fails(create("file"), "E_EXISTS");
	await create("free");
});

test("an engine closes under I/O and leaves nothing behind", async () => {
	const start = footprint();
	for (let round = 0; round < 3; round++) {
		const other = await startTestEngine({ mode: "interrupt" });
		await other.engine.bdevs.createMalloc({ blockSize: 512, numBlocks: 2048 });
		await other.engine.createBlkController({ name: "c", bdev: "Malloc0" });
		const options = { queues: 2, queueSize: 64, memoryBytes: MIB };
		const disk = await connectFrontend(runtime, join(other.dir, "c"), {
			...options,
			mode: "interrupt",
		});
		assert.equal((await request(disk, T_IN, 0, 512)).status, S_OK);
		await other.close();
		await within(disk.closed, IN_TIME, () => "the connection's end");
		await disk.close();
		await fails(
			other.engine.createBlkController({ name: "d", bdev: "Malloc0" }),
			"E_BUSY",
		);
	}
	await assertNoLeak(start);
});

test("a processor that is not ours makes no reactor", async () => {
	await fails(startTestEngine({ cpus: [4000] }), "E_INVALID", /4000/);
	await fails(startTestEngine({ cpus: [] }), "E_INVALID");
});
