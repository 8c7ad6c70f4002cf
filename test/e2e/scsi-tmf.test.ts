// SPDX-License-Identifier: MIT
// Task management end to end: a function answers when it has taken effect, I/O in flight included.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { isError } from "../../src/engine/bdev/error.ts";
import { encodeAddress } from "../../src/engine/virtio/scsi-address.ts";
import { TMF } from "../../src/engine/virtio/scsi-codes.ts";
import { waitUntil, within } from "../support/processes.ts";
import {
	assertGood,
	BLOCK,
	brief,
	CONTROLLER,
	cdb10,
	cdb16,
	onBench,
	read,
	TEST_UNIT_READY,
} from "../support/scsi-bench.ts";
import type { ScsiAnswer, ScsiGuest } from "../support/scsi-guest.ts";

const IN_TIME = 30_000;
const OK = 0;
const ABORTED = 2;
const BAD_TARGET = 3;
const RESET = 4;
const SUCCEEDED = 10;
const REJECTED = 11;
const INCORRECT_LUN = 12;
const FUNCTIONS = Object.values(TMF);
const MIB_OF_LONG = 256;

/** VERIFY (16) of a whole such disk against a block of zeroes: long, and in TypeScript's hands. */
const long = (tag: bigint, ring = 0) => ({
	cdb: cdb16(0x8f, 0, MIB_OF_LONG * 2048, 0x06),
	out: Buffer.alloc(BLOCK),
	tag,
	ring,
});

/** Counts ends of requests, and says which had ended when. */
function watch(ends: Promise<ScsiAnswer>[]) {
	const watched = { ended: 0, all: Promise.all(ends) };
	for (const end of ends) void end.then(() => watched.ended++);
	return watched;
}

async function ready(guest: ScsiGuest, rings = 1): Promise<void> {
	for (let ring = 0; ring < rings; ring++)
		await guest.insist({ cdb: TEST_UNIT_READY, ring });
}

/** Lets requests be taken by the device. */
const moment = () => new Promise((resolve) => setTimeout(resolve, 30));

test("functions for what is not there, and functions that are not", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk", 2, 1);
		const guest = await connect();
		const there = { target: 2, lun: 1 };
		for (const subtype of FUNCTIONS) {
			assert.equal(await guest.manage(subtype, { target: 1 }), BAD_TARGET);
			const wrong = await guest.manage(subtype, { target: 2, lun: 0 });
			const whole = subtype === TMF.I_T_NEXUS_RESET;
			assert.equal(wrong, whole ? OK : INCORRECT_LUN, `function ${subtype}`);
			const right = await guest.manage(subtype, there);
			const rejected = subtype === TMF.CLEAR_ACA;
			assert.equal(right, rejected ? REJECTED : OK, `function ${subtype}`);
		}
		assert.equal(await guest.manage(99, there), REJECTED);
	}));

test("control requests that cannot be answered go back empty", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const guest = await connect();
		const tmf = Buffer.alloc(24);
		encodeAddress(0, 0).copy(tmf, 8);
		tmf.writeUInt32LE(TMF.QUERY_TASK, 4);
		assert.deepEqual(await guest.control(tmf, 1), Buffer.of(OK));
		assert.deepEqual(await guest.control(tmf, 40), Buffer.of(OK));
		const nothing = Buffer.alloc(0);
		for (const length of [1, 3, 4, 23])
			assert.deepEqual(
				await guest.control(tmf.subarray(0, length), 1),
				nothing,
				`${length} bytes`,
			);
		assert.deepEqual(await guest.control(tmf, 0), nothing, "read-only");
		const unknown = Buffer.from(tmf);
		unknown.writeUInt32LE(7, 0);
		assert.deepEqual(await guest.control(unknown, 1), nothing);
		assert.deepEqual(await guest.control(Buffer.alloc(0), 1), nothing);
	}));

test("notifications: none is supported, and a wrong address is told", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const guest = await connect();
		for (const type of [1, 2]) {
			const ask = (target: number, lun: number) => {
				const out = Buffer.alloc(16);
				out.writeUInt32LE(type, 0);
				encodeAddress(target, lun).copy(out, 4);
				out.writeUInt32LE(0x7e, 12);
				return guest.control(out, 5);
			};
			assert.equal((await ask(0, 0)).toString("hex"), "0000000000");
			assert.equal((await ask(0, 1)).toString("hex"), "000000000c");
			assert.equal((await ask(1, 0)).toString("hex"), "0000000003");
		}
	}));

test("ABORT TASK and QUERY TASK find a command that is long under way", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, MIB_OF_LONG);
		const guest = await connect({ rings: 2 });
		await ready(guest, 2);
		for (const ring of [0, 1]) {
			const victim = watch([guest.send(long(5n, ring))]);
			await moment();
			assert.equal(await guest.manage(TMF.QUERY_TASK, { tag: 5n }), SUCCEEDED);
			assert.equal(await guest.manage(TMF.QUERY_TASK, { tag: 6n }), OK);
			assert.equal(await guest.manage(TMF.QUERY_TASK_SET), SUCCEEDED);
			assert.equal(await guest.manage(TMF.ABORT_TASK, { tag: 6n }), OK);
			assert.equal(victim.ended, 0, "another's abort");
			assert.equal(await guest.manage(TMF.ABORT_TASK, { tag: 5n }), OK);
			const [answer] = await within(victim.all, 1000, () => "the victim's end");
			assert.equal(answer?.response, ABORTED);
			assert.equal(await guest.manage(TMF.QUERY_TASK_SET), OK);
		}
		assertGood(await guest.send(read(0, 1)));
	}));

