// SPDX-License-Identifier: MIT
// vhost-user-scsi controllers from the control socket and the command line.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { existsSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import * as v from "valibot";
import { METHODS, type MethodName } from "../../src/engine/control/schema.ts";
import { createRuntime } from "../../src/engine/runtime.ts";
import { answer, attachedTo, failure, sendSignal } from "../support/cli.ts";
import { fails, startTestEngine, type TestEngine } from "../support/engine.ts";
import { type Instance, startInstance, vhostctl } from "../support/instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "../support/processes.ts";
import { assertGood } from "../support/scsi-bench.ts";
import { connectScsiGuest, type ScsiGuest } from "../support/scsi-guest.ts";

const PATIENCE_MS = 20_000;
const MIB = 1024 * 1024;

let t: TestEngine;
let instance: Instance;
let attached: (...args: string[]) => Promise<string>;
before(async () => {
	t = await startTestEngine();
	instance = await startInstance([
		...["--bdev", "malloc:name=ram,size=16M,block-size=4K"],
		...["--bdev", "null:name=null,size=1G", "--bdev", "null:name=n2,size=1M"],
		...["--scsi", "vm0,cpumask=0x1", "--scsi", "vm0=ram"],
		...["--scsi", "vm0=null,target=200,lun=255", "--scsi", "empty"],
	]);
	attached = attachedTo(instance);
});
after(async () => {
	await instance.stop();
	await t.close();
});
afterEach(async () => {
	for (const controller of t.engine.controllers())
		await t.engine.deleteController(controller.name);
	for (const { name } of t.engine.bdevs.list())
		await t.engine.bdevs.delete(name);
});

/** Calls a method of SPDK's, and checks the result's shape. */
async function call(
	method: MethodName,
	params: Record<string, unknown> = {},
): Promise<unknown> {
	const result: unknown = await t.client.call(method as string, params);
	v.parse(METHODS[method].result, result);
	return result;
}

async function makeNull(...names: string[]): Promise<void> {
	for (const name of names)
		await call("bdev_null_create", { name, block_size: 512, num_blocks: 64 });
}

const create = (ctrlr: string, more: object = {}) =>
	call("vhost_create_scsi_controller", { ctrlr, ...more });
const add = (scsi_target_num: number, bdev_name: string, more: object = {}) =>
	call("vhost_scsi_controller_add_target", {
		ctrlr: "c",
		scsi_target_num,
		bdev_name,
		...more,
	});
const remove = (scsi_target_num: number, more: object = {}) =>
	call("vhost_scsi_controller_remove_target", {
		ctrlr: "c",
		scsi_target_num,
		...more,
	});

interface Target {
	readonly scsi_dev_num: number;
	readonly id: number;
	readonly target_name: string;
	readonly luns: readonly { id: number; bdev_name: string }[];
}

async function targets(name = "c"): Promise<readonly Target[]> {
	const [found] = (await call("vhost_get_controllers", { name })) as [
		{ backend_specific: { scsi: readonly Target[] } },
	];
	return found.backend_specific.scsi;
}

test("a controller and its targets are told as SPDK tells them", async () => {
	await makeNull("a", "b");
	assert.equal(await create("c", { cpumask: "0x1" }), true);
	assert(existsSync(t.engine.socketPath("c")));
	assert.deepEqual(await call("vhost_get_controllers", { name: "c" }), [
		{
			ctrlr: "c",
			cpumask: "0x1",
			delay_base_us: 0,
			iops_threshold: 60000,
			socket: t.engine.socketPath("c"),
			sessions: [],
			backend_specific: { scsi: [] },
		},
	]);
	assert.equal(await add(2, "a"), 2);
	assert.equal(await add(-1, "b"), 0);
	assert.deepEqual(await targets(), [
		{
			scsi_dev_num: 0,
			id: 1,
			target_name: "Target 0",
			luns: [{ id: 0, bdev_name: "b" }],
		},
		{
			scsi_dev_num: 2,
			id: 0,
			target_name: "Target 2",
			luns: [{ id: 0, bdev_name: "a" }],
		},
	]);
	assert.deepEqual(await call("scsi_get_devices"), [
		{ id: 0, device_name: "Target 2" },
		{ id: 1, device_name: "Target 0" },
	]);
	assert.equal(await remove(2), true);
	assert.equal(await remove(0), true);
	assert.equal(await call("vhost_delete_controller", { ctrlr: "c" }), true);
	assert(!existsSync(t.engine.socketPath("c")));
});

