// SPDX-License-Identifier: MIT
// A virtio-scsi controller end to end: commands from a driver's ring to the disk and back.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { VIRTIO_F, VIRTIO_SCSI_F } from "../../src/engine/virtio/features.ts";
import {
	makeTempDir,
	removeTempDir,
	waitUntil,
	within,
} from "../support/processes.ts";
import {
	assertGood,
	BLOCK,
	brief,
	cdb10,
	cdb16,
	MIB,
	onBench,
	pattern,
	read,
	TEST_UNIT_READY,
	write,
} from "../support/scsi-bench.ts";
import type { ScsiAnswer } from "../support/scsi-guest.ts";

const IN_TIME = 20_000;
const ORDERED = 1;
const HEAD = 2;
const ACA = 3;
const INQUIRY_36 = [0x12, 0, 0, 0, 36, 0];

test("the first command meets a unit attention, then reads and writes go", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const guest = await connect();
		const first = await guest.send({ cdb: TEST_UNIT_READY });
		assert.equal(brief(first), "0 2 6/2900 0");
		assert.equal(first.used, 12 + first.sense.length);
		assertGood(await guest.send({ cdb: TEST_UNIT_READY }));
		const data = pattern(8 * BLOCK, 7);
		assertGood(await guest.send(write(100, data)));
		const back = await guest.send(read(100, 8));
		assertGood(back);
		assert.deepEqual(back.data, data);
	}));

test("configuration space: sizes that the driver sets, and a reset takes back", () =>
	onBench(async ({ connect }) => {
		const { frontend } = await connect();
		assert.equal(frontend.config.readUInt32LE(0), 254);
		assert.equal(frontend.config.readUInt32LE(20), 96);
		const sizes = Buffer.alloc(8);
		sizes.writeUInt32LE(64, 0);
		sizes.writeUInt32LE(16, 4);
		await frontend.writeConfig(20, sizes);
		assert.deepEqual(await frontend.readConfig(20, 8), sizes);
		await assert.rejects(frontend.writeConfig(0, sizes.subarray(0, 4)));
		sizes.writeUInt32LE(5, 4);
		await assert.rejects(frontend.writeConfig(20, sizes));
		await frontend.reset();
		assert.equal((await frontend.readConfig(20, 4)).readUInt32LE(), 96);
		assert.equal((await frontend.readConfig(24, 4)).readUInt32LE(), 32);
	}));

test("residuals: buffers longer and shorter than what is transferred", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const guest = await connect();
		await guest.insist({ cdb: TEST_UNIT_READY });
		const table: [string, Parameters<typeof guest.send>[0], string][] = [
			["INQUIRY, more room", { cdb: INQUIRY_36, room: 100 }, "0 0 - 64"],
			["INQUIRY, no room", { cdb: INQUIRY_36 }, "1 0 - 0"],
			["INQUIRY, little room", { cdb: INQUIRY_36, room: 35 }, "1 0 - 35"],
			["no data, but room", { cdb: TEST_UNIT_READY, room: 8 }, "0 0 - 8"],
			[
				"no data, but data-out",
				{ cdb: TEST_UNIT_READY, out: Buffer.alloc(9) },
				"0 0 - 9",
			],
			["READ, more room", read(0, 1, { room: 1024 }), "0 0 - 512"],
			["READ, less room", read(0, 2, { room: 512 }), "1 0 - 512"],
			[
				"WRITE, more data",
				{ cdb: cdb10(0x2a, 0, 1), out: Buffer.alloc(1536) },
				"0 0 - 1024",
			],
			[
				"WRITE, less data",
				{ cdb: cdb10(0x2a, 0, 2), out: Buffer.alloc(512) },
				"1 0 - 512",
			],
			["READ beyond the end", read(2048, 1), "0 2 5/2100 512"],
			[
				"READ, wrong field",
				{ ...read(0, 1), cdb: [0x28, 1, ...cdb10(0x28, 0, 1).slice(2)] },
				"0 2 5/2400 512",
			],
			[
				"MODE SELECT, data-out used",
				{
					cdb: [0x15, 0x10, 0, 0, 4, 0],
					out: Buffer.alloc(10),
				},
				"0 0 - 6",
			],
		];
		for (const [name, command, expected] of table)
			assert.equal(brief(await guest.send(command)), expected, name);
		const { data } = await guest.send({ cdb: INQUIRY_36, room: 40 });
		assert.deepEqual(data.subarray(36), Buffer.alloc(4, 0xee));
	}));

