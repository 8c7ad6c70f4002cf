// SPDX-License-Identifier: MIT
// Targets and LUNs that come and go under I/O, and what the driver hears of it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { truncateSync } from "node:fs";
import { test } from "node:test";
import { VIRTIO_F, VIRTIO_SCSI_F } from "../../src/engine/virtio/features.ts";
import { fails } from "../support/engine.ts";
import { waitUntil, within } from "../support/processes.ts";
import {
	assertGood,
	BLOCK,
	brief,
	CONTROLLER,
	cdb16,
	MIB,
	onBench,
	pattern,
	read,
	type ScsiBench,
	TEST_UNIT_READY,
	write,
} from "../support/scsi-bench.ts";
import type { ScsiGuest } from "../support/scsi-guest.ts";

const IN_TIME = 20_000;
const BAD_TARGET = 3;

const capacity = async (guest: ScsiGuest, at = {}): Promise<number> => {
	const cdb = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
	const answer = await guest.insist({ cdb, room: 32, ...at });
	assertGood(answer);
	return Number(answer.data.readBigUInt64BE(0)) + 1;
};

test("slots: by number, the first free, taken, beyond the last", () =>
	onBench(async ({ addMalloc, engine, controller }) => {
		assert.equal(await addMalloc("a", 1), 1);
		assert.equal(await addMalloc("b", -1), 0);
		assert.equal(await addMalloc("c", -1), 2);
		assert.equal(await addMalloc("d", 1, 255), 1);
		const numBlocks = 2048;
		await engine.bdevs.createMalloc({ name: "e", blockSize: BLOCK, numBlocks });
		const add = (target: number, lun: number, bdev = "e") =>
			engine.addScsiLun({ name: CONTROLLER, target, lun, bdev });
		await fails(add(1, 0), "E_EXISTS", /target 1 has a LUN 0/);
		await fails(add(256, 0), "E_INVALID");
		await fails(add(-2, 0), "E_INVALID");
		await fails(add(0, 256), "E_INVALID");
		await fails(add(5, 0, "a"), "E_BUSY", /claimed/);
		await fails(add(5, 0, "none"), "E_NOT_FOUND");
		const remove = (target: number, lun?: number) =>
			engine.removeScsiLun(CONTROLLER, target, lun);
		await fails(remove(9), "E_NOT_FOUND");
		await fails(remove(1, 1), "E_NOT_FOUND");
		await fails(remove(256), "E_INVALID");
		assert.deepEqual(
			controller
				.targets()
				.map(({ number, luns }) => [
					number,
					...luns.map(({ lun, bdev }) => `${lun}:${bdev.name}`),
				]),
			[
				[0, "0:b"],
				[1, "0:a", "255:d"],
				[2, "0:c"],
			],
		);
		await remove(1);
		assert.equal(await add(-1, 0), 1);
		await fails(
			engine.addScsiLun({ name: "other", target: 0, bdev: "a" }),
			"E_NOT_FOUND",
		);
	}));

test("256 targets, and not one more", () =>
	onBench(async ({ engine, connect }) => {
		for (let i = 0; i < 256; i++) {
			const name = `n${i}`;
			await engine.bdevs.createNull({ name, blockSize: BLOCK, numBlocks: 8 });
			const target = { name: CONTROLLER, target: -1, bdev: name };
			assert.equal(await engine.addScsiLun(target), i);
		}
		await engine.bdevs.createNull({
			name: "x",
			blockSize: BLOCK,
			numBlocks: 8,
		});
		await fails(
			engine.addScsiLun({ name: CONTROLLER, target: -1, bdev: "x" }),
			"E_BUSY",
		);
		const guest = await connect();
		for (const target of [0, 128, 255])
			assertGood(await guest.insist(read(0, 8, { target })));
	}));

test("a controller that is delayed takes front ends only when started", () =>
	onBench(async ({ engine }) => {
		const name = "late";
		const controller = await engine.createScsiController({ name, delay: true });
		assert.equal(controller.started, false);
		await engine.startController(name);
		assert.equal(controller.started, true);
		await fails(engine.startController(name), "E_EXISTS");
		await fails(engine.startController("none"), "E_NOT_FOUND");
		await engine.deleteController(name);
	}));