test("what SPDK refuses is refused, with its slots 0 to 7 and all to 255", async () => {
	await makeNull("a", "b", "other");
	await call("vhost_create_blk_controller", {
		ctrlr: "blk",
		dev_name: "other",
	});
	await create("c");
	await fails(create("c"), "E_EXISTS");
	await fails(create("."), "E_INVALID");
	await fails(create("d", { cpumask: "0x0" }), "E_INVALID");
	await fails(add(0, "nobody"), "E_NOT_FOUND", /nobody/);
	await fails(add(256, "a"), "E_INVALID", /scsi_target_num/);
	await fails(add(0, "a", { lun: 256 }), "E_INVALID", /lun/);
	await fails(add(0, "a", { ctrlr: "nobody" }), "E_NOT_FOUND", /nobody/);
	await fails(add(0, "a", { ctrlr: "blk" }), "E_INVALID");
	await fails(remove(0), "E_NOT_FOUND");
	await fails(remove(256), "E_INVALID", /scsi_target_num/);
	await fails(remove(-1), "E_INVALID", /scsi_target_num/);
	assert.equal(await add(255, "a"), 255);
	await fails(add(255, "b"), "E_EXISTS", /255/);
	await fails(add(0, "a"), "E_BUSY", /claimed/);
	await fails(call("vhost_delete_controller", { ctrlr: "c" }), "E_BUSY");
	await remove(255);
	await fails(remove(255), "E_NOT_FOUND");
	assert.equal(await add(-1, "a"), 0);
	await remove(0);
});

test("-1 fills every slot; then there is none", async () => {
	const names = Array.from({ length: 257 }, (_, i) => `n${i}`);
	await makeNull(...names);
	await create("c");
	for (const [i, name] of names.slice(0, 256).entries())
		assert.equal(await add(-1, name), i);
	await fails(add(-1, "n256"), "E_BUSY");
	await remove(17);
	assert.equal(await add(-1, "n256"), 17);
	assert.equal((await targets()).length, 256);
});

test("a target has LUNs, and goes with its last", async () => {
	await makeNull("a", "b", "d");
	await create("c");
	assert.equal(await add(3, "a", { lun: 7 }), 3);
	assert.equal(await add(3, "b", { lun: 255 }), 3);
	assert.equal(await add(3, "d"), 3);
	await fails(add(3, "d", { lun: 7 }), "E_EXISTS");
	const [target] = await targets();
	assert.deepEqual(target?.luns, [
		{ id: 0, bdev_name: "d" },
		{ id: 7, bdev_name: "a" },
		{ id: 255, bdev_name: "b" },
	]);
	await remove(3, { lun: 0 });
	await fails(remove(3, { lun: 0 }), "E_NOT_FOUND");
	await remove(3, { lun: 7 });
	assert.equal((await targets()).length, 1);
	await remove(3, { lun: 255 });
	assert.deepEqual(await targets(), []);
	await add(3, "a");
	await add(3, "b", { lun: 1 });
	await remove(3);
	assert.deepEqual(await targets(), []);
});

test("a deleted bdev takes its LUN along; ids of those that stay, stay", async () => {
	await makeNull("a", "b", "d");
	await create("c");
	for (const name of ["a", "b", "d"]) await add(-1, name);
	await call("bdev_null_delete", { name: "a" });
	const left = (await targets()).map((one) => [one.scsi_dev_num, one.id]);
	assert.deepEqual(left, [
		[1, 1],
		[2, 2],
	]);
	await makeNull("a");
	assert.equal(await add(-1, "a"), 0);
	assert.equal((await targets())[0]?.id, 0);
});

test("with delay there is no socket before the start", async () => {
	await create("c", { delay: true });
	assert(!existsSync(t.engine.socketPath("c")));
	const stats = async () => {
		const all = await t.client.call("vhostctl_get_stats", { name: "c" });
		return all.controllers[0];
	};
	assert.equal((await stats())?.started, false);
	assert.equal(await call("vhost_start_scsi_controller", { ctrlr: "c" }), true);
	assert(existsSync(t.engine.socketPath("c")));
	assert.equal((await stats())?.started, true);
	// As SPDK has it: nothing to do.
	await call("vhost_start_scsi_controller", { ctrlr: "c" });
	await fails(
		call("vhost_start_scsi_controller", { ctrlr: "nobody" }),
		"E_NOT_FOUND",
	);
	await makeNull("other");
	await call("vhost_create_blk_controller", { ctrlr: "b", dev_name: "other" });
	await fails(call("vhost_start_scsi_controller", { ctrlr: "b" }), "E_INVALID");
});