test("addresses without a logical unit", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk", 3, 5);
		const guest = await connect();
		const bad = Buffer.from("0203400500000000", "hex");
		assert.equal(
			brief(await guest.send({ cdb: TEST_UNIT_READY, lunBytes: bad })),
			"3 0 - 0",
		);
		assert.equal(
			brief(await guest.send({ cdb: TEST_UNIT_READY, target: 2 })),
			"3 0 - 0",
		);
		const absent = { target: 3, lun: 4 };
		assert.equal(
			brief(await guest.send({ cdb: TEST_UNIT_READY, ...absent })),
			"0 2 5/2500 0",
		);
		const inquiry = await guest.send({ cdb: INQUIRY_36, room: 36, ...absent });
		assert.equal(inquiry.data[0], 0x7f);
		const cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
		const luns = await guest.send({ cdb, room: 64, ...absent });
		assert.equal(
			luns.data.subarray(0, 16).toString("hex"),
			"00000008000000000005000000000000",
		);
		const wellKnown = Buffer.from("c101000000000000", "hex");
		const all = await guest.send({ cdb, room: 64, lunBytes: wellKnown });
		assert.equal(
			all.data.subarray(0, 16).toString("hex"),
			"00000008000000000103000500000000",
		);
		const type = await guest.send({
			cdb: INQUIRY_36,
			room: 36,
			lunBytes: wellKnown,
		});
		assert.equal(type.data[0], 0x1e);
	}));

test("both buffers without INOUT are a failure, with it they are not", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const command = { ...read(0, 1), out: Buffer.alloc(8) };
		const plain = await connect({ features: VIRTIO_F.VERSION_1 });
		assert.equal((await plain.send(command)).response, 9);
		const guest = await connect();
		await guest.insist({ cdb: TEST_UNIT_READY });
		assert.equal(brief(await guest.send(command)), "0 0 - 8");
		assert.equal(
			guest.frontend.features & VIRTIO_SCSI_F.INOUT,
			VIRTIO_SCSI_F.INOUT,
		);
	}));

test("task attributes: ORDERED and HEAD OF QUEUE are executed, ACA is refused", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const guest = await connect({ rings: 2 });
		await guest.insist({ cdb: TEST_UNIT_READY });
		const data = pattern(BLOCK, 3);
		for (const attribute of [ORDERED, HEAD]) {
			assertGood(await guest.send(write(1, data, { attribute })));
			const back = await guest.send(read(1, 1, { attribute, ring: 1 }));
			assertGood(back);
			assert.deepEqual(back.data, data);
		}
		for (const attribute of [ACA, 9])
			assert.equal(
				brief(await guest.send(read(1, 1, { attribute }))),
				"0 2 5/4900 512",
			);
	}));

test("ORDERED comes after what was sent before, and before what comes after", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, 4);
		const guest = await connect({ rings: 2 });
		for (const ring of [0, 1])
			await guest.insist({ cdb: TEST_UNIT_READY, ring });
		await guest.send(read(0, 1));
		await guest.send(read(0, 1, { ring: 1 }));
		for (let round = 1; round <= 20; round++) {
			const before = pattern(128 * BLOCK, round);
			const after = pattern(128 * BLOCK, round + 100);
			const order: string[] = [];
			const note = (name: string) => (answer: ScsiAnswer) => {
				assertGood(answer);
				order.push(name);
				return answer;
			};
			const ends = [
				guest.send(write(0, before)).then(note("write")),
				guest.send(read(0, 128, { attribute: ORDERED })).then(note("ordered")),
				guest.send(write(0, after)).then(note("after")),
			];
			const [, ordered] = await within(
				Promise.all(ends),
				IN_TIME,
				() => "the end of three commands",
			);
			assert.deepEqual(ordered?.data, before);
			assert.deepEqual((await guest.send(read(0, 128))).data, after);
		}
	}));

