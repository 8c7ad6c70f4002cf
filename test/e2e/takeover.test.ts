// SPDX-License-Identifier: MIT
// serve --takeover: another process goes on, and guests notice nothing.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { truncateSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createRuntime } from "../../src/engine/runtime.ts";
import { answer } from "../support/cli.ts";
import { startLoad } from "../support/load.ts";
import {
	basicList,
	CONFLICT,
	inCdb,
	OUT,
	type OutOptions,
	outCdb,
} from "../support/reservations.ts";
import {
	assertGood,
	brief,
	cdb10,
	TEST_UNIT_READY,
} from "../support/scsi-bench.ts";
import { connectScsiGuest } from "../support/scsi-guest.ts";
import { type Dynasty, withDynasty } from "../support/takeover.ts";

const MIB = 1024 * 1024;
const KEY = 0xabcn;
const EXCLUSIVE_ACCESS = 3;
const READ = { cdb: cdb10(0x28, 0, 1), room: 512 };
/** Of the Control page without block descriptors, after a header of 4 bytes. */
const MODE_SENSE_CONTROL = { cdb: [0x1a, 8, 0x0a, 0, 16, 0], room: 16 };
const D_SENSE_BYTE = 6;
const D_SENSE = 0x04;

function makeImage(dynasty: Dynasty, name: string, mib: number): string {
	const path = dynasty.path(name);
	writeFileSync(path, "");
	truncateSync(path, mib * MIB);
	return path;
}

/** Of what RPCs list, what must not differ from one instance to the next. */
async function listed(dynasty: Dynasty): Promise<unknown> {
	const bdevs = (await dynasty.rpc("bdev_get_bdevs")) as {
		driver_specific: object;
	}[];
	const controllers = (await dynasty.rpc("vhost_get_controllers")) as object[];
	return {
		// A RAM disk's pages are others.
		bdevs: bdevs.map((bdev) => ({ ...bdev, driver_specific: undefined })),
		controllers: controllers.map((one) => ({ ...one, sessions: undefined })),
	};
}

test("loads go on over takeovers, with RAM and file disks, of both kinds", () =>
	withDynasty(async (dynasty) => {
		const image = makeImage(dynasty, "disk.img", 32);
		const other = makeImage(dynasty, "other.img", 32);
		await dynasty.start(
			...["--bdev", "malloc:name=ram,size=32M", "--blk", "ram=ram"],
			...["--bdev", `file:name=file,path=${image}`, "--blk", "file=file"],
			...["--bdev", "malloc:name=sram,size=32M", "--scsi", "scsi=sram"],
			...["--bdev", `file:name=sfile,path=${other}`, "--scsi", "scsi=sfile"],
		);
		for (const ctrlr of ["ram", "scsi"])
			await dynasty.rpc("vhost_controller_set_coalescing", {
				ctrlr,
				delay_base_us: 200,
				iops_threshold: 1000,
			});
		const before = await listed(dynasty);
		const loads = [
			startLoad(dynasty.path("ram"), 8, "--queues", "2"),
			startLoad(dynasty.path("file"), 8, "--split"),
			startLoad(dynasty.path("scsi"), 8, "--target", "0"),
			startLoad(dynasty.path("scsi"), 8, "--target", "1", "--inflight"),
		];
		const pauses: number[] = [];
		await sleep(2500); // they run
		for (let round = 0; round < 3; round++) {
			pauses.push(await dynasty.succeed());
			assert.deepEqual(await listed(dynasty), before);
		}
		const results = await Promise.all(loads.map((load) => load.finish()));
		const slowest = Math.max(...results.map(({ maxMs }) => maxMs));
		console.log(
			`stood still for ${pauses.join(", ")} ms; slowest request: ${slowest} ms`,
		);
		assert(Math.max(...pauses) < 2000, `${pauses}`);
		await dynasty.assertRules();
		await dynasty.end();
	}));

test("what was written is there, and a RAM disk that moves later takes it along", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(
			...["--bdev", "malloc:name=ram,size=8M", "--blk", "ram=ram"],
		);
		const whole = ["perf", "--socket", dynasty.path("ram"), "--size", "8M"];
		const verify = ["--verify", "crc32c"];
		await answer(...whole, ...verify, "--rw", "write");
		await dynasty.succeed();
		await answer(...whole, ...verify, "--rw", "read");
		await dynasty.rpc("bdev_malloc_resize", { name: "ram", new_size: 64 });
		await answer(...whole, ...verify, "--rw", "read");
		await dynasty.succeed();
		await answer(...whole, ...verify, "--rw", "read");
		await dynasty.end();
	}));