test("the statistics tell a controller's kind and logical units", async () => {
	await makeNull("a", "b");
	await create("c");
	await add(4, "a", { lun: 2 });
	await call("vhost_create_blk_controller", { ctrlr: "b", dev_name: "b" });
	const { controllers } = await t.client.call("vhostctl_get_stats", {});
	const told = controllers.map(({ sessions, ...one }) => one);
	assert.deepEqual(told, [
		{
			ctrlr: "c",
			kind: "scsi",
			started: true,
			bdev: null,
			luns: [{ target: 4, lun: 2, bdev: "a" }],
		},
		{ ctrlr: "b", kind: "blk", started: true, bdev: "b", luns: [] },
	]);
});

test("what a bdev tells of itself is checked", async () => {
	const make = (more: object) =>
		call("bdev_null_create", {
			name: "i",
			block_size: 512,
			num_blocks: 8,
			...more,
		});
	await fails(make({ vendor: "too long!" }), "E_INVALID", /vendor/);
	await fails(make({ product: "x".repeat(17) }), "E_INVALID", /product/);
	await fails(make({ serial: "x".repeat(33) }), "E_INVALID", /serial/);
	await fails(make({ serial: "é" }), "E_INVALID", /printable ASCII/);
	await make({ vendor: "ACME", product: "Disk of mine", serial: "0123" });
});

const lines = (text: string) =>
	text
		.trimEnd()
		.split("\n")
		.map((line) => line.trim().split(/ {2,}/));

test("serve --scsi makes controllers, and scsi list tells them", async () => {
	const [titles, ...rows] = lines(await attached("scsi", "list"));
	assert.deepEqual(titles, [
		...["name", "target", "lun", "bdev", "cpumask", "front ends", "socket"],
	]);
	assert.deepEqual(
		rows.map((row) => row.slice(0, 4)),
		[
			["vm0", "0", "0", "ram"],
			["vm0", "200", "255", "null"],
			["empty", "-", "-", "-"],
		],
	);
	assert.deepEqual(lines(await attached("blk", "list")).length, 1);
	const json = JSON.parse(await attached("scsi", "list", "vm0", "--json"));
	assert.equal(json.length, 1);
	assert.deepEqual(json[0].backend_specific.scsi[1].luns, [
		{ id: 255, bdev_name: "null" },
	]);
	const [, row] = lines(await attached("bdev", "list", "null"));
	assert.equal(row?.[5], "vm0:200:255");
});

test("controllers and targets come and go", async () => {
	const socket = await attached("scsi", "create", "vm1", "--delay");
	assert.equal(socket, `${instance.socket("vm1")}\n`);
	assert(!existsSync(instance.socket("vm1")));
	assert.equal(await attached("scsi", "start", "vm1"), "");
	assert(existsSync(instance.socket("vm1")));
	const addTarget = ["scsi", "add-target", "vm1", "--bdev", "n2"];
	assert.equal(await attached(...addTarget), "0\n");
	const busy = ["scsi", "delete", "vm1", "-r", instance.rpcSocket];
	await failure(5, /has targets/, ...busy);
	assert.equal(
		await attached("scsi", "remove-target", "vm1", "--target", "0"),
		"",
	);
	const place = ["--target", "9", "--lun", "3", "--json"];
	assert.equal(await attached(...addTarget, ...place), "9\n");
	const tables = await attached("stats");
	assert.match(tables, /Logical units\n.*\n(.*\n)*vm1 +9 +3 +n2/);
	assert.match(tables, /vm1 +1 unit +.*not connected/);
	await attached("scsi", "remove-target", "vm1", "--target=9", "--lun=3");
	assert.equal(await attached("scsi", "delete", "vm1"), "");
	assert(!existsSync(instance.socket("vm1")));
	const gone = ["scsi", "list", "vm1", "-r", instance.rpcSocket];
	await failure(3, /vm1/, ...gone);
});

test("a controller that cannot have all its disks is not made", async () => {
	const make = ["scsi", "create", "vm1", "--bdev", "n2", "--bdev", "nobody"];
	await failure(3, /nobody/, ...make, "-r", instance.rpcSocket);
	assert(!existsSync(instance.socket("vm1")));
	await attached(...make.slice(0, 5));
	await attached("scsi", "remove-target", "vm1", "--target", "0");
	await attached("scsi", "delete", "vm1");
});

