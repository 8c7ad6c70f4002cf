// SPDX-License-Identifier: MIT
// What a guest sees of a SCSI disk, through the kernel and through sg3-utils.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { type Check, syncedWrite } from "./data-checks.ts";
import { countRequests, sumOfZeroes } from "./observe.ts";
import { CONTROLLER, fileOf, MIB, type Scene } from "./scene.ts";

/** A command on DISK, what it prints, and its exit status: of sg3-utils it stands for a sense key. */
type Expected = [command: string, output: RegExp, status?: number];

/** Runs commands, one after the other but in one script, which saves most of the time. */
async function expectAll(
	{ guest }: Scene,
	device: string,
	table: Expected[],
): Promise<void> {
	const lines = table.map(([command]) =>
		command.replaceAll("DISK", `/dev/${device}`),
	);
	const script = lines.map((line) => `${line}\necho "=== $?"`).join("\n");
	const outputs = (await guest.run(script)).split(/^=== /m);
	let output = outputs.shift() ?? "";
	for (const [i, [, expected, status = 0]] of table.entries()) {
		const [, got, next] = /^(\d+)\n([\s\S]*)$/.exec(outputs[i] ?? "") ?? [];
		assert.equal(Number(got), status, `${lines[i]}: ${output}`);
		assert.match(output, expected, lines[i]);
		output = next ?? "";
	}
}

const NOT_READY = 2;
const LBA_OUT_OF_RANGE = 22;
const MISCOMPARE = 14;

const identity: Check = async (scene, disks) => {
	for (const { device, bytes, blockSize, target, name } of Object.values(disks))
		await expectAll(scene, device, [
			[`cat /sys/block/${device}/size`, new RegExp(`^${bytes / 512}\n$`)],
			[
				`cat /sys/block/${device}/queue/logical_block_size`,
				new RegExp(`^${blockSize}\n$`),
			],
			[
				`lsscsi -g | grep ':0:${target}:0\\]' | tr -s ' '`,
				new RegExp(`disk VHOSTCTL .* /dev/${device} /dev/sg\\d+`),
			],
			["sg_inq -p sn DISK", new RegExp(`Unit serial number: ${name}`)],
		]);
};

const features: Check = async ({ guest }, { small }) => {
	const bits = await guest.run(
		`cat /sys/bus/virtio/devices/$(virtio_device ${small.device})/features`,
	);
	const wanted = {
		HOTPLUG: 1,
		CHANGE: 2,
		INDIRECT_DESC: 28,
		EVENT_IDX: 29,
		VERSION_1: 32,
	};
	for (const [name, bit] of Object.entries(wanted))
		assert.equal(bits[bit], "1", `${name} is negotiated`);
};

const inquiries: Check = (scene, { small, large }) =>
	Promise.all(
		[small, large].map((disk) =>
			expectAll(scene, disk.device, [
				["sg_turs -v DISK", /test unit ready cdb/],
				["sg_requests DISK", /No Sense/],
				["sg_inq DISK", /version=0x06[\s\S]*Vendor identification: VHOSTCTL/],
				["sg_vpd DISK", /Device identification[\s\S]*Block limits/],
				["sg_vpd -p sn DISK", new RegExp(disk.name)],
				["sg_vpd -p di DISK", /NAA[\s\S]*Target port/],
				["sg_vpd -p ei DISK", /SIMPSUP=1/],
				["sg_vpd -p mpp DISK", /Mode page policy/],
				["sg_vpd -p sp DISK", /Relative port=1/],
				["sg_vpd -p bl DISK", /Maximum unmap block descriptor count: 256/],
				["sg_vpd -p bdc DISK", /Non-rotating/],
				["sg_vpd -p lbpv DISK", /LBPU\): 1[\s\S]*LBPRZ\): 1/],
				["sg_luns DISK", /Lun list length = 8 which imples 1 lun entry/],
				["sg_luns -s 2 DISK", /Lun list length = /],
				["sg_readcap DISK", new RegExp(`size: ${disk.bytes} bytes`)],
				["sg_readcap -l DISK", /lbpme=1, lbprz=1/],
				["sg_modes -a DISK", /Caching[\s\S]*Control/],
				["sg_modes -6 -a DISK", /Caching[\s\S]*Control/],
				["sg_modes -c 1 -a DISK", /changeable/],
				["sg_modes -c 2 -a DISK", /default/],
				["sg_opcodes DISK", /Persistent reserve in[\s\S]*Compare and write/i],
				["sg_opcodes -R DISK", /timeout/i],
				["sg_opcodes -m DISK", /28 /],
				["sg_opcodes -o 0x28 DISK", /Read\(10\)/],
				["sg_opcodes -t DISK", /Abort task/i],
				["sg_logs -p 0 DISK", /Supported log pages/],
				["sg_rtpg -d DISK", /target port group asymmetric access state/],
				["sg_senddiag -t DISK", /self-test returned GOOD/],
				["sg_prevent -p 1 DISK && sg_prevent -a DISK", /^/],
				["sg_sync DISK", /^/],
				["sg_persist -c DISK", /Report capabilities response/],
			]),
		),
	).then(() => {});