test("what was made by calls, and how, is handed over", () =>
	withDynasty(async (dynasty) => {
		const image = makeImage(dynasty, "disk.img", 8);
		await dynasty.start("-m", "0-1", "--mode", "interrupt");
		const { rpc } = dynasty;
		const identity = { vendor: "ACME", product: "Disk", serial: "0815" };
		const uuid = "01234567-89ab-cdef-0123-456789abcdef";
		const shape = { block_size: 512, num_blocks: 2048 };
		await rpc("bdev_malloc_create", {
			...{ name: "m", ...shape, ...identity, uuid, page_size: "4K" },
			physical_block_size: 4096,
		});
		await rpc("bdev_null_create", { name: "n", ...shape, block_size: 4096 });
		await rpc("bdev_aio_create", {
			...{ name: "a", filename: image, block_size: 4096 },
			...{ readonly: true, fallocate: false },
		});
		const blk = { ctrlr: "b", dev_name: "a", readonly: true };
		await rpc("vhost_create_blk_controller", {
			...{ ...blk, cpumask: "0x2", packed_ring: false, iommu: true },
		});
		const client = { client: dynasty.path("machine"), inband: true };
		await rpc("vhost_create_blk_controller", {
			...{ ctrlr: "c", dev_name: "n", ...client },
		});
		const scsi = { ctrlr: "s", delay: true };
		await rpc("vhost_create_scsi_controller", scsi);
		await rpc("vhost_scsi_controller_add_target", {
			...{ ctrlr: "s", scsi_target_num: 7, bdev_name: "m", lun: 3 },
		});
		await rpc("vhostctl_set_trace", { ctrlr: "b", size: 128 });
		const histogram = { granularity: 3, min_nsec: 1000, max_nsec: 1e9 };
		await rpc("bdev_enable_histogram", {
			...{ name: "n", enable: true, opc: "write", ...histogram },
		});
		await rpc("bdev_set_qd_sampling_period", { name: "m", period: 5000 });
		await rpc("log_set_level", { level: "DEBUG" });
		await rpc("log_clear_flag", { flag: "vhost" });
		await rpc("log_enable_timestamps", { enabled: false });
		const settings = async () => ({
			trace: await rpc("vhostctl_get_trace", { ctrlr: "b" }),
			histogram: await rpc("bdev_get_histogram", { name: "n" }),
			depths: JSON.stringify(
				await rpc("bdev_get_iostat", { names: ["m"] }),
			).match(/"queue_depth[^,]*/g),
			level: await rpc("log_get_level"),
			flags: await rpc("log_get_flags"),
		});
		const set = await settings();
		assert.deepEqual(set.depths, [
			'"queue_depth_polling_period":5000',
			'"queue_depth":0',
		]);
		const before = await listed(dynasty);
		const stats = async () => {
			const { reactors, controllers } = (await rpc("vhostctl_get_stats")) as {
				reactors: { cpu: number; mode: string }[];
				controllers: { ctrlr: string; started: boolean }[];
			};
			return {
				reactors: reactors.map(({ cpu, mode }) => [cpu, mode]),
				started: controllers.map(({ ctrlr, started }) => [ctrlr, started]),
			};
		};
		const told = await stats();
		await dynasty.succeed("--bdev", "null:name=more,size=1M");
		await rpc("bdev_null_delete", { name: "more" });
		assert.deepEqual(await listed(dynasty), before);
		assert.deepEqual(await stats(), told);
		assert.deepEqual(await settings(), set);
		const lines = dynasty.ruler.stderr();
		assert.match(
			lines,
			/^notice +taken over.*stood still/m,
			"without the time",
		);
		await rpc("vhost_start_scsi_controller", { ctrlr: "s" });
		await dynasty.succeed("--log-level", "notice");
		assert.deepEqual(await settings(), { ...set, level: "NOTICE" });
		await dynasty.end();
	}));

test("SCSI: reservations, mode pages and sizes stay, and nobody hears of it", () =>
	withDynasty(async (dynasty) => {
		await dynasty.start(
			...["--bdev", "malloc:name=ram,size=8M", "--scsi", "scsi=ram"],
		);
		const runtime = createRuntime();
		const socket = dynasty.path("scsi");
		const holder = await connectScsiGuest(runtime, socket);
		const other = await connectScsiGuest(runtime, socket);
		const third = await connectScsiGuest(runtime, socket);
		try {
			await holder.insist({ cdb: TEST_UNIT_READY });
			await other.insist({ cdb: TEST_UNIT_READY });
			const sizes = Buffer.alloc(8);
			sizes.writeUInt32LE(80, 0);
			sizes.writeUInt32LE(32, 4);
			await third.frontend.writeConfig(20, sizes);
			const reserve = async (action: number, options: OutOptions) =>
				assertGood(
					await holder.send({
						cdb: [...outCdb(action, 24, options)],
						out: basicList(options),
					}),
				);
			await reserve(OUT.register, { sark: KEY });
			await reserve(OUT.reserve, { key: KEY, type: EXCLUSIVE_ACCESS });
			const control = await holder.send(MODE_SENSE_CONTROL);
			const list = Buffer.from(control.data);
			list[0] = 0;
			list[D_SENSE_BYTE] = (list[D_SENSE_BYTE] ?? 0) | D_SENSE;
			const select = [0x15, 0x10, 0, 0, list.length, 0];
			assertGood(await holder.send({ cdb: select, out: list }));

			await dynasty.succeed();
			// The other one's unit attention of before is still to come, and nothing new.
			const attention = await other.send(READ);
			assert.equal(brief(attention), "0 2 6/2a01 512");
			assert.equal((await other.send(READ)).status, CONFLICT);
			assertGood(await holder.send({ cdb: TEST_UNIT_READY }));
			assertGood(await holder.send(READ));
			const keys = await holder.send({ cdb: [...inCdb(0, 16)], room: 16 });
			assertGood(keys);
			assert.equal(keys.data.readBigUInt64BE(8), KEY);
			const { data } = await holder.send(MODE_SENSE_CONTROL);
			assert.equal((data[D_SENSE_BYTE] ?? 0) & D_SENSE, D_SENSE);
			assert.deepEqual(await third.frontend.readConfig(20, 8), sizes);
		} finally {
			for (const guest of [holder, other, third]) await guest.close();
			await runtime.close();
		}
		await dynasty.end();
	}));