test("hot add, resize and hot remove are told by events and unit attentions", () =>
	onBench(async ({ addMalloc, addFile, engine, connect }) => {
		await addMalloc("first", 4, 0);
		const guest = await connect();
		guest.offerEvents();
		await guest.insist({ cdb: TEST_UNIT_READY, target: 4 });
		const path = await addFile("second", 4, 9, 2);
		assert.equal(await guest.nextEvent(), "1 0104000900000000 1");
		const told = await guest.send({ cdb: TEST_UNIT_READY, target: 4 });
		assert.equal(told.senseText, "6/3f0e");
		const at = { target: 4, lun: 9 };
		assert.equal(await capacity(guest, at), 4096);

		truncateSync(path, 3 * MIB);
		await engine.bdevs.rescan("second");
		assert.equal(await guest.nextEvent(), "3 0104000900000000 92a");
		const changed = await guest.send({ cdb: TEST_UNIT_READY, ...at });
		assert.equal(changed.senseText, "6/2a09");
		assert.equal(await capacity(guest, at), 6144);
		assertGood(await guest.send(read(6143, 1, at)));
		await engine.bdevs.resize("first", 1024);
		assert.equal(await guest.nextEvent(), "3 0104000000000000 92a");

		await engine.removeScsiLun(CONTROLLER, 4, 9);
		assert.equal(await guest.nextEvent(), "1 0104000900000000 2");
		const gone = await guest.send({ cdb: TEST_UNIT_READY, ...at });
		assert.equal(brief(gone), "0 2 5/2500 0");
		await engine.removeScsiLun(CONTROLLER, 4);
		assert.equal(await guest.nextEvent(), "1 0104000000000000 2");
		const target = await guest.send({ cdb: TEST_UNIT_READY, target: 4 });
		assert.equal(target.response, BAD_TARGET);
		assert.equal(guest.events.length, 0);
	}));

test("events without a buffer are missed, and the driver hears that", () =>
	onBench(async ({ addMalloc, connect }) => {
		const guest = await connect();
		await addMalloc("first", 1);
		await addMalloc("second", 2);
		guest.offerEvents(1);
		assert.equal(await guest.nextEvent(), "80000000 0000000000000000 0");
		guest.offerEvents(1);
		await addMalloc("third", 3);
		assert.equal(await guest.nextEvent(), "1 0103000000000000 1");
	}));

test("no events for a driver that did not ask for them", () =>
	onBench(async ({ addMalloc, engine, connect }) => {
		const guest = await connect({
			features: VIRTIO_F.VERSION_1 | VIRTIO_SCSI_F.CHANGE,
		});
		guest.offerEvents();
		await addMalloc("disk", 1);
		await engine.bdevs.resize("disk", 4096);
		assert.equal(await guest.nextEvent(), "3 0101000000000000 92a");
		await engine.removeScsiLun(CONTROLLER, 1);
		assert.equal(guest.events.length, 0);
	}));

/** Keeps a disk busy in every way until told to stop; counts how its commands end. */
function keepBusy(guest: ScsiGuest, at: { target: number; lun?: number }) {
	const ends = new Map<string, number>();
	let running = true;
	const note = (text: string) => ends.set(text, (ends.get(text) ?? 0) + 1);
	const worker = async (n: number): Promise<void> => {
		for (let i = 0; running; i++) {
			const where = { ...at, ring: n % 2 };
			const kinds = [
				read(((i + n) * 64) % 1024, 64, where),
				write(((i + n) * 64) % 1024, Buffer.alloc(64 * BLOCK, n), where),
				{ cdb: [0x12, 0, 0, 0, 36, 0], room: 36, ...where },
				{ cdb: cdb16(0x8f, 0, 256), ...where },
				read(0, 8, { ...where, attribute: 1 }),
			];
			const command = kinds[(i + n) % kinds.length];
			if (!command) return;
			const { response, status, senseText } = await guest.send(command);
			note(`${response} ${status} ${senseText}`);
		}
	};
	const workers = Promise.all(Array.from({ length: 8 }, (_, n) => worker(n)));
	return {
		ends,
		async stop() {
			running = false;
			await within(workers, IN_TIME, () => "the workers' end");
		},
	};
}

