// SPDX-License-Identifier: MIT
// Linux's drivers over rings of every format and size that QEMU can be asked for: many
// devices in one guest, each set up in its own way, all verified at the same time. Entropy
// sources of a program's own are among them.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Device } from "../support/guest.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { bootQemu, type QemuGuest } from "../support/qemu.ts";
import { SOAK } from "../support/soak.ts";
import { fioJobs } from "./observe.ts";
import { type Entropy, openEntropy } from "./rng.ts";
import { MIB, type Transport } from "./scene.ts";

interface Setup {
	transport: Transport;
	packed: boolean;
	eventIdx: boolean;
	indirect: boolean;
	queues: number;
	size: number;
}

const BITS = { indirect: 28, eventIdx: 29, packed: 34 } as const;
const PROCESSORS = 4;
const BYTES = 4 * MIB;
const VERIFIED = MIB / 2;
/** The drivers queue requests of up to 126 pieces: without indirect tables a ring must hold them. */
const LEAST_DIRECT = 128;
/** Linux takes no other size than powers of two from PCI, QEMU none below 4 for SCSI. */
const SMALL = { blk: [2, 4, 8, 16, 32, 64], scsi: [4, 8, 16, 32, 64] };
const LARGE = [256, 512, 1024];

const BOOLEANS = [false, true];

function setups(transport: Transport): Setup[] {
	const all: Setup[] = [];
	for (const packed of BOOLEANS) {
		for (const eventIdx of BOOLEANS)
			for (const indirect of BOOLEANS)
				for (const queues of [1, 4])
					all.push({
						...{ transport, packed, eventIdx, indirect, queues },
						size: LEAST_DIRECT,
					});
		for (const size of [...SMALL[transport], ...LARGE])
			all.push({
				transport,
				packed,
				eventIdx: true,
				indirect: size < LEAST_DIRECT,
				queues: 1,
				size,
			});
	}
	return all;
}

/** In short: each value of each property, not each combination; the least size and the largest. */
function fewSetups(transport: Transport): Setup[] {
	const all = setups(transport);
	return all.filter(({ packed, eventIdx, indirect, queues, size }) =>
		size === LEAST_DIRECT
			? eventIdx !== indirect && queues === (eventIdx === packed ? 1 : 4)
			: size === 1024 || size === SMALL[transport][0],
	);
}

const onOff = (value: boolean) => (value ? "on" : "off");

function properties(setup: Setup, i: number) {
	const { transport } = setup;
	return {
		packed: onOff(setup.packed),
		event_idx: onOff(setup.eventIdx),
		indirect_desc: onOff(setup.indirect),
		[transport === "blk" ? "queue-size" : "virtqueue_size"]: setup.size,
		// There are not as many slots.
		multifunction: "on",
		addr: `${4 + Math.floor(i / 8)}.${i % 8}`,
	};
}

async function serve(
	instance: Instance,
	transport: Transport,
	name: string,
): Promise<void> {
	await instance.rpc("bdev_malloc_create", {
		name,
		block_size: 512,
		num_blocks: BYTES / 512,
	});
	if (transport === "blk") {
		await instance.rpc("vhost_create_blk_controller", {
			ctrlr: name,
			dev_name: name,
		});
		return;
	}
	await instance.rpc("vhost_create_scsi_controller", { ctrlr: name });
	await instance.rpc("vhost_scsi_controller_add_target", {
		ctrlr: name,
		scsi_target_num: 0,
		bdev_name: name,
	});
}

/** What the guest knows of each device, in the order in which it has them. */
async function disksOf(
	guest: QemuGuest,
): Promise<{ disk: string; features: string }[]> {
	const text = await guest.run("virtio_disks");
	return text
		.trim()
		.split("\n")
		.map((line) => {
			const [disk = "", features = ""] = line.split(" ");
			return { disk, features };
		});
}

function describe({ transport, ...setup }: Setup): string {
	const words = Object.entries(setup).map(([name, value]) =>
		typeof value === "number" ? `${name} ${value}` : `${name} ${onOff(value)}`,
	);
	return `${transport}, ${words.join(", ")}`;
}

async function open(all: Setup[], entropy: Entropy) {
	const instance = await startInstance();
	try {
		const devices: Device[] = [];
		for (const [i, setup] of all.entries()) {
			await serve(instance, setup.transport, `disk${i}`);
			devices.push({
				kind: setup.transport,
				socket: instance.socket(`disk${i}`),
				queues: setup.queues,
				properties: properties(setup, i),
			});
		}
		const guest = await bootQemu(devices, {
			processors: PROCESSORS,
			args: entropy.args,
		});
		return { instance, guest };
	} catch (error) {
		await instance.stop().catch(() => {});
		await entropy.close();
		throw new Error(instance.log(), { cause: error });
	}
}

async function assertVerified(
	t: TestContext,
	guest: QemuGuest,
	all: Setup[],
): Promise<void> {
	const disks = await disksOf(guest);
	assert.equal(disks.length, all.length);
	for (const [i, setup] of all.entries())
		for (const [name, bit] of Object.entries(BITS))
			assert.equal(
				disks[i]?.features[bit] === "1",
				setup[name as keyof typeof BITS],
				`${name} as the guest has it: ${describe(setup)}`,
			);
	const names = disks.map(({ disk }) => disk).join(" ");
	const jobs = fioJobs(
		await guest.run(`verify 16 ${VERIFIED} ${names}`, 120_000),
	);
	for (const [i, setup] of all.entries()) {
		const job = jobs[i];
		await t.test(describe(setup), () => {
			assert.deepEqual(
				[job?.error, job?.write.total_ios, job?.read.total_ios],
				[0, VERIFIED / 4096, VERIFIED / 4096],
			);
		});
	}
}

const TRANSPORTS = ["blk", "scsi"] as const;

for (const transports of SOAK ? TRANSPORTS.map((each) => [each]) : [TRANSPORTS])
	test(`rings of every format, ${transports.join(" and ")}`, async (t) => {
		const all = transports.flatMap(SOAK ? setups : fewSetups);
		const entropy = await openEntropy(!SOAK || transports[0] === "scsi");
		const { instance, guest } = await open(all, entropy);
		t.after(async () => {
			await guest.kill();
			await instance.stop();
			await entropy.close();
		});
		await assertVerified(t, guest, all);
		await entropy.check(t, guest);
		await instance.assertHealthy();
	});
