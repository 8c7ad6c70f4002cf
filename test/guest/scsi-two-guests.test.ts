// SPDX-License-Identifier: MIT
// Two guests on the same SCSI controller: reservations that keep one of them away.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Guest } from "../support/guest.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { bootUml } from "../support/uml.ts";

const RESERVATION_CONFLICT = 24; // exit status of sg3-utils

interface Pair {
	a: Guest;
	b: Guest;
	device: string;
}

async function openPair(instance: Instance): Promise<Pair> {
	await instance.rpc("bdev_malloc_create", {
		name: "shared",
		num_blocks: 32768,
		block_size: 512,
	});
	await instance.rpc("vhost_create_scsi_controller", { ctrlr: "scsi" });
	await instance.rpc("vhost_scsi_controller_add_target", {
		ctrlr: "scsi",
		scsi_target_num: 0,
		bdev_name: "shared",
	});
	const socket = instance.socket("scsi");
	const boot = () => bootUml([{ kind: "scsi", socket, queues: 1 }]);
	const [a, b] = await Promise.all([boot(), boot()]);
	const device = (await a.run("scsi_disk 0 0", 10_000)).trim();
	assert.equal((await b.run("scsi_disk 0 0", 10_000)).trim(), device);
	return { a, b, device };
}

const write = (device: string) =>
	`dd if=/dev/zero of=/dev/${device} bs=4096 count=1 oflag=direct`;
const read = (device: string) =>
	`dd if=/dev/${device} of=/dev/null bs=4096 count=1 iflag=direct`;
const succeeds = async (guest: Guest, script: string) =>
	(await guest.try(script)).status === 0;

/** What each guest may do under each type of reservation that `a` holds and `b` is registered for or not. */
const TYPES = [
	{
		type: 1,
		registered: { read: true, write: false },
		stranger: { read: true, write: false },
	},
	{
		type: 3,
		registered: { read: false, write: false },
		stranger: { read: false, write: false },
	},
	{
		type: 5,
		registered: { read: true, write: true },
		stranger: { read: true, write: false },
	},
	{
		type: 6,
		registered: { read: true, write: true },
		stranger: { read: false, write: false },
	},
	{
		type: 7,
		registered: { read: true, write: true },
		stranger: { read: true, write: false },
	},
	{
		type: 8,
		registered: { read: true, write: true },
		stranger: { read: false, write: false },
	},
];

test("two guests, one disk", async (t) => {
	const instance = await startInstance();
	t.after(() => instance.stop());
	const { a, b, device } = await openPair(instance);
	t.after(() => Promise.all([a.kill(), b.kill()]));
	const disk = `/dev/${device}`;
	const persist = (options: string) => `sg_persist -n ${options} ${disk}`;
	/** A pending unit attention is the first answer. */
	const clear = (guest: Guest) => guest.try(`sg_turs ${disk}; sg_turs ${disk}`);

	await t.test("what one writes the other reads", async () => {
		const sum = await a.run(`write_random ${device} 0 65536`);
		assert.equal(await b.run(`disk_sum ${device} 0 65536`), sum);
	});

	for (const { type, registered, stranger } of TYPES)
		await t.test(`persistent reservation of type ${type}`, async () => {
			await a.run(persist("--out --register --param-sark=0xa"));
			await a.run(
				persist(`--out --reserve --param-rk=0xa --prout-type=${type}`),
			);
			assert.match(await b.run(persist("-k")), /0xa/);
			assert.match(await b.run(persist("-r")), /Key ?= ?0x/);
			const check = async (expected: { read: boolean; write: boolean }) => {
				await clear(b);
				assert.equal(await succeeds(b, read(device)), expected.read, "b reads");
				assert.equal(
					await succeeds(b, write(device)),
					expected.write,
					"b writes",
				);
				assert(await succeeds(a, read(device)), "a reads");
				assert(await succeeds(a, write(device)), "a writes");
			};
			await check(stranger);
			await b.run(persist("--out --register --param-sark=0xb"));
			await check(registered);
			assert.match(await a.run(persist("-s")), /0xa[\s\S]*0xb|0xb[\s\S]*0xa/);
			await a.run(persist("--out --clear --param-rk=0xa"));
			await clear(b);
			assert(await succeeds(b, write(device)), "b writes after the clear");
			assert.match(await b.run(persist("-k")), /no registered/i);
		});

	await t.test("preemption, with the tasks aborted", async () => {
		await a.run(persist("--out --register --param-sark=0xa"));
		await b.run(persist("--out --register --param-sark=0xb"));
		await a.run(persist("--out --reserve --param-rk=0xa --prout-type=1"));
		const conflict = await b.try(
			persist("--out --reserve --param-rk=0xb --prout-type=1"),
		);
		assert.equal(conflict.status, RESERVATION_CONFLICT, conflict.output);
		await b.run(
			persist(
				"--out --preempt-abort --param-rk=0xb --param-sark=0xa --prout-type=1",
			),
		);
		await clear(a);
		assert(await succeeds(b, write(device)));
		assert(!(await succeeds(a, write(device))), "a is shut out");
		assert(await succeeds(a, read(device)));
		await b.run(persist("--out --clear --param-rk=0xb"));
		await clear(a);
		assert(await succeeds(a, write(device)));
	});

	await t.test("APTPL: kept over a restart of a guest", async () => {
		await a.run(persist("--out --register --param-sark=0xc --param-aptpl"));
		await a.run(persist("--out --reserve --param-rk=0xc --prout-type=3"));
		await clear(b);
		assert(!(await succeeds(b, read(device))));
		await a.run(persist("--out --release --param-rk=0xc --prout-type=3"));
		await a.run(persist("--out --register --param-rk=0xc --param-sark=0"));
		await clear(b);
		assert(await succeeds(b, read(device)));
	});

	await t.test("a reset of one leaves the other working", async () => {
		const sum = await b.run(`write_random ${device} 65536 65536`);
		await a.reset();
		assert.equal(await b.run(`disk_sum ${device} 65536 65536`), sum);
		await a.run("scsi_disk 0 0", 10_000);
		assert.equal(await a.run(`disk_sum ${device} 65536 65536`), sum);
	});
	await instance.assertHealthy();
});
