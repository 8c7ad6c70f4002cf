// SPDX-License-Identifier: MIT
// Faults on demand as a guest's kernel and tools see them, on virtio-blk and on SCSI.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { waitUntil } from "../support/processes.ts";
import { assertLatencies } from "./fault-latencies.ts";
import {
	blocksOf,
	type FaultScene,
	type FaultyDisk,
	openFaultScene,
} from "./fault-scene.ts";

const MIB = 1024 * 1024;
const PATIENCE_MS = 20_000;
const GOOD = "good";
const EIO = "Input/output error";
/** What Linux makes of MEDIUM ERROR, UNRECOVERED READ ERROR. */
const ENODATA = "No data available";
/** Exit status of sg3-utils. */
const SG_MEDIUM = 3;

let scene: FaultScene;
before(async () => {
	scene = await openFaultScene();
});
after(() => scene?.close());

/** How so many requests end in the guest: "good", or what errno says. */
async function attempts(
	count: number,
	operation: "read" | "write" | "flush" | "unmap",
	{ device }: FaultyDisk,
): Promise<string[]> {
	const script = `attempts ${count} ${operation} ${device}`;
	return (await scene.guest.run(script)).trim().split("\n");
}

/** A command that gets through to the SCSI disk as it is. */
const raw = (options: string, cdb: string) =>
	scene.guest.try(`sg_raw ${options} $(sg_node ${scene.scsi.device}) ${cdb}`);
const rawRead = () => raw("-r 512", "28 0 0 0 0 0 0 0 1 0");
const rawWrite = () => raw("-s 512 -i /dev/zero", "2a 0 0 0 0 0 0 0 1 0");

test("as many requests fail as were told to, with EIO", async () => {
	const { blk } = scene;
	for (const operation of ["read", "write", "flush", "unmap"] as const) {
		blk.errors.inject([operation], { kind: "failure", num: 2 });
		const ends = await attempts(3, operation, blk);
		assert.deepEqual(ends, [EIO, EIO, GOOD], operation);
		assert.deepEqual(blk.errors.rules(), []);
	}
});

test("SCSI commands fail with MEDIUM ERROR", async () => {
	const { guest, scsi } = scene;
	scsi.errors.inject(["read", "write"], { kind: "failure", num: 1 });
	for (const [send, what] of [
		[rawRead, /Unrecovered read error/],
		[rawWrite, /Write error/],
	] as const) {
		const { status, output } = await send();
		assert.equal(status, SG_MEDIUM, output);
		assert.match(output, /SCSI Status: Check Condition/);
		assert.match(output, /Sense key: Medium Error/);
		assert.match(output, what);
		assert.equal((await send()).status, 0);
	}
	scsi.errors.inject(["read"], { kind: "failure", num: 2 });
	const ends = await attempts(3, "read", scsi);
	assert.deepEqual(ends, [ENODATA, ENODATA, GOOD]);
	const told = await guest.run("dmesg | grep -c 'Sense Key : 0x3'");
	assert.equal(Number(told), 2);
	// A write that the kernel gives up after it has tried five times more.
	scsi.errors.inject(["write"], { kind: "failure", num: 6 });
	assert.deepEqual(await attempts(2, "write", scsi), [EIO, GOOD]);
	assert.deepEqual(scsi.errors.rules(), []);
});

test("no memory is an I/O error on blk, and BUSY on SCSI", async () => {
	const { guest, blk, scsi } = scene;
	blk.errors.inject(["write"], { kind: "nomem", num: 1 });
	assert.deepEqual(await attempts(2, "write", blk), [EIO, GOOD]);
	// A kernel that is told so tries again, and counts how often it was.
	const errors = async () => {
		const path = `/sys/block/${scsi.device}/device/ioerr_cnt`;
		return Number(await guest.run(`cat ${path}`));
	};
	const before = await errors();
	scsi.errors.inject(["read"], { kind: "nomem", num: 3 });
	assert.equal((await rawRead()).status, 0);
	assert.equal((await errors()) - before, 3);
	scsi.errors.inject(["write"], { kind: "nomem", num: 2 });
	assert.deepEqual(await attempts(1, "write", scsi), [GOOD]);
	assert.equal((await errors()) - before, 5);
	assert.deepEqual(scsi.errors.rules(), []);
});

/** Reads in the guest's background, which hang when this resolves. */
async function hangReads(): Promise<void> {
	for (const { device, errors } of [scene.blk, scene.scsi]) {
		errors.inject(["read"], { kind: "pending", num: 1 });
		await scene.guest.run(`read_on ${device}`);
		const hangs = () => errors.hanging() === 1;
		await waitUntil(hangs, PATIENCE_MS, () => `a read of ${device} hangs`);
	}
}