test("ABORT TASK SET ends a session's commands, and no other's", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, MIB_OF_LONG);
		const guest = await connect({ rings: 2 });
		const other = await connect();
		await ready(guest, 2);
		await ready(other);
		const victims = watch([
			guest.send(long(1n)),
			guest.send(long(2n, 1)),
			guest.send({ ...long(3n), attribute: 1 }),
			guest.send({ ...read(0, 8), tag: 4n, attribute: 1, ring: 1 }),
		]);
		const bystander = watch([other.send(long(1n))]);
		await moment();
		assert.equal(await guest.manage(TMF.ABORT_TASK_SET), OK);
		const answers = await within(victims.all, 1000, () => "the victims' end");
		for (const { response } of answers) assert.equal(response, ABORTED);
		assert.equal(bystander.ended, 0);
		assert.equal(await other.manage(TMF.QUERY_TASK_SET), SUCCEEDED);
		assert.equal(await other.manage(TMF.ABORT_TASK_SET), OK);
		await bystander.all;
		assertGood(await guest.send(read(0, 1)));
	}));

test("CLEAR TASK SET ends everybody's, and tells those who lost some", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, MIB_OF_LONG);
		const [guest, loser, idle] = [
			await connect(),
			await connect(),
			await connect(),
		];
		for (const each of [guest, loser, idle]) await ready(each);
		const victims = watch([guest.send(long(1n)), loser.send(long(2n))]);
		await moment();
		assert.equal(await guest.manage(TMF.CLEAR_TASK_SET), OK);
		for (const { response } of await victims.all)
			assert.equal(response, ABORTED);
		assertGood(await guest.send({ cdb: TEST_UNIT_READY }));
		assertGood(await idle.send({ cdb: TEST_UNIT_READY }));
		const told = await loser.send({ cdb: TEST_UNIT_READY });
		assert.equal(told.senseText, "6/2f00");
	}));

test("LOGICAL UNIT RESET ends everybody's, and all hear of it", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, MIB_OF_LONG);
		const guests = [await connect(), await connect()];
		for (const guest of guests) await ready(guest);
		const victims = watch(guests.map((guest) => guest.send(long(1n))));
		await moment();
		assert.equal(await guests[0]?.manage(TMF.LOGICAL_UNIT_RESET), OK);
		for (const { response } of await victims.all) assert.equal(response, RESET);
		for (const guest of guests) {
			const told = await guest.send(read(0, 1));
			assert.equal(brief(told), "0 2 6/2903 512");
			assertGood(await guest.send(read(0, 1)));
		}
	}));

test("I_T NEXUS RESET is one session's with a whole target", () =>
	onBench(async ({ addFile, addMalloc, connect }) => {
		await addFile("disk", 0, 0, MIB_OF_LONG);
		await addMalloc("second", 0, 7);
		await addMalloc("elsewhere", 1);
		const guest = await connect();
		const other = await connect();
		const all = [{}, { lun: 7 }, { target: 1 }];
		for (const each of [guest, other])
			for (const at of all) await each.insist({ cdb: TEST_UNIT_READY, ...at });
		const reserve = { cdb: [0x16, 0, 0, 0, 0, 0], lun: 7 };
		assertGood(await guest.send(reserve));
		assert.equal((await other.send(reserve)).status, 0x18);
		const victim = watch([guest.send(long(1n))]);
		await moment();
		assert.equal(await guest.manage(TMF.I_T_NEXUS_RESET, { lun: 99 }), OK);
		assert.equal((await victim.all)[0]?.response, RESET);
		const after = async (each: ScsiGuest) => {
			const texts: string[] = [];
			for (const at of all)
				texts.push(
					(await each.send({ cdb: TEST_UNIT_READY, ...at })).senseText,
				);
			return texts;
		};
		assert.deepEqual(await after(guest), ["6/2907", "6/2907", ""]);
		assert.deepEqual(await after(other), ["", "", ""]);
		assertGood(await other.send(reserve));
	}));

/** A reset or an abort is answered when what it is about has ended: long before these let go. */
const AT_ONCE = 10_000;
const HOUR_US = 3_600_000_000;

