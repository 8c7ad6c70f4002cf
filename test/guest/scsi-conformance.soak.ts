// SPDX-License-Identifier: MIT
// libiscsi's conformance suite, through SG_IO in a guest.
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Instance, startInstance } from "../support/instance.ts";
import { bootUml } from "../support/uml.ts";

const MIB = 1024 * 1024;
const SUITE_MS = 240_000;

const DISKS: [string, (instance: Instance) => Promise<unknown>][] = [
	[
		"memory",
		({ rpc }) =>
			rpc("bdev_malloc_create", {
				name: "disk",
				num_blocks: (64 * MIB) / 512,
				block_size: 512,
			}),
	],
	[
		"a file",
		({ rpc, dir }) => {
			const filename = join(dir, "disk.img");
			writeFileSync(filename, "");
			truncateSync(filename, 64 * MIB);
			return rpc("bdev_aio_create", {
				name: "disk",
				filename,
				block_size: 512,
			});
		},
	],
];

/**
 * Runs each suite in a process of its own, since one of them looks for what is left of another's
 * copies. The tests of SANITIZE go one by one: OverwriteReserved ends in a segmentation fault of
 * the suite itself. Prints what failed, and last how many tests ran.
 */
const SCRIPT = `
ran=0
sanitize=$(iscsi-test-cu -l | grep '^SCSI.Sanitize.' | grep -v OverwriteReserved)
for name in SCSI.ReceiveCopyResults $(iscsi-test-cu -l | grep -E '^SCSI.[^.]+$' | grep -vE 'Sanitize|ReceiveCopy') $sanitize; do
	iscsi-test-cu --dataloss --allow-sanitize --normal -t "$name" /dev/sg0 >out 2>&1
	status=$?
	set -- $(grep -E '^ +tests ' out)
	[ $status -eq 0 ] && [ "$5" = 0 ] || { echo "FAILED $name, status $status" && cat out; }
	ran=$((ran + \${3:-0} - $(grep -c SKIPPED out)))
done
echo "ran $ran"
`;

for (const [name, createDisk] of DISKS)
	test(`iscsi-test-cu passes, over ${name}`, async (t) => {
		const instance = await startInstance();
		t.after(() => instance.stop());
		await createDisk(instance);
		await instance.rpc("vhost_create_scsi_controller", { ctrlr: "scsi" });
		await instance.rpc("vhost_scsi_controller_add_target", {
			ctrlr: "scsi",
			scsi_target_num: 0,
			bdev_name: "disk",
		});
		const guest = await bootUml([
			{ kind: "scsi", socket: instance.socket("scsi"), queues: 1 },
		]);
		t.after(() => guest.kill());
		await guest.run("scsi_disk 0 0", 10_000);
		const output = await guest.run(SCRIPT, SUITE_MS);
		const ran = Number(/^ran (\d+)\n$/.exec(output)?.[1]);
		assert(ran > 120, output);
		await instance.assertHealthy();
	});