test("many ORDERED commands on all rings at once come to an end", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, 4);
		const guests = [await connect({ rings: 2 }), await connect({ rings: 2 })];
		for (const guest of guests) await guest.insist({ cdb: TEST_UNIT_READY });
		const ends = guests.flatMap((guest) =>
			Array.from({ length: 60 }, (_, i) => {
				const attribute = i % 3 === 0 ? ORDERED : 0;
				const at = { attribute, ring: i % 2 };
				return i % 4 === 0
					? guest.insist({ cdb: INQUIRY_36, room: 36, ...at })
					: guest.insist(read(i * 16, 16, at));
			}),
		);
		const answers = await within(Promise.all(ends), IN_TIME, () => "all ends");
		for (const answer of answers) assertGood(answer);
	}));

/** COMPARE AND WRITE of one block. */
const compareAndWrite = (lba: number, old: Buffer, next: Buffer, ring = 0) => ({
	cdb: (() => {
		const cdb = cdb16(0x89, lba, 0);
		cdb[13] = 1;
		return cdb;
	})(),
	out: Buffer.concat([old, next]),
	ring,
});

test("COMPARE AND WRITE is atomic against others and against plain writes", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk");
		const guests = [await connect({ rings: 2 }), await connect({ rings: 2 })];
		for (const guest of guests)
			for (const ring of [0, 1])
				await guest.insist({ cdb: TEST_UNIT_READY, ring });
		const counter = (value: number) => {
			const block = Buffer.alloc(BLOCK);
			block.writeUInt32LE(value, 0);
			return block;
		};
		const PER_WORKER = 15;
		const workers = guests.flatMap((guest) =>
			[0, 1].map(async (ring) => {
				for (let done = 0; done < PER_WORKER; ) {
					const { data } = await guest.send(read(9, 1, { ring }));
					const value = data.readUInt32LE(0);
					const answer = await guest.send(
						compareAndWrite(9, counter(value), counter(value + 1), ring),
					);
					if (answer.senseText === "e/1d00") continue;
					assertGood(answer);
					done++;
				}
			}),
		);
		// Beside them, plain writes elsewhere, executed in C, held back again and again.
		let ended = false;
		const other = await connect();
		await other.insist({ cdb: TEST_UNIT_READY });
		const noise = (async () => {
			while (!ended) assertGood(await other.send(write(100, counter(1))));
		})();
		await within(Promise.all(workers), 60_000, () => "the workers' end");
		ended = true;
		await noise;
		const final = await other.send(read(9, 1));
		assert.equal(final.data.readUInt32LE(0), 4 * PER_WORKER);
	}));

test("a persistent reservation of one initiator keeps the other out, in C too", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const holder = await connect();
		const other = await connect();
		for (const guest of [holder, other]) {
			await guest.insist({ cdb: TEST_UNIT_READY });
			assertGood(await guest.send(read(0, 1)));
		}
		const parameters = Buffer.alloc(24);
		parameters.writeBigUInt64BE(0x1234n, 8);
		const out = (action: number, type: number, list: Buffer) => ({
			cdb: [0x5f, action, type, 0, 0, 0, 0, 0, 24, 0],
			out: list,
		});
		assertGood(await holder.send(out(0, 0, parameters)));
		const reserve = Buffer.alloc(24);
		reserve.writeBigUInt64BE(0x1234n, 0);
		assertGood(await holder.send(out(1, 1, reserve))); // write exclusive
		assert.equal(
			brief(await other.send(write(0, Buffer.alloc(BLOCK)))),
			"0 18 - 512",
		);
		assertGood(await other.send(read(0, 1)));
		assertGood(await holder.send(write(0, Buffer.alloc(BLOCK))));
		assertGood(await holder.send(out(2, 1, reserve)));
		assertGood(await holder.send(out(1, 3, reserve))); // exclusive access
		assert.equal(brief(await other.insist(read(0, 1))), "0 18 - 512");
		assertGood(await holder.send(out(2, 3, reserve)));
		assertGood(await other.insist(write(0, Buffer.alloc(BLOCK))));
	}));

