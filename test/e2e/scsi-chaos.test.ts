// SPDX-License-Identifier: MIT
// Everything at once: disks that come, go and change, front ends that do, task management, and I/O.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Logger, VhostctlError } from "../../src/engine/engine.ts";
import { silent } from "../../src/engine/log.ts";
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
	type ScsiBench,
	TEST_UNIT_READY,
	write,
} from "../support/scsi-bench.ts";
import type { ScsiCommand, ScsiGuest } from "../support/scsi-guest.ts";

const SECONDS = 4;
/** As many there must be, however busy the machine. */
const ANSWERS = 500;
const IN_TIME = 30_000;
const TARGETS = 3;
const SEED = Number(process.env.VHOSTCTL_TEST_SEED ?? 20261121);

/** Numbers below n, the same for the same seed (mulberry32). */
function makeRandom(seed: number): (n: number) => number {
	let state = seed;
	return (n) => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) % n;
	};
}

type Random = ReturnType<typeof makeRandom>;

function anyCommand(random: Random): ScsiCommand {
	const at = {
		target: random(TARGETS + 1),
		lun: random(2),
		ring: random(2),
		tag: BigInt(random(50)),
		attribute: random(12) === 0 ? 1 : 0,
	};
	const lba = random(1024);
	const blocks = 1 + random(64);
	const compare = cdb16(0x89, lba, 0);
	compare[13] = 1;
	const kinds: (() => ScsiCommand)[] = [
		() => read(lba, blocks, at),
		() => write(lba, Buffer.alloc(blocks * BLOCK, lba), at),
		() => ({ cdb: [0x12, 0, 0, 0, 36, 0], room: 36, ...at }),
		() => ({ cdb: TEST_UNIT_READY, ...at }),
		() => ({ cdb: cdb16(0x8f, 0, 1024, 6), out: Buffer.alloc(BLOCK), ...at }),
		() => ({ cdb: compare, out: Buffer.alloc(2 * BLOCK), ...at }),
		() => ({ cdb: cdb10(0x41, lba, 16), out: Buffer.alloc(BLOCK), ...at }),
		() => ({ cdb: cdb10(0x35, 0, 0), ...at }),
		() => ({ cdb: [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], room: 64, ...at }),
		() => ({ cdb: [0x1b, 0, 0, 0, random(4) ? 1 : 0, 0], ...at }),
	];
	const pick = random(20);
	const kind = kinds[pick < kinds.length ? pick : pick % 2];
	return kind?.() ?? read(0, 1);
}

/** A front end that sends what comes to its mind, and goes. */
async function visit(bench: ScsiBench, random: Random): Promise<number> {
	const guest: ScsiGuest = await bench.connect({ rings: 2 });
	guest.offerEvents();
	const end = performance.now() + 200 + random(800);
	let answers = 0;
	const worker = async (): Promise<void> => {
		while (performance.now() < end) {
			const { response } = await guest.send(anyCommand(random));
			assert(response <= 4, `response ${response}`);
			answers++;
		}
	};
	const manager = async (): Promise<void> => {
		while (performance.now() < end) {
			await sleep(random(40));
			const response = await guest.manage(random(9), {
				target: random(TARGETS + 1),
				lun: random(2),
				tag: BigInt(random(50)),
			});
			assert([0, 3, 10, 11, 12].includes(response), `function: ${response}`);
		}
	};
	const workers = Array.from({ length: 12 }, worker);
	if (random(3) === 0) {
		// Gone in the middle of it: what had not ended never does.
		await sleep(random(500));
		await guest.close();
		return answers;
	}
	await within(
		Promise.all([...workers, manager()]),
		IN_TIME,
		() => `a front end's commands: ${guest.pending} are left`,
	);
	await guest.close();
	return answers;
}

/** Does one thing to the disks; that it cannot be done now is no fault. */
async function disturb(bench: ScsiBench, random: Random): Promise<void> {
	const target = random(TARGETS);
	const lun = random(2);
	const name = `disk${target}.${lun}`;
	const { engine } = bench;
	const things = [
		() => engine.removeScsiLun(CONTROLLER, target, lun),
		() => engine.removeScsiLun(CONTROLLER, target),
		() => engine.bdevs.delete(name),
		() => engine.addScsiLun({ name: CONTROLLER, target, lun, bdev: name }),
		() => (target === 0 ? bench.addMalloc : bench.addFile)(name, target, lun),
		() => engine.bdevs.resize(name, 1100 + random(4000)),
	];
	try {
		const thing = things[random(things.length)];
		await within(
			Promise.resolve(thing?.()),
			IN_TIME,
			() => `a change of ${name}`,
		);
	} catch (error) {
		if (!(error instanceof VhostctlError)) throw error;
		assert(error.code !== "E_INTERNAL", error.message);
	}
}

/** What the engine had to say for itself: defects and failures that are no guest's. */
const complaints: string[] = [];
const log: Logger = {
	...silent,
	error: (text) => void complaints.push(text),
};

test(`everything at once for ${SECONDS} seconds, and then all is well`, () =>
	onBench(
		async (bench) => {
			const random = makeRandom(SEED);
			const start = performance.now();
			let answers = 0;
			const goesOn = () => {
				const ms = performance.now() - start;
				return ms < SECONDS * 1000 || (answers <= ANSWERS && ms < IN_TIME);
			};
			const visitors = Array.from({ length: 3 }, async () => {
				while (goesOn()) {
					const more = await visit(bench, random);
					answers += more;
				}
			});
			const disturbers = Array.from({ length: 3 }, async () => {
				while (goesOn()) {
					await disturb(bench, random);
					await sleep(random(30));
				}
			});
			await Promise.all([...visitors, ...disturbers]);
			assert(answers > ANSWERS, `${answers} answers`);
			await waitUntil(
				() => bench.controller.sessions.length === 0,
				IN_TIME,
				() => "the last session's end",
			);
			for (const { number } of bench.controller.targets())
				await bench.engine.removeScsiLun(CONTROLLER, number);
			for (const { name } of bench.engine.bdevs.list())
				await bench.engine.bdevs.delete(name);
			await bench.addFile("after", 7);
			const guest = await bench.connect();
			assertGood(await guest.insist(read(0, 8, { target: 7 })));
			const left = await guest.send({ cdb: TEST_UNIT_READY, target: 0 });
			assert.equal(brief(left), "3 0 - 0");
			assert.deepEqual(complaints, []);
		},
		{ log },
	));