/** How a read of the background ends. */
const readEnd = async ({ device }: FaultyDisk) =>
	(await scene.guest.run(`read_end ${device}`)).trim();

test("reads hang until they are resumed, and others go past them", async () => {
	await hangReads();
	await sleep(1000);
	for (const disk of [scene.blk, scene.scsi]) {
		const { device, errors } = disk;
		assert.deepEqual(await attempts(1, "read", disk), [GOOD]);
		await scene.guest.run(`[ ! -e ${device}.end ]`);
		errors.resume();
		assert.equal(await readEnd(disk), GOOD);
		assert.equal(errors.hanging(), 0);
		await scene.guest.run(
			`cmp ${device}.data /dev/${device} -n 4096 && [ -s ${device}.data ]`,
		);
	}
});

test("a reset of the guest's ends a read that hangs, which its kernel then repeats", async () => {
	const { guest, scsi } = scene;
	scsi.errors.inject(["read"], { kind: "pending", num: 1 });
	await guest.run(`read_on ${scsi.device}`);
	const hangs = (count: number) => () => scsi.errors.hanging() === count;
	await waitUntil(hangs(1), PATIENCE_MS, () => "a read hangs");
	await guest.run(`sg_reset -d $(sg_node ${scsi.device})`, PATIENCE_MS);
	assert.equal(scsi.errors.hanging(), 0);
	assert.equal(await readEnd(scsi), GOOD);
});

/** Bytes that differed in the guest: in which read, where, and by which bits. */
async function differences({ device }: FaultyDisk) {
	const text = (await scene.guest.run(`differences ${device}`)).trim();
	return (text ? text.split("\n") : []).map((line) => {
		const [read, position, was = "", is = ""] = line.split(/\s+/);
		const bits = Number.parseInt(was, 8) ^ Number.parseInt(is, 8);
		return [read, Number(position), bits];
	});
}

test("one byte is falsified, of what is read or of what is written", async () => {
	const kind = "corrupt_data" as const;
	const corrupt = { kind, num: 1, corruptOffset: 1000, corruptValue: 0x81 };
	for (const disk of [scene.blk, scene.scsi]) {
		disk.errors.inject(["read"], corrupt);
		assert.deepEqual(await differences(disk), [["first", 1001, 0x81]]);
		disk.errors.inject(["write"], corrupt);
		assert.deepEqual(await differences(disk), [
			["first", 1001, 0x81],
			["second", 1001, 0x81],
		]);
		assert.deepEqual(disk.errors.rules(), []);
	}
});

test("the guest's fio measures the delays that are set", () =>
	assertLatencies(scene.guest, [scene.blk, scene.scsi]));

test("a half of a bdev is written, and the other is not touched", async () => {
	const { guest, halves } = scene;
	const [one, other] = halves;
	const sum = (disk: string) => guest.run(`disk_sum ${disk} 0 ${MIB}`);
	for (const half of halves) await guest.run(`wait_size ${half} ${MIB}`);
	const before = await sum(other);
	const written = await guest.run(`write_random ${one} 0 ${MIB}`);
	assert.equal(await sum(one), written);
	assert.equal(await sum(other), before);
	const beside = await guest.run(`write_random ${other} 0 ${MIB}`);
	assert.equal(await sum(one), written);
	assert.equal(await sum(other), beside);
});

test("a disk that shows another grows and shrinks with it", async () => {
	const { engine, guest, shown } = scene;
	const written = await guest.run(`write_random ${shown} 0 65536`);
	for (const mib of [16, 12]) {
		await engine.bdevs.resize("grows", blocksOf(mib));
		await guest.run(`wait_size ${shown} ${mib * MIB}`, PATIENCE_MS);
		await guest.run(`keeps ${shown} ${mib * MIB - 65536} 65536`);
	}
	assert.equal(await guest.run(`disk_sum ${shown} 0 65536`), written);
});

test("a stack that is deleted from below takes what hangs along", async () => {
	const { engine, guest, blk, scsi } = scene;
	await hangReads();
	for (const { bdev } of [blk, scsi]) await engine.bdevs.delete(bdev);
	assert.equal(await readEnd(blk), EIO);
	assert.notEqual(await readEnd(scsi), GOOD);
	await guest.run(`wait_gone ${scsi.device}`, PATIENCE_MS);
	const names = engine.bdevs.list().map(({ name }) => name);
	assert.deepEqual(names, ["halved", "grows", "halvedp0", "halvedp1", "pass"]);
});
