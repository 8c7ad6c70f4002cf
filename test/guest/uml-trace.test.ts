// SPDX-License-Identifier: MIT
// Traces of what a Linux guest's drivers ask: what its programs did is what they show, on both
// kinds of disk, what failed among it.
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import type { Request } from "../../src/cli/trace-report.ts";
import { callMethod } from "../../src/engine/control/methods.ts";
import { type Engine, startEngine } from "../../src/engine/engine.ts";
import type { Guest } from "../support/guest.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";
import { bootUml } from "../support/uml.ts";

const MIB = 1024 * 1024;
const KIB = 1024;
const BLOCKS = (16 * MIB) / 512;
/** More than there are when a guest looks for its disks. */
const SIZE = 4096;

interface Rig {
	readonly engine: Engine;
	readonly guest: Guest;
}

const contextOf = (engine: Engine) => ({ engine, kill: () => {} });

function startTrace(engine: Engine, ctrlr: string): Promise<true> {
	const params = { ctrlr, size: SIZE };
	return callMethod(contextOf(engine), "vhostctl_set_trace", params);
}

/** What was asked and how it ended: "read 4096 512 ok"; of commands, with sense data. */
function brief({ op, offset, length, result, scsi }: Request): string {
	const ended = `${op} ${offset} ${length} ${result}`;
	if (!scsi || scsi.status === 0) return ended;
	const { sense_key, asc, ascq } = scsi;
	return `${ended} ${sense_key.toString(16)}/${asc.toString(16)}/${ascq.toString(16)}`;
}

/** The requests of the only ring that has any. */
async function traced(engine: Engine, ctrlr: string): Promise<Request[]> {
	const { rings } = await callMethod(contextOf(engine), "vhostctl_get_trace", {
		ctrlr,
	});
	const [ring, ...more] = rings.filter(({ requests }) => requests.length > 0);
	assert.deepEqual(more, []);
	return ring?.requests ?? [];
}

function isTold({ published_ns, called_ns, quiet }: Request): boolean {
	return published_ns !== null && (quiet || called_ns !== null);
}

/** Every step is after the one before, and not before or after the whole. */
function assertSteps(one: Request, from: number, to: number): void {
	const { kicked_ns, taken_ns, submitted_ns, completed_ns } = one;
	const steps = [
		from,
		...[kicked_ns, taken_ns, submitted_ns, completed_ns],
		...[one.published_ns, one.called_ns],
		to,
	].filter((step) => step !== null);
	const sorted = steps.toSorted((a, b) => a - b);
	assert.deepEqual(steps, sorted, JSON.stringify(one));
	assert(completed_ns !== null && one.published_ns !== null, "it ended");
	assert.equal(one.called_ns === null, one.quiet, "its driver was called");
}

/** What a controller's trace has of a script in the guest. Both have the same clock. */
async function during(
	{ engine, guest }: Rig,
	ctrlr: string,
	script: string,
): Promise<Request[]> {
	await startTrace(engine, ctrlr);
	const from = Number(process.hrtime.bigint());
	await guest.run(script);
	let requests: Request[] = [];
	// A driver may know that a request has ended before that is in the trace.
	await waitUntil(
		async () => {
			requests = await traced(engine, ctrlr);
			return requests.every(isTold);
		},
		5000,
		() => JSON.stringify(requests),
	);
	const to = Number(process.hrtime.bigint());
	for (const [i, one] of requests.entries()) {
		assert.equal(one.number, i);
		assertSteps(one, from, to);
	}
	return requests;
}

/** One request after the other. */
async function playAlone(rig: Rig, ctrlr: string, disk: string): Promise<void> {
	const requests = await during(
		rig,
		ctrlr,
		`dd if=/dev/urandom of=data bs=64k count=1 &&
		dd if=data of=/dev/${disk} bs=64k seek=16 oflag=direct conv=fsync &&
		dd if=/dev/${disk} of=/dev/null bs=4k skip=512 count=3 iflag=direct &&
		blkdiscard -f -o ${3 * MIB} -l ${MIB} /dev/${disk}`,
	);
	assert.deepEqual(requests.map(brief), [
		`write ${MIB} ${64 * KIB} ok`,
		"flush 0 0 ok",
		...[0, 1, 2].map((i) => `read ${2 * MIB + i * 4 * KIB} ${4 * KIB} ok`),
		`unmap ${3 * MIB} ${MIB} ok`,
	]);
	for (const [i, one] of requests.entries()) {
		assert.notEqual(one.submitted_ns, null, "the disk had it");
		assert.equal(one.up, false);
		// The driver asks for the next only when it knows that this one has ended.
		const next = requests[i + 1];
		if (next) assert(next.taken_ns >= (one.called_ns ?? one.published_ns ?? 0));
	}
	assert(requests.some((one) => one.kicked_ns !== null));
}

/** Many at a time. */
async function playMany(rig: Rig, ctrlr: string, disk: string): Promise<void> {
	const options = `--rw=randread --iodepth=8 --offset=${4 * MIB} --size=128k`;
	const requests = await during(rig, ctrlr, `fio_jobs "${options}" ${disk}`);
	// The kernel may merge neighbours.
	const blocks = requests.flatMap((request) =>
		Array.from({ length: request.length / (4 * KIB) }, (_, i) => ({
			...request,
			offset: request.offset + i * 4 * KIB,
			length: 4 * KIB,
		})),
	);
	assert.deepEqual(
		blocks.toSorted((a, b) => a.offset - b.offset).map(brief),
		Array.from(
			{ length: 32 },
			(_, i) => `read ${4 * MIB + i * 4 * KIB} ${4 * KIB} ok`,
		),
	);
}

