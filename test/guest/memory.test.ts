// SPDX-License-Identifier: MIT
// What a machine may do with its memory while its disks are in use: plug and unplug some, put
// an IOMMU before it, move away before it has been copied.
import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Device } from "../support/guest.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { bootQemu, type Machine, type QemuGuest } from "../support/qemu.ts";
import { SOAK } from "../support/soak.ts";
import { fioJobs } from "./observe.ts";
import { MIB } from "./scene.ts";

const KINDS = ["blk", "scsi"] as const;
const BYTES = 32 * MIB;
const DIMM = 128 * MIB;
const ROUNDS = SOAK ? 10 : 1;
const PLUG_MS = 60_000;
/** Pages: 240 MiB. */
const SLOTS = 61_440;

interface Stage {
	instances: Instance[];
	guest: QemuGuest;
	/** The devices, as one of the instances serves them. */
	devices(instance: number): Device[];
	/** In the guest: one on each kind of device. */
	disks: string[];
}

/** A guest with a blk and a SCSI disk, which as many instances serve. */
async function onStage(
	{
		count = 1,
		serve = [] as string[],
		/** Added to what is said of each controller. */
		options = "",
		machine = {} as Machine,
	},
	properties: Device["properties"],
	action: (stage: Stage) => Promise<void>,
): Promise<void> {
	const dir = makeTempDir();
	const args = KINDS.flatMap((kind) => [
		"--bdev",
		`file:name=${kind},path=${join(dir, kind)}`,
		`--${kind}`,
		`${kind}=${kind}${options}`,
	]);
	for (const kind of KINDS) {
		writeFileSync(join(dir, kind), "");
		truncateSync(join(dir, kind), BYTES);
	}
	const instances: Instance[] = [];
	const devices = (instance: number) =>
		KINDS.map((kind) => ({
			kind,
			socket: instances[instance]?.socket(kind) ?? "",
			queues: 2,
			properties: properties ?? {},
		}));
	let guest: QemuGuest | undefined;
	try {
		for (let i = 0; i < count; i++)
			instances.push(await startInstance([...serve, ...args]));
		guest = await bootQemu(devices(0), machine);
		const disks = (await guest.run("virtio_disks"))
			.trim()
			.split("\n")
			.map((line) => line.split(" ")[0] ?? "");
		assert.equal(disks.length, KINDS.length);
		await action({ instances, guest, devices, disks });
		for (const instance of instances) await instance.assertHealthy();
	} catch (error) {
		throw new Error(
			[guest?.console(), ...instances.map((each) => each.log())].join("\n"),
			{ cause: error },
		);
	} finally {
		await guest?.kill();
		for (const instance of instances) await instance.stop();
		removeTempDir(dir);
	}
}

async function startVerifying({ guest, disks }: Stage): Promise<void> {
	for (const disk of disks)
		await guest.run(`verify_on v_${disk} ${disk} "--offset=16M --size=8M"`);
}

async function readsOf(instance: Instance): Promise<number[]> {
	const { bdevs } = (await instance.rpc("bdev_get_iostat", {
		names: KINDS,
	})) as { bdevs: { num_read_ops: number }[] };
	return bdevs.map(({ num_read_ops }) => num_read_ops);
}

/** Waits until each disk has been read again: in a guest with an IOMMU that takes its time. */
async function untilReadAgain({ instances }: Stage): Promise<void> {
	const [instance] = instances;
	if (!instance) throw new Error("no instance");
	const before = await readsOf(instance);
	await waitUntil(
		async () =>
			(await readsOf(instance)).every((n, i) => n > (before[i] ?? 0) + 64),
		120_000,
		() => "the disks are read again",
	);
}

async function endVerifying({ guest, disks }: Stage): Promise<void> {
	for (const disk of disks) {
		const [job] = fioJobs(await guest.run(`verify_end v_${disk}`));
		assert.equal(job?.error, 0);
		assert((job?.read.total_ios ?? 0) > 0, `${disk} was verified`);
	}
}

async function plug({ guest }: Stage, id: string): Promise<void> {
	await guest.qmp().execute("object-add", {
		"qom-type": "memory-backend-memfd",
		id: `mem-${id}`,
		size: DIMM,
		share: true,
	});
	await guest
		.qmp()
		.execute("device_add", { driver: "pc-dimm", id, memdev: `mem-${id}` });
	await guest.run(`memory_online ${DIMM}`, PLUG_MS);
}

