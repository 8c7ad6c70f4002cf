// SPDX-License-Identifier: MIT
// Limits of bdevs as the control socket sets and shows them; what their users notice.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Bdev } from "../../src/engine/bdev/bdev.ts";
import { describeEngine } from "../../src/engine/control/describe.ts";
import { callMethod } from "../../src/engine/control/methods.ts";
import { type Engine, startEngine } from "../../src/engine/engine.ts";
import { fails } from "../support/engine.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

let engine: Engine;
let dir: string;
let bdev: Bdev;

before(async () => {
	dir = makeTempDir();
	engine = await startEngine({ socketDir: dir });
	const shape = { blockSize: 512, numBlocks: 2048 };
	bdev = await engine.bdevs.createNull({ name: "disk", ...shape });
});
after(async () => {
	await engine.close();
	removeTempDir(dir);
});

const NONE = {
	rw_ios_per_sec: 0,
	rw_mbytes_per_sec: 0,
	r_mbytes_per_sec: 0,
	w_mbytes_per_sec: 0,
};
const call = (method: Parameters<typeof callMethod>[1], params: unknown) =>
	callMethod({ engine, kill: () => {} }, method, params);
const set = (limits: object, name = "disk") =>
	call("bdev_set_qos_limit", { name, ...limits });
const shown = async () => {
	const [of] = (await call("bdev_get_bdevs", { name: "disk" })) as [
		{ assigned_rate_limits: object },
	];
	return of.assigned_rate_limits;
};

test("limits are kept as given; those not given stay, 0 takes one away", async () => {
	assert.deepEqual(await shown(), NONE);
	assert.equal(await set({ rw_ios_per_sec: 1234, w_mbytes_per_sec: 7 }), true);
	const both = { ...NONE, rw_ios_per_sec: 1234, w_mbytes_per_sec: 7 };
	assert.deepEqual(await shown(), both);
	await set({ r_mbytes_per_sec: 3 }, bdev.uuid);
	assert.deepEqual(await shown(), { ...both, r_mbytes_per_sec: 3 });
	assert.equal(bdev.qos.readBytes, 3 * 1024 * 1024);
	await set({ rw_ios_per_sec: 0, w_mbytes_per_sec: 0, r_mbytes_per_sec: 0 });
	assert.deepEqual(await shown(), NONE);
});

test("a description sets limits right after it makes the bdev, where there are any", async () => {
	const calls = () => describeEngine(engine).map(({ method }) => method);
	assert.deepEqual(calls(), ["bdev_null_create"]);
	await set({ rw_mbytes_per_sec: 100, rw_ios_per_sec: 0 });
	assert.deepEqual(calls(), ["bdev_null_create", "bdev_set_qos_limit"]);
	assert.deepEqual(describeEngine(engine)[1]?.params, {
		name: "disk",
		rw_mbytes_per_sec: 100,
	});
	await set({ rw_mbytes_per_sec: 0 });
	assert.deepEqual(calls(), ["bdev_null_create"]);
});

test("what makes no sense is refused and changes nothing", async () => {
	await fails(set({}), "E_INVALID");
	await fails(set({ rw_ios_per_sec: 1 }, "nobody"), "E_NOT_FOUND");
	for (const value of [-1, 1.5, 2 ** 51, "100"])
		await fails(set({ rw_ios_per_sec: value }), "E_INVALID");
	await fails(set({ r_mbytes_per_sec: 2 ** 31 }), "E_INVALID");
	assert.deepEqual(await shown(), NONE);
});

test("users stop for the first limit and for the end of the last, not for changes", async () => {
	const told: string[] = [];
	const tell = (what: string) => async () => void told.push(what);
	const release = bdev.claim({
		name: "user",
		readonly: false,
		pause: tell("pause"),
		resume: tell("resume"),
		removed: () => {},
		changed: tell("changed"),
	});
	await set({ rw_ios_per_sec: 100 });
	assert.deepEqual(told, ["pause", "resume"]);
	await set({ rw_ios_per_sec: 200 });
	await set({ w_mbytes_per_sec: 1 });
	await set({ rw_ios_per_sec: 0 });
	assert.deepEqual(told, ["pause", "resume"]);
	await bdev.resize(4096);
	assert.deepEqual(told, ["pause", "resume", "changed"]);
	await set({ w_mbytes_per_sec: 0 });
	assert.deepEqual(told.slice(3), ["pause", "resume"]);
	await set({ w_mbytes_per_sec: 0 });
	assert.equal(told.length, 5);
	release();
});