/** Linux looks for disks: what the command set answers, of logical units that are not there too. */
async function playDiscovery({ engine }: Rig): Promise<void> {
	const all = await traced(engine, "scsi");
	assert.equal(all[0]?.number, 0, "all of it is kept");
	const absent = all.filter(({ scsi }) => scsi?.target !== 0);
	assert(absent.length > 200);
	for (const { scsi } of absent) assert.equal(scsi?.response, 3, "BAD_TARGET");
	const inquiry = all.find(
		({ scsi }) => scsi?.target === 0 && scsi.opcode === 0x12,
	);
	assert(inquiry?.up && inquiry.scsi);
	assert.equal(inquiry.submitted_ns, null);
	const { lun, status, response } = inquiry.scsi;
	assert.deepEqual(
		{ lun, status, response },
		{ lun: 0, status: 0, response: 0 },
	);
	// What comes first, INQUIRY and REPORT LUNS apart, hears that the unit is new.
	const first = all.find(
		({ scsi }) =>
			scsi?.target === 0 && scsi.opcode !== 0x12 && scsi.opcode !== 0xa0,
	);
	assert.match(first ? brief(first) : "nothing", / 6\/29\/0$/);
}

/** Has the next request of 4 KiB at 5 MiB fail. */
function failOnce(
	{ engine }: Rig,
	name: string,
	io_type: "read" | "write",
): Promise<true> {
	return callMethod(contextOf(engine), "bdev_error_inject_error", {
		...{ name, io_type, error_type: "failure" },
		...{ lba: (5 * MIB) / 512, num_blocks: 8 },
	});
}

/** A medium that fails, a block that is not there, and a command that is none. */
async function playScsiFailures(rig: Rig, disk: string): Promise<void> {
	await failOnce(rig, "EE_base", "read");
	const beyond = BLOCKS.toString(16).padStart(8, "0").match(/../g)?.join(" ");
	const requests = await during(
		rig,
		"scsi",
		`dd if=/dev/${disk} of=/dev/null bs=4k skip=1280 count=1 iflag=direct
		sg_raw -r 512 /dev/${disk} 28 00 ${beyond} 00 00 01 00
		sg_raw /dev/${disk} ff 00 00 00 00 00
		true`,
	);
	assert.deepEqual(requests.map(brief), [
		`read ${5 * MIB} ${4 * KIB} EIO 3/11/0`,
		"other 0 512 ok 5/21/0",
		"other 0 0 ok 5/20/0",
	]);
	assert.deepEqual(
		requests.map(({ up, submitted_ns, scsi }) => [
			up,
			submitted_ns !== null,
			scsi?.opcode,
			scsi?.status,
		]),
		[
			[true, true, 0x28, 2],
			[true, false, 0x28, 2],
			[true, false, 0xff, 2],
		],
	);
}

/** The same medium under virtio-blk, which has no more to say than that. */
async function playBlkFailure(rig: Rig): Promise<void> {
	await failOnce(rig, "EE_plain", "write");
	const requests = await during(
		rig,
		"blk",
		"! dd if=/dev/zero of=/dev/vda bs=4k seek=1280 count=1 oflag=direct",
	);
	assert.deepEqual(requests.map(brief), [`write ${5 * MIB} ${4 * KIB} EIO`]);
	assert.notEqual(requests[0]?.submitted_ns, null);
}

async function createDisks(engine: Engine): Promise<void> {
	for (const name of ["plain", "base"]) {
		await engine.bdevs.createMalloc({
			name,
			blockSize: 512,
			numBlocks: BLOCKS,
		});
		await callMethod(contextOf(engine), "bdev_error_create", {
			base_name: name,
		});
	}
	await engine.createBlkController({ name: "blk", bdev: "EE_plain" });
	await engine.createScsiController({ name: "scsi" });
	await engine.addScsiLun({ name: "scsi", target: 0, lun: 0, bdev: "EE_base" });
	await startTrace(engine, "scsi");
}

test("what a guest's programs do to its disks is in their traces", async () => {
	const dir = makeTempDir();
	const engine = await startEngine({ socketDir: dir });
	try {
		await createDisks(engine);
		const guest = await bootUml([
			{ socket: engine.socketPath("blk"), kind: "blk", queues: 1 },
			{ socket: engine.socketPath("scsi"), kind: "scsi", queues: 1 },
		]);
		try {
			const rig = { engine, guest };
			const disk = (await guest.run("scsi_disk 0 0")).trim();
			await playDiscovery(rig);
			for (const [ctrlr, name] of [
				["blk", "vda"],
				["scsi", disk],
			] as const) {
				await playAlone(rig, ctrlr, name);
				await playMany(rig, ctrlr, name);
			}
			await playScsiFailures(rig, disk);
			await playBlkFailure(rig);
			await guest.powerOff();
		} catch (error) {
			await guest.kill();
			throw error;
		}
	} finally {
		await engine.close();
		removeTempDir(dir);
	}
});