const blockCommands: Check = async (scene, { small }) => {
	const { guest } = scene;
	const { device } = small;
	await guest.run(
		`write_random ${device} 0 ${MIB} && dd if=/dev/${device} of=first.${device} bs=512 count=1 iflag=direct &&
		cat first.${device} first.${device} >twice.${device} && dd if=/dev/zero of=zero.${device} bs=512 count=8 &&
		cat first.${device} zero.${device} | head -c 1024 >cleared.${device}`,
	);
	await expectAll(scene, device, [
		[`sg_verify -l 0 -c 2048 DISK`, /^/],
		[`sg_verify -l 0 -c 1 -n 512 -i first.${device} DISK`, /^/],
		[`sg_verify -S -l 0 -c 1 -n 512 -i first.${device} DISK`, /^/],
		// What is there is replaced by zeroes, once.
		[`sg_compare_and_write -i cleared.${device} -l 0 -x 1024 DISK`, /^/],
		[`sg_verify -l 0 -c 1 -n 512 -i zero.${device} DISK`, /^/],
		[`sg_write_verify -l 8 -n 1 -I 512 -i first.${device} DISK`, /^/],
		[`sg_verify -l 8 -c 1 -n 512 -i first.${device} DISK`, /^/],
		// A pattern, and then nothing at all, over many blocks.
		[`sg_write_same -l 16 -n 64 -x 512 -i first.${device} DISK`, /^/],
		[`sg_verify -l 79 -c 1 -n 512 -i first.${device} DISK`, /^/],
		[`sg_write_same -S -U -l 16 -n 64 DISK`, /^/],
		[`sg_verify -l 40 -c 1 -n 512 -i zero.${device} DISK`, /^/],
		[`sg_unmap -f -l 2048 -n 2048 DISK`, /^/],
	]);
	const end = small.bytes / 512;
	await expectAll(scene, device, [
		[
			`sg_verify -l 8 -c 1 -n 512 -i zero.${device} DISK`,
			/miscompare/i,
			MISCOMPARE,
		],
		[
			`sg_compare_and_write -i cleared.${device} -l 0 -x 1024 DISK`,
			/miscompare/i,
			MISCOMPARE,
		],
		[`sg_verify -l ${end} -c 1 DISK`, /^/, LBA_OUT_OF_RANGE],
		[`sg_unmap -f -l ${end} -n 8 DISK`, /^/, LBA_OUT_OF_RANGE],
	]);
};

/** GET LBA STATUS tells what the host has really given the disk. */
const lbaStatus: Check = async (scene, { small }) => {
	const { guest } = scene;
	const { device } = small;
	const [from, to] = [16 * MIB, 18 * MIB];
	const status = async (offset: number) =>
		await guest.run(`sg_get_lba_status -l ${offset / 512} /dev/${device}`);
	await guest.run(
		`blkdiscard -o ${from - MIB} -l ${to - from + 2 * MIB} /dev/${device} && write_random ${device} ${from} ${to - from}`,
	);
	assert.match(await status(from - MIB), /deallocated|unmapped|anchored/i);
	assert.match(await status(from), / mapped/);
	await guest.run(`blkdiscard -o ${from} -l ${to - from} /dev/${device}`);
	assert.match(await status(from), /deallocated|unmapped/i);
};

/** EXTENDED COPY from one place of a disk to another disk, without a byte through the guest. */
const extendedCopy: Check = async ({ guest }, { small, doomed }) => {
	await guest.run(`write_random ${small.device} ${4 * MIB} ${MIB}`);
	await guest.run(
		`sg_xcopy if=$(sg_node ${small.device}) of=$(sg_node ${doomed.device}) bs=512 skip=${(4 * MIB) / 512} seek=${(2 * MIB) / 512} count=${MIB / 512}`,
	);
	const sums = await guest.run(
		`disk_sum ${small.device} ${4 * MIB} ${MIB}; disk_sum ${doomed.device} ${2 * MIB} ${MIB}`,
	);
	const [source, copy] = sums.split("\n");
	assert.equal(copy, source);
	assert.notEqual(copy, sumOfZeroes(MIB));
};

/** A file system's fstrim gives the host its space back. */
const fstrim: Check = async (scene, { small }) => {
	const { guest, instance } = scene;
	const { device } = small;
	const allocated = () => statSync(fileOf(instance, small)).blocks * 512;
	await guest.run(
		`mkfs.ext4 -q -F /dev/${device} && mkdir -p trim && mount /dev/${device} trim && dd if=/dev/urandom of=trim/file bs=1M count=16 && sync`,
	);
	const full = small.backing === "file" ? allocated() : 0;
	const unmaps = await countRequests(scene, small, "unmap", () =>
		guest.run("rm trim/file && sync && fstrim trim && umount trim"),
	);
	assert(unmaps > 0, "UNMAP reaches the bdev");
	if (small.backing === "file")
		assert(allocated() <= full - 15 * MIB, `${full} before, ${allocated()}`);
};