test("persistent reservations outlive a restart if they are to (APTPL)", async () => {
	const stateDir = makeTempDir();
	try {
		const reserve = Buffer.alloc(24);
		reserve.writeBigUInt64BE(0x77n, 8);
		reserve[20] = 1; // APTPL
		await onBench(
			async ({ addMalloc, connect }) => {
				await addMalloc("disk");
				const guest = await connect();
				await guest.insist({ cdb: TEST_UNIT_READY });
				const register = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
				assertGood(await guest.send({ cdb: register, out: reserve }));
				reserve.writeBigUInt64BE(0x77n, 0);
				const take = [0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0];
				assertGood(await guest.send({ cdb: take, out: reserve }));
			},
			{ stateDir },
		);
		await onBench(
			async ({ addMalloc, connect }) => {
				await addMalloc("disk");
				const holder = await connect();
				const other = await connect();
				assertGood(await holder.insist(read(0, 1)));
				assert.equal(brief(await other.insist(read(0, 1))), "0 18 - 512");
			},
			{ stateDir },
		);
	} finally {
		removeTempDir(stateDir);
	}
});

test("EXTENDED COPY from one disk of the controller to another", () =>
	onBench(async ({ addMalloc, addFile, connect }) => {
		await addMalloc("from");
		await addFile("to", 1);
		const guest = await connect();
		const designators: Buffer[] = [];
		for (const target of [0, 1]) {
			await guest.insist({ cdb: TEST_UNIT_READY, target });
			const cdb = [0x12, 1, 0x83, 0, 252, 0];
			const { data } = await guest.send({ cdb, room: 252, target });
			let at = 4;
			while ((data.readUInt8(at + 1) & 0x3f) !== 3)
				at += 4 + data.readUInt8(at + 3);
			designators.push(data.subarray(at, at + 4 + data.readUInt8(at + 3)));
		}
		const content = pattern(64 * BLOCK, 11);
		assertGood(await guest.send(write(10, content)));
		const targets = designators.map((designator) => {
			const descriptor = Buffer.alloc(32);
			descriptor[0] = 0xe4;
			designator.copy(descriptor, 4);
			descriptor.writeUIntBE(BLOCK, 29, 3);
			return descriptor;
		});
		const segment = Buffer.alloc(28);
		segment[0] = 2;
		segment.writeUInt16BE(24, 2);
		segment.writeUInt16BE(0, 4);
		segment.writeUInt16BE(1, 6);
		segment.writeUInt16BE(64, 10);
		segment.writeBigUInt64BE(10n, 12);
		segment.writeBigUInt64BE(500n, 20);
		const head = Buffer.alloc(16);
		head.writeUInt16BE(64, 2);
		head.writeUInt32BE(28, 8);
		const out = Buffer.concat([head, ...targets, segment]);
		const cdb = Buffer.alloc(16);
		cdb[0] = 0x83;
		cdb.writeUInt32BE(out.length, 10);
		assertGood(await guest.send({ cdb: [...cdb], out }));
		const back = await guest.send(read(500, 64, { target: 1 }));
		assert(back.data.equals(content));
	}));