/** Ends one of four reads of a logical unit that does not end them by itself, then the others. */
async function abortThere(guest: ScsiGuest, lun: number): Promise<void> {
	const four = [1n, 2n, 3n, 4n].map((tag) =>
		guest.send({ ...read(0, 1), lun, tag }),
	);
	// A limit lets the first one go.
	const stay = watch(four.filter((_, i) => i === 1 || i === 3));
	await moment();
	const manage = (subtype: number, tag?: bigint) =>
		within(
			guest.manage(subtype, { lun, ...(tag && { tag }) }),
			AT_ONCE,
			() => `function ${subtype} of logical unit ${lun}`,
		);
	assert.equal(await manage(TMF.ABORT_TASK, 3n), OK);
	assert.equal((await four[2])?.response, ABORTED);
	assert.equal(stay.ended, 0);
	assert.equal(await manage(TMF.LOGICAL_UNIT_RESET), OK);
	const responses = (await stay.all).map(({ response }) => response);
	assert.deepEqual(responses, [RESET, RESET]);
	await four[0];
	assert.equal(await manage(TMF.QUERY_TASK_SET), OK);
}

test("what hangs, is delayed or waits under a limit ends when it is aborted", () =>
	onBench(async ({ engine, addMalloc, connect }) => {
		const { bdevs } = engine;
		const latencies = {
			...{ avg_read: HOUR_US, p99_read: HOUR_US },
			...{ avg_write: 0, p99_write: 0 },
		};
		for (const name of ["hangs", "slow", "limited"])
			await bdevs.createMalloc({ name, blockSize: BLOCK, numBlocks: 2048 });
		const { backend: errors } = await bdevs.createError({ base: "hangs" });
		assert(isError(errors));
		await bdevs.createDelay({ name: "delay", base: "slow", latencies });
		await bdevs.createPassthru({ name: "pass", base: "limited" });
		await bdevs.setQos("limited", { readBytes: 1 });
		const tops = ["EE_hangs", "delay", "pass"];
		for (const [lun, bdev] of tops.entries())
			await engine.addScsiLun({ name: CONTROLLER, target: 0, lun, bdev });
		await addMalloc("fine", 0, 3);
		const guest = await connect();
		const other = await connect();
		for (const each of [guest, other])
			for (const lun of [0, 1, 2, 3])
				await each.insist({ cdb: TEST_UNIT_READY, lun });
		errors.inject(["read"], { kind: "pending", num: 100 });
		await Promise.all([0, 1, 2].map((lun) => abortThere(guest, lun)));

		// What the other session has stays; VERIFY reads from TypeScript.
		const verify = { cdb: cdb16(0x8f, 0, 8, 0x06), out: Buffer.alloc(BLOCK) };
		await guest.insist({ cdb: TEST_UNIT_READY });
		await other.insist({ cdb: TEST_UNIT_READY });
		const stays = watch([other.send(read(0, 1))]);
		const mine = watch([guest.send(read(0, 1)), guest.send(verify)]);
		const hang = (count: number) => () => errors.hanging() === count;
		await waitUntil(hang(3), IN_TIME, () => "three reads hang");
		const aborted = guest.manage(TMF.ABORT_TASK_SET);
		assert.equal(await within(aborted, AT_ONCE, () => "ABORT TASK SET"), OK);
		for (const { response } of await mine.all) assert.equal(response, ABORTED);
		assert.equal(errors.hanging(), 1);
		assert.equal(stays.ended, 0);
		errors.resume();
		for (const answer of await stays.all) assertGood(answer);
		assertGood(await guest.send(read(0, 1)));
	}));

test("functions under a storm of reads: each request ends once, before the function", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, 64);
		const guest = await connect({ rings: 2 });
		await ready(guest, 2);
		const responses = new Set<number>();
		const subtypes = [
			TMF.ABORT_TASK_SET,
			TMF.CLEAR_TASK_SET,
			TMF.LOGICAL_UNIT_RESET,
			TMF.I_T_NEXUS_RESET,
			TMF.ABORT_TASK,
		];
		for (let round = 0; round < 40; round++) {
			const sent = Array.from({ length: 40 }, (_, i) => {
				const at = { ring: i % 2, tag: BigInt(i) };
				if (i % 10 === 9)
					return guest.send({ cdb: cdb10(0x2f, 0, 1024), ...at });
				return guest.send(
					read((i * 256) % 65536, 256, {
						...at,
						attribute: i % 13 === 5 ? 1 : 0,
					}),
				);
			});
			const storm = watch(sent);
			if (round % 3)
				await new Promise((resolve) => setTimeout(resolve, round % 7));
			const subtype = subtypes[round % subtypes.length] ?? 0;
			const response = await within(
				guest.manage(subtype, { tag: 3n }),
				IN_TIME,
				() => `function ${subtype}`,
			);
			assert.equal(response, OK);
			if (subtype === TMF.ABORT_TASK) {
				// By the time it has answered, that one has ended.
				const query = await guest.manage(TMF.QUERY_TASK, { tag: 3n });
				assert.equal(query, OK);
			}
			const answers = await within(storm.all, IN_TIME, () => "the storm's end");
			for (const answer of answers) {
				responses.add(answer.response);
				assert([0, ABORTED, RESET].includes(answer.response), brief(answer));
			}
			await ready(guest);
		}
		assert(responses.has(ABORTED), "some were caught");
		assert(responses.has(0), "some were not");
	}));