async function unplug({ guest }: Stage, id: string): Promise<void> {
	const qmp = guest.qmp();
	await qmp.execute("device_del", { id });
	await waitUntil(
		async () => {
			const devices = await qmp.execute<{ data: { id: string } }[]>(
				"query-memory-devices",
			);
			return devices.every(({ data }) => data.id !== id);
		},
		PLUG_MS,
		() => `${id} is unplugged`,
	);
	await qmp.execute("object-del", { id: `mem-${id}` });
}

test("memory plugged and unplugged under I/O", () =>
	onStage(
		{ machine: { memory: "384M,slots=4,maxmem=2G" } },
		{ packed: "on" },
		async (stage) => {
			const { guest, disks } = stage;
			await startVerifying(stage);
			for (let round = 0; round < ROUNDS; round++) {
				const ids = [`a${round}`, `b${round}`];
				for (const id of ids) await plug(stage, id);
				// More than there was: part of it lies in what was plugged.
				await guest.run(`dma_check_on ${disks[1]} 2048 ${SLOTS}`);
				await guest.run("sleep 1");
				assert.match(
					await guest.run("dma_check_end"),
					/^[1-9]\d* reads, 0 differ/,
				);
				for (const id of ids.reverse()) await unplug(stage, id);
			}
			await endVerifying(stage);
		},
	));

/** Has that many hugepages of a size reserved meanwhile, beside those that there are. */
async function withHugepages(
	kib: number,
	count: number,
	action: () => Promise<void>,
): Promise<void> {
	const pool = `/sys/kernel/mm/hugepages/hugepages-${kib}kB/nr_hugepages`;
	const before = Number(readFileSync(pool, "utf8"));
	writeFileSync(pool, String(before + count));
	try {
		assert.equal(Number(readFileSync(pool, "utf8")), before + count);
		await action();
	} finally {
		writeFileSync(pool, String(before));
	}
}

// All of these take long under emulation: see make soak.
if (SOAK)
	for (const [hugepages, kib, count] of [
		["2M", 2048, 256],
		["1G", 1 << 20, 1],
	] as const)
		test(`memory of hugepages of ${hugepages}`, () =>
			withHugepages(kib, count, () =>
				onStage(
					{
						machine: { memory: hugepages === "1G" ? "1G" : "512M", hugepages },
					},
					{ packed: "on" },
					async (stage) => {
						await startVerifying(stage);
						await stage.guest.run(`dma_check_on ${stage.disks[1]} 2048 8192`);
						await stage.guest.run("sleep 2");
						assert.match(
							await stage.guest.run("dma_check_end"),
							/^[1-9]\d* reads, 0 differ/,
						);
						await endVerifying(stage);
					},
				),
			));

if (SOAK)
	test("an IOMMU, with mappings that come and go", () =>
		onStage(
			{
				options: ",iommu",
				machine: {
					type: "q35",
					append: "intel_iommu=on iommu.strict=1 iommu.passthrough=0",
					args: ["-device", "intel-iommu,device-iotlb=on"],
				},
			},
			{ iommu_platform: "on", ats: "on", "disable-legacy": "on", packed: "on" },
			async (stage) => {
				const disks = (await stage.guest.run("virtio_disks"))
					.trim()
					.split("\n");
				for (const line of disks)
					assert.equal(line.split(" ")[1]?.[33], "1", "ACCESS_PLATFORM");
				const groups = await stage.guest.run("ls /sys/kernel/iommu_groups");
				assert.notEqual(groups.trim(), "", "the IOMMU is in use");
				await startVerifying(stage);
				await untilReadAgain(stage);
				await endVerifying(stage);
				await stage.guest.reset();
				await startVerifying(stage);
				await untilReadAgain(stage);
				await endVerifying(stage);
			},
		));

if (SOAK)
	test("postcopy migration", () =>
		onStage(
			{ count: 2, serve: ["--postcopy"], machine: { memory: "524280K" } },
			{},
			async (stage) => {
				await startVerifying(stage);
				await stage.guest.run("sleep 1");
				await stage.guest.migrate(stage.devices(1), true);
				await stage.guest.run("sleep 2");
				await endVerifying(stage);
			},
		));