test("a write-through cache, and descriptor format sense data, by MODE SELECT", () =>
	onBench(async ({ addMalloc, connect }) => {
		await addMalloc("disk");
		const guest = await connect();
		await guest.insist({ cdb: TEST_UNIT_READY });
		const sense = { cdb: [0x1a, 8, 0x0a, 0, 64, 0], room: 64 };
		const { data } = await guest.send(sense);
		const list = Buffer.from(data.subarray(0, (data[0] ?? 0) + 1));
		list[0] = 0;
		list[2] = 0;
		list[6] = (list[6] ?? 0) | 0x04; // D_SENSE
		const select = [0x15, 0x10, 0, 0, list.length, 0];
		assertGood(await guest.send({ cdb: select, out: list }));
		const refused = await guest.send(read(9999, 1));
		assert.equal(refused.sense[0], 0x72);
		assert.equal(refused.senseText, "5/2100");
	}));

test("rings stop and start with commands under way, on either side", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, 4);
		const guest = await connect({ rings: 2 });
		await guest.insist({ cdb: TEST_UNIT_READY });
		let running = true;
		const load = [0, 1].map(async (ring) => {
			while (running) {
				const ends = [
					...Array.from({ length: 8 }, (_, i) =>
						guest.send(read(i * 64, 64, { ring })),
					),
					guest.send({ cdb: INQUIRY_36, room: 36, ring }),
					guest.send({ cdb: cdb16(0x8f, 0, 64), ring }), // VERIFY
				];
				for (const answer of await Promise.all(ends)) assertGood(answer);
			}
		});
		for (let round = 0; round < 10; round++) {
			await within(guest.frontend.setMemTable(), IN_TIME, () => "a new table");
			for (const index of [2, 3]) {
				const base = await within(
					guest.frontend.stopRing(index),
					IN_TIME,
					() => "the ring's end",
				);
				await guest.frontend.startRing(index, base);
			}
		}
		running = false;
		await within(Promise.all(load), IN_TIME, () => "the load's end");
	}));

test("a front end that goes with commands under way leaves nothing behind", () =>
	onBench(async ({ addFile, connect, controller }) => {
		await addFile("disk", 0, 0, 64);
		const stays = await connect();
		await stays.insist({ cdb: TEST_UNIT_READY });
		for (let round = 0; round < 3; round++) {
			const guest = await connect({ rings: 2 });
			await guest.insist({ cdb: TEST_UNIT_READY });
			for (let i = 0; i < 20; i++) {
				void guest.send(read(i * 128, 128, { ring: i % 2 }));
				void guest.send({ cdb: cdb16(0x8f, 0, 65536), ring: i % 2 });
				void guest.send(read(i, 1, { attribute: ORDERED, ring: i % 2 }));
			}
			await within(guest.close(), IN_TIME, () => "the front end's end");
			await waitUntil(
				() => controller.sessions.length === 1,
				IN_TIME,
				() => "the session's end",
			);
			assertGood(await stays.insist(read(0, 1)));
		}
	}));

test("large reads and writes, wholly through this side where they must", () =>
	onBench(async ({ addFile, connect }) => {
		await addFile("disk", 0, 0, 4);
		const guest = await connect();
		await guest.insist({ cdb: TEST_UNIT_READY });
		const data = pattern(128 * 1024, 9);
		const blocks = data.length / BLOCK;
		// FUA goes up, WRITE AND VERIFY is all this side's.
		const fua = cdb10(0x2a, 5, blocks);
		fua[1] = 8;
		assertGood(await guest.send({ cdb: fua, out: data }));
		const readFua = cdb10(0x28, 5, blocks);
		readFua[1] = 8;
		const back = await guest.send({ cdb: readFua, room: data.length });
		assertGood(back);
		assert(back.data.equals(data));
		const verify = cdb10(0x2e, 300, blocks);
		assertGood(await guest.send({ cdb: verify, out: data }));
		assert((await guest.send(read(300, blocks))).data.equals(data));
		assertGood(await guest.send({ cdb: cdb10(0x35, 0, 0) }));
		assert(4 * MIB > data.length);
	}));
