// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { BlkController } from "../../src/engine/blk-controller.ts";
import { describeEngine } from "../../src/engine/control/describe.ts";
import { callMethod } from "../../src/engine/control/methods.ts";
import { type Engine, startEngine } from "../../src/engine/engine.ts";
import type { ScsiController } from "../../src/engine/virtio-scsi/controller.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

let engine: Engine;
let dir: string;
let blk: BlkController;
let scsi: ScsiController;

before(async () => {
	dir = makeTempDir();
	engine = await startEngine({ socketDir: dir });
	const size = { blockSize: 512, numBlocks: 2048 };
	await engine.bdevs.createNull({ name: "disk", ...size });
	blk = await engine.createBlkController({ name: "blk", bdev: "disk" });
	scsi = await engine.createScsiController({ name: "scsi" });
});
after(async () => {
	await engine.close();
	removeTempDir(dir);
});

const call = (method: Parameters<typeof callMethod>[1], params: unknown) =>
	callMethod({ engine, kill: () => {} }, method, params);
const set = (ctrlr: string, delay_base_us: number, iops_threshold: number) =>
	call("vhost_controller_set_coalescing", {
		ctrlr,
		delay_base_us,
		iops_threshold,
	});
const described = () =>
	describeEngine(engine)
		.filter(({ method }) => method === "vhost_controller_set_coalescing")
		.map(({ params }) => params);

test("controllers of both kinds begin without delays, and keep what they are told", async () => {
	const settings = async () => {
		const listed = (await call("vhost_get_controllers", {})) as Record<
			"delay_base_us" | "iops_threshold",
			number
		>[];
		return listed.map((one) => [one.delay_base_us, one.iops_threshold]);
	};
	assert.deepEqual(await settings(), [
		[0, 60000],
		[0, 60000],
	]);
	assert.deepEqual(described(), []);
	assert.equal(await set("blk", 50, 100), true);
	assert.equal(await set("scsi", 1_000_000, 0xffffffff), true);
	assert.deepEqual(await settings(), [
		[50, 100],
		[1_000_000, 0xffffffff],
	]);
	assert.deepEqual(blk.coalescing, { delayBaseUs: 50, iopsThreshold: 100 });
	assert.deepEqual(described(), [
		{ ctrlr: "blk", delay_base_us: 50, iops_threshold: 100 },
		{ ctrlr: "scsi", delay_base_us: 1_000_000, iops_threshold: 0xffffffff },
	]);
	await set("scsi", 0, 60000);
	assert.deepEqual(described(), [
		{ ctrlr: "blk", delay_base_us: 50, iops_threshold: 100 },
	]);
});

test("what SPDK refuses is refused, and changes nothing", async () => {
	const kept = scsi.coalescing;
	for (const [delay, threshold] of [
		[-1, 60000],
		[1_000_001, 60000],
		[0.5, 60000],
		[50, 99],
		[50, 0],
		[50, 2 ** 32],
	] as const) {
		for (const controller of [blk, scsi])
			assert.throws(() => controller.setCoalescing(delay, threshold), {
				code: "E_INVALID",
				message: /must be an integer from/,
			});
		await assert.rejects(set("scsi", delay, threshold), { code: "E_INVALID" });
	}
	await assert.rejects(set("nobody", 50, 60000), { code: "E_NOT_FOUND" });
	await assert.rejects(
		call("vhost_controller_set_coalescing", { ctrlr: "blk" }),
		{ code: "E_INVALID" },
	);
	assert.deepEqual(scsi.coalescing, kept);
});