test("a kind's commands leave the other kind alone", async () => {
	const at = ["-r", instance.rpcSocket];
	const other = /vm0 is a vhost-user-scsi controller: see vhostctl scsi list/;
	await failure(3, other, "blk", "list", "vm0", ...at);
	await failure(3, other, "blk", "delete", "vm0", ...at);
	await attached("blk", "create", "b", "--bdev", "n2");
	await failure(3, /b is a vhost-user-blk/, "scsi", "delete", "b", ...at);
	await failure(
		2,
		/b is no|blk/,
		...["scsi", "add-target", "b", "--bdev", "n2", ...at],
	);
	await attached("blk", "delete", "b");
});

test("mistakes are told by name", async () => {
	const cases: [RegExp, ...string[]][] = [
		[/did you mean add-target\?/, "scsi", "add-traget"],
		[/scsi add-target needs --bdev/, "scsi", "add-target", "vm0"],
		[/scsi remove-target needs --target/, "scsi", "remove-target", "vm0"],
		[/from 0 to 255/, "scsi", "remove-target", "vm0", "--target", "256"],
		[/goes with --in-process/, "scsi", "create", "x", "-S", "z"],
		[/--delay/, "scsi", "create", "x", "--delay", "--in-process"],
		[/--lun goes with --target/, "perf", "--socket=x", "--lun=0"],
		[/--target is "-1"/, "perf", "--socket=x", "--target=-1"],
	];
	for (const [message, ...args] of cases) await failure(2, message, ...args);
});

interface Report {
	readonly jobs: readonly [
		{
			readonly "job options": Record<string, string>;
			readonly read: { readonly total_ios: number };
			readonly write: { readonly io_bytes: number };
			readonly verified_blocks: number;
		},
	];
}

function perf(...args: string[]): string[] {
	return ["perf", "--socket", instance.socket("vm0"), ...args];
}

test("perf writes a target whole, reads it back and checks, in each mode", async () => {
	for (const mode of ["poll", "interrupt"]) {
		const verify = ["--rw", "write", "--verify", "crc32c", "--mode", mode];
		const text = await answer(...perf("--target", "0", ...verify, "--json"));
		const [job] = (JSON.parse(text) as Report).jobs;
		assert.equal(job.write.io_bytes, 16 * MIB);
		assert.equal(job.verified_blocks, (16 * MIB) / 4096);
		assert.equal(job["job options"].target, "0");
		assert.equal(job["job options"].lun, "0");
	}
});

test("perf drives several queues of any LUN, and says which", async () => {
	const unit = ["--target", "200", "--lun", "255"];
	const load = ["--ios", "20000", "--queues", "3", "--bs", "8K"];
	const text = await answer(...perf(...unit, ...load, "--rw", "randrw"));
	assert.match(text, /vm0, target 200, LUN 255: randrw, 8 KiB, .*3 queues/);
});

test("what perf cannot do with a SCSI disk is told", async () => {
	const cases: [number, RegExp, ...string[]][] = [
		[3, /there is no target 9/, "--target", "9"],
		[3, /target 0 has no LUN 4/, "--target", "0", "--lun", "4"],
		[2, /block size, 4096/, "--target", "0", "--bs", "512"],
		[2, /the device takes at most/, "--target", "0", "--bs", "8M"],
		[2, /the device has 16777216 bytes/, "--target", "0", "--size", "17M"],
		[2, /no vhost-user-blk device; of a vhost-user-scsi one, say which target/],
		[2, /the device has 256/, "--target", "0", "--queues", "255"],
	];
	for (const [code, message, ...args] of cases)
		await failure(code, message, ...perf(...args));
	await attached("blk", "create", "b", "--bdev", "n2");
	const blk = ["perf", "--socket", instance.socket("b"), "--target", "0"];
	await failure(2, /vhost-user-blk device, which has no targets/, ...blk);
	await attached("blk", "delete", "b");
});

test("a read-only disk is read, and not written", async () => {
	const image = join(instance.dir, "ro.img");
	writeFileSync(image, "");
	truncateSync(image, MIB);
	const file = ["bdev", "create", "file", "ro", "--path", image, "--readonly"];
	await attached(...file);
	await attached("scsi", "add-target", "vm0", "--bdev", "ro", "--target", "5");
	const unit = ["--target", "5", "--ios", "100"];
	await failure(8, /read-only/, ...perf(...unit, "--rw", "write"));
	await answer(...perf(...unit, "--rw", "read"));
	await attached("scsi", "remove-target", "vm0", "--target", "5");
	await attached("bdev", "delete", "ro");
});