/** Every way a disk may go, with what the guest may see of it. */
async function comeAndGo(
	bench: ScsiBench,
	take: (name: string) => Promise<void>,
	bring: (name: string) => Promise<unknown>,
): Promise<void> {
	const { connect, controller } = bench;
	await bench.addFile("steady", 0);
	await bring("moving");
	const guest = await connect({ rings: 2 });
	const other = await connect({ rings: 2 });
	for (const each of [guest, other]) await each.insist(read(0, 1));
	const steady = keepBusy(guest, { target: 0 });
	const moving = [guest, other].map((each) => keepBusy(each, { target: 3 }));
	for (let round = 0; round < 6; round++) {
		await new Promise((resolve) => setTimeout(resolve, 40));
		await within(take("moving"), IN_TIME, () => "the removal");
		assert.deepEqual(
			controller.targets().map(({ number }) => number),
			[0],
		);
		await bring("moving");
	}
	for (const load of [steady, ...moving]) await load.stop();
	for (const end of steady.ends.keys()) assert.equal(end, "0 0 ");
	for (const { ends } of moving) {
		assert(ends.has("0 0 "), "it was there at times");
		assert(ends.has("3 0 "), "and was not at others");
		for (const end of ends.keys())
			assert.match(end, /^(0 0 |3 0 |0 2 6\/2900|0 2 4\/4400)$/);
	}
	for (const each of [guest, other]) {
		const data = pattern(BLOCK, 5);
		assertGood(await each.insist(write(1, data, { target: 3 })));
		assert.deepEqual((await each.send(read(1, 1, { target: 3 }))).data, data);
	}
}

test("LUNs are removed and added under I/O, on this disk and on others", () =>
	onBench((bench) =>
		comeAndGo(
			bench,
			(name) => bench.engine.removeScsiLun(CONTROLLER, 3).then(() => void name),
			async (name) => {
				const add = () =>
					bench.engine.addScsiLun({ name: CONTROLLER, target: 3, bdev: name });
				await add().catch(() => bench.addFile(name, 3));
			},
		),
	));

test("bdevs are deleted under I/O, and come back under the same name", () =>
	onBench((bench) =>
		comeAndGo(
			bench,
			(name) => bench.engine.bdevs.delete(name),
			(name) => bench.addFile(name, 3),
		),
	));

test("a disk that shrinks and grows under I/O", () =>
	onBench(async ({ addMalloc, connect, engine }) => {
		await addMalloc("disk", 3, 0, 1);
		const guest = await connect({ rings: 2 });
		await guest.insist(read(0, 1, { target: 3 }));
		const load = keepBusy(guest, { target: 3 });
		for (let round = 0; round < 10; round++) {
			await within(
				engine.bdevs.resize("disk", round % 2 ? 1024 + round * 4096 : 700),
				IN_TIME,
				() => "a resize",
			);
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
		await load.stop();
		for (const end of load.ends.keys())
			assert.match(end, /^0 (0 |2 6\/2a09|2 5\/2100)/);
	}));

test("an identity that stays: the same UUID, serial and names after a restart", async () => {
	const pages: string[] = [];
	for (let run = 0; run < 2; run++)
		await onBench(async ({ engine, connect }) => {
			await engine.bdevs.createMalloc({
				name: "disk",
				blockSize: BLOCK,
				numBlocks: 2048,
				vendor: "ACME",
				product: "Rocket disk",
				serial: "0815",
			});
			await engine.addScsiLun({ name: CONTROLLER, target: 0, bdev: "disk" });
			const guest = await connect();
			const ask = async (page: number) => {
				const cdb = [0x12, page ? 1 : 0, page, 0, 252, 0];
				const answer = await guest.send({ cdb, room: 252 });
				return answer.data;
			};
			const standard = (await ask(0)).toString("latin1", 8, 32);
			assert.equal(standard, "ACME    Rocket disk     ");
			assert.match((await ask(0x80)).toString("latin1"), /0815/);
			const { uuid } = engine.bdevs.get("disk");
			pages.push(`${uuid} ${(await ask(0x83)).toString("hex")}`);
		});
	assert.equal(pages[0], pages[1]);
	await onBench(async ({ engine }) => {
		const make = (identity: object) =>
			engine.bdevs.createNull({
				name: "x",
				blockSize: BLOCK,
				numBlocks: 8,
				...identity,
			});
		await fails(make({ vendor: "NINECHARS" }), "E_INVALID");
		await fails(make({ serial: "é" }), "E_INVALID");
		await waitUntil(
			() => true,
			1,
			() => "",
		);
	});
});