/** The guest switches the disk's write cache off, by MODE SELECT, and on. */
const writeCache: Check = async (scene, { small }) => {
	const { guest } = scene;
	const type = `/sys/block/${small.device}/device/scsi_disk/*/cache_type`;
	const flushes = () =>
		countRequests(scene, small, "flush", () =>
			guest.run(syncedWrite(small.device)),
		);
	const set = (mode: string) =>
		guest.run(`echo "${mode}" | tee ${type} >/dev/null && cat ${type}`);
	assert.equal(await guest.run(`cat ${type}`), "write back\n");
	assert.equal(await set("write through"), "write through\n");
	assert.equal(await flushes(), 0);
	assert.equal(await set("write back"), "write back\n");
	assert((await flushes()) > 0);
};

/** Software write protection: the guest sees it, and is held to it. */
const writeProtection: Check = async ({ guest }, { readonly, small }) => {
	const ro = (device: string) =>
		guest.run(
			`echo 1 >/sys/block/${device}/device/rescan && cat /sys/block/${device}/ro`,
		);
	const protect = (device: string, on: boolean) =>
		guest.run(
			`sg_wr_mode -p 0xa -c 0a,0a,0,0,${on ? "08" : "00"},0,0,0,0,0,0,0 -m 0,0,0,0,08,0,0,0,0,0,0,0 $(sg_node ${device})`,
		);
	await protect(small.device, true);
	assert.equal(await ro(small.device), "1\n");
	const write = `dd if=/dev/zero of=/dev/${small.device} bs=4096 count=1 oflag=direct`;
	assert.notEqual((await guest.try(write)).status, 0);
	await protect(small.device, false);
	assert.equal(await ro(small.device), "0\n");
	await guest.run(write);
	// A read-only disk is one already; a RAM disk becomes one, for the checks that follow.
	if (readonly.backing === "malloc") await protect(readonly.device, true);
	assert.equal(await ro(readonly.device), "1\n");
};

const stopAndStart: Check = async (scene, { doomed }) => {
	const { device } = doomed;
	await expectAll(scene, device, [
		["sg_start --stop DISK", /^/],
		["sg_turs DISK", /^/, NOT_READY],
		["sg_start --start DISK", /^/],
		["sg_turs DISK", /^/],
		[`keeps ${device} 0 4096`, /^/],
	]);
};

const sanitize: Check = async ({ guest }, { doomed: { device } }) => {
	await guest.run(`write_random ${device} 0 ${MIB}`);
	await guest.run(`sg_sanitize -B -Q -w /dev/${device}`);
	assert.equal(
		(await guest.run(`disk_sum ${device} 0 ${MIB}`)).trim(),
		sumOfZeroes(MIB),
	);
};

/** More logical units than one in a target, and far up. */
const luns: Check = async (scene, { small: { backing } }) => {
	const { guest, instance } = scene;
	const target = backing === "malloc" ? 200 : 255;
	const places = [
		[target, 0],
		[target, 1],
		[target, 255],
	];
	const name = (lun = 0) => `unit-${backing}-${lun}`;
	for (const [number, lun = 0] of places) {
		await instance.rpc("bdev_malloc_create", {
			name: name(lun),
			num_blocks: 2048 + lun,
			block_size: 512,
		});
		await instance.rpc("vhost_scsi_controller_add_target", {
			ctrlr: CONTROLLER,
			scsi_target_num: number,
			bdev_name: name(lun),
			lun,
		});
	}
	for (const [number, lun = 0] of places) {
		const device = (
			await guest.run(`scsi_disk ${number} ${lun}`, 10_000)
		).trim();
		const size = await guest.run(`cat /sys/block/${device}/size`);
		assert.equal(Number(size), 2048 + lun);
		await guest.run(`keeps ${device} 0 4096`);
		if (lun === 0)
			assert.match(
				await guest.run(`sg_luns /dev/${device}`),
				/imples 3 lun entries/,
			);
	}
	await instance.rpc("vhost_scsi_controller_remove_target", {
		ctrlr: CONTROLLER,
		scsi_target_num: target,
	});
	for (const [, lun] of places)
		await instance.rpc("bdev_malloc_delete", { name: name(lun) });
};

export const scsiChecks: [string, Check][] = [
	["capacity, block size, name and serial number", identity],
	["features in use", features],
	["inquiries with sg3-utils", inquiries],
	["block commands with sg3-utils", blockCommands],
	["LBA status", lbaStatus],
	["EXTENDED COPY", extendedCopy],
	["fstrim", fstrim],
	["write cache off and on", writeCache],
	["write protection", writeProtection],
	["stop and start", stopAndStart],
	["SANITIZE", sanitize],
	["several logical units", luns],
];