test("the rings of a connected controller are told by their uses", async () => {
	const load = startProcess(
		...vhostctl(...perf("--target", "0", "--time", "60")),
	);
	try {
		const told = async () => (await attached("stats")).split("\n");
		await waitUntil(
			async () =>
				(await told()).some((line) => /vm0 .* 2 .*running/.test(line)),
			PATIENCE_MS,
			() => `a ring\n${load.stderr()}`,
		);
		const text = (await told()).join("\n");
		assert.match(text, /vm0 +2 units +\d+ +0 control/);
		assert.match(text, /vm0 +2 units +\d+ +1 event/);
		sendSignal(load, "SIGINT");
		assert.equal(
			await within(load.exited, PATIENCE_MS, () => "perf ends"),
			0,
			load.stderr(),
		);
	} finally {
		await load.kill();
	}
});

test("targets may be served in one process, until a signal", async () => {
	const dir = makeTempDir();
	try {
		const server = startProcess(
			...vhostctl(
				...["scsi", "create", "vm", "--in-process", "-S", dir],
				...["--bdev", "malloc:size=4M", "--bdev", "malloc:size=8M"],
			),
		);
		try {
			const path = join(dir, "vm");
			await waitUntil(
				() => server.stdout() === `${path}\n`,
				PATIENCE_MS,
				() => `the socket's path\n${server.stdout()}${server.stderr()}`,
			);
			const verify = ["--target", "1", "--rw", "write", "--verify", "crc32c"];
			await answer("perf", "--socket", path, ...verify);
			sendSignal(server, "SIGINT");
			const code = await within(server.exited, PATIENCE_MS, () => "it ends");
			assert.equal(code, 0, server.stderr());
			assert.deepEqual(readdirSync(dir), []);
		} finally {
			await server.kill();
		}
	} finally {
		removeTempDir(dir);
	}
});

const KEY = 0x1234567890abcdefn;

/** PERSISTENT RESERVE OUT with the parameters that registering and reserving take. */
function reserveOut(action: number, type: number, aptpl: boolean) {
	const out = Buffer.alloc(24);
	const register = action === 6;
	out.writeBigUInt64BE(KEY, register ? 8 : 0);
	out.writeUInt8(aptpl ? 1 : 0, 20);
	return { cdb: [0x5f, action, type, 0, 0, 0, 0, 0, 24, 0], out };
}

function reserveIn(action: number, room: number) {
	return { cdb: [0x5e, action, 0, 0, 0, 0, 0, 0, room, 0], room };
}

/** Serves a disk that keeps its state in `dir`, and has work use it as a guest does. */
async function servedFrom(
	dir: string,
	work: (guest: ScsiGuest, server: Process) => Promise<void>,
): Promise<void> {
	const path = join(dir, "vm0");
	const server = startProcess(
		...vhostctl(
			...["serve", "-S", dir, "-r", join(dir, "rpc.sock")],
			...["--state-dir", join(dir, "state")],
			...["--bdev", "null:name=disk,size=1G", "--scsi", "vm0=disk"],
		),
	);
	const runtime = createRuntime();
	try {
		await waitUntil(
			() => server.stdout().startsWith("ready: "),
			PATIENCE_MS,
			() => `serve is ready\n${server.stderr()}`,
		);
		const guest = await connectScsiGuest(runtime, path);
		await guest.insist({ cdb: [0, 0, 0, 0, 0, 0] });
		await work(guest, server);
		await guest.close();
	} finally {
		await runtime.close();
		await server.kill();
	}
}

test("reservations that are to last are kept in --state-dir, over a kill", async () => {
	const dir = makeTempDir();
	const EXCLUSIVE = 3;
	try {
		await servedFrom(dir, async (guest, server) => {
			assert(!existsSync(join(dir, "state")), "made only when needed");
			assertGood(await guest.send(reserveOut(6, 0, true)));
			assertGood(await guest.send(reserveOut(1, EXCLUSIVE, false)));
			await server.kill();
		});
		await servedFrom(dir, async (guest) => {
			const keys = await guest.send(reserveIn(0, 16));
			assertGood(keys);
			assert.equal(keys.data.readBigUInt64BE(8), KEY);
			const held = await guest.send(reserveIn(1, 24));
			assertGood(held);
			assert.equal(held.data.readBigUInt64BE(8), KEY);
			assert.equal(held.data.readUInt8(21), EXCLUSIVE);
			// CLEAR: what is not to last is not kept.
			assertGood(await guest.send(reserveOut(3, 0, false)));
		});
		assert.deepEqual(readdirSync(join(dir, "state")), []);
	} finally {
		removeTempDir(dir);
	}
});
