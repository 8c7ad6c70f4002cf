// SPDX-License-Identifier: MIT
// Random block commands against a model of the disk that could not be simpler.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { atomicOperations } from "../../src/engine/scsi/atomic.ts";
import { cacheOperations } from "../../src/engine/scsi/cache.ts";
import { copyOperations } from "../../src/engine/scsi/extended-copy.ts";
import { readWriteOperations } from "../../src/engine/scsi/read-write.ts";
import { unmapOperations } from "../../src/engine/scsi/unmap.ts";
import { verifyOperations } from "../../src/engine/scsi/verify.ts";
import { writeSameOperations } from "../../src/engine/scsi/write-same.ts";
import { byteDisk } from "../support/byte-disk.ts";
import { type Answer, type Harness, harness } from "../support/scsi.ts";
import { rangeCdb } from "../support/scsi-cases.ts";

const BLOCKS = 200;
const SIZE = 512;
const COMMANDS = 3000;
const SEED = 20240521;

type Random = (below: number) => number;

/** The same numbers for the same seed (mulberry32). */
function seeded(seed: number): Random {
	let state = seed;
	return (below) => {
		state = (state + 0x6d2b79f5) | 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
	};
}

interface Model {
	readonly bytes: Buffer;
	/** One a block that is mapped. */
	readonly mapped: Uint8Array;
}

interface Step {
	readonly cdb: Buffer;
	readonly dataOut?: Buffer;
	readonly room?: number;
	/** Does the same to the model; what the answer must be. */
	play(model: Model): Partial<Answer>;
}

const SIZES = [10, 12, 16] as const;

function pick<T>(random: Random, all: readonly T[]): T {
	const one = all[random(all.length)];
	assert(one !== undefined);
	return one;
}

/** Few kinds of bytes, so that blocks are alike now and then. */
function randomBlocks(random: Random, blocks: number): Buffer {
	const out = Buffer.alloc(blocks * SIZE);
	for (let block = 0; block < blocks; block++)
		out.fill(
			pick(random, [0, 0, 1, 2, 0x55, 0xff]),
			block * SIZE,
			(block + 1) * SIZE,
		);
	return out;
}

function randomRange(random: Random, most: number): [number, number] {
	const lba = random(BLOCKS);
	return [lba, 1 + random(Math.min(most, BLOCKS - lba))];
}

function slice({ bytes }: Model, lba: number, blocks: number): Buffer {
	return bytes.subarray(lba * SIZE, (lba + blocks) * SIZE);
}

function store(model: Model, lba: number, data: Buffer): void {
	data.copy(model.bytes, lba * SIZE);
	model.mapped.fill(1, lba, lba + data.length / SIZE);
}

function clear(
	model: Model,
	lba: number,
	blocks: number,
	mapped: boolean,
): void {
	model.bytes.fill(0, lba * SIZE, (lba + blocks) * SIZE);
	model.mapped.fill(mapped ? 1 : 0, lba, lba + blocks);
}

function differs(model: Model, lba: number, data: Buffer): number {
	const there = slice(model, lba, data.length / SIZE);
	return data.findIndex((byte, at) => byte !== there[at]);
}

/** GOOD, or MISCOMPARE with an offset. */
function compared(at: number): Partial<Answer> {
	if (at < 0) return { status: 0 };
	const sense = Buffer.from("f0000e000000000a000000001d0000000000", "hex");
	sense.writeUInt32BE(at, 3);
	return { status: 2, sense };
}

const read = (random: Random): Step => {
	const [lba, blocks] = randomRange(random, 40);
	const size = pick(random, SIZES);
	const flags = random(4) << 3;
	const opcode = { 10: 0x28, 12: 0xa8, 16: 0x88 }[size];
	return {
		cdb: rangeCdb(opcode, size, { lba, blocks, flags }),
		room: blocks * SIZE + random(3) * 100,
		play: (model) => ({
			status: 0,
			data: Buffer.from(slice(model, lba, blocks)),
		}),
	};
};

const write = (random: Random): Step => {
	const [lba, blocks] = randomRange(random, 40);
	const size = pick(random, SIZES);
	const verifies = random(2) === 0;
	const flags = verifies ? random(2) << 1 : random(4) << 3;
	const opcode = verifies
		? { 10: 0x2e, 12: 0xae, 16: 0x8e }[size]
		: { 10: 0x2a, 12: 0xaa, 16: 0x8a }[size];
	const dataOut = randomBlocks(random, blocks);
	return {
		cdb: rangeCdb(opcode, size, { lba, blocks, flags }),
		dataOut,
		play(model) {
			store(model, lba, dataOut);
			return { status: 0 };
		},
	};
};

const small = (random: Random): Step => {
	const [lba, blocks] = randomRange(random, 5);
	const dataOut = randomBlocks(random, blocks);
	const writes = random(2) === 0;
	const cdb = Buffer.from([writes ? 0x0a : 0x08, 0, 0, lba, blocks, 0]);
	if (writes)
		return {
			cdb,
			dataOut,
			play(model) {
				store(model, lba, dataOut);
				return { status: 0 };
			},
		};
	return {
		cdb,
		room: blocks * SIZE,
		play: (model) => ({ data: Buffer.from(slice(model, lba, blocks)) }),
	};
};

const writeSame = (random: Random): Step => {
	const [lba, blocks] = randomRange(random, 60);
	const size = pick(random, [10, 16] as const);
	const unmap = random(2) === 1;
	const noData = size === 16 && random(3) === 0;
	const dataOut = randomBlocks(random, 1);
	const zero = noData || dataOut.every((byte) => byte === 0);
	const flags = (unmap ? 8 : 0) | (noData ? 1 : 0);
	return {
		cdb: rangeCdb(size === 10 ? 0x41 : 0x93, size, { lba, blocks, flags }),
		...(!noData && { dataOut }),
		play(model) {
			if (zero) clear(model, lba, blocks, !unmap);
			else store(model, lba, Buffer.concat(new Array(blocks).fill(dataOut)));
			return { status: 0 };
		},
	};
};

const unmap = (random: Random): Step => {
	const ranges = Array.from({ length: random(4) }, () =>
		randomRange(random, 30),
	);
	const dataOut = Buffer.alloc(8 + 16 * ranges.length);
	dataOut.writeUInt16BE(dataOut.length - 2, 0);
	dataOut.writeUInt16BE(dataOut.length - 8, 2);
	for (const [index, [lba, blocks]] of ranges.entries()) {
		dataOut.writeUInt32BE(lba, 12 + 16 * index);
		dataOut.writeUInt32BE(blocks, 16 + 16 * index);
	}
	return {
		cdb: Buffer.from([0x42, 0, 0, 0, 0, 0, 0, 0, dataOut.length, 0]),
		dataOut,
		play(model) {
			for (const [lba, blocks] of ranges) clear(model, lba, blocks, false);
			return { status: 0 };
		},
	};
};

/** What is there, or nearly: built when the model is known. */
function expectation(
	random: Random,
	model: Model,
	lba: number,
	blocks: number,
): Buffer {
	const data = Buffer.from(slice(model, lba, blocks));
	if (random(2)) data[random(data.length)] = random(256);
	return data;
}

const verify = (random: Random, model: Model): Step => {
	const [lba, blocks] = randomRange(random, 40);
	const size = pick(random, SIZES);
	const compare = pick(random, [0, 1, 3]);
	const given = expectation(random, model, lba, compare === 3 ? 1 : blocks);
	const opcode = { 10: 0x2f, 12: 0xaf, 16: 0x8f }[size];
	return {
		cdb: rangeCdb(opcode, size, { lba, blocks, flags: compare << 1 }),
		...(compare && { dataOut: given }),
		play: () =>
			compare === 0
				? { status: 0 }
				: compared(
						differs(
							model,
							lba,
							compare === 1
								? given
								: Buffer.concat(new Array(blocks).fill(given)),
						),
					),
	};
};

const compareAndWrite = (random: Random, model: Model): Step => {
	const [lba, blocks] = randomRange(random, 20);
	const given = expectation(random, model, lba, blocks);
	const data = randomBlocks(random, blocks);
	const cdb = rangeCdb(0x89, 16, { lba, flags: random(4) << 3 });
	cdb[13] = blocks;
	return {
		cdb,
		dataOut: Buffer.concat([given, data]),
		play() {
			const at = differs(model, lba, given);
			if (at < 0) store(model, lba, data);
			return compared(at);
		},
	};
};

const orWrite = (random: Random): Step => {
	const [lba, blocks] = randomRange(random, 40);
	const dataOut = randomBlocks(random, blocks);
	return {
		cdb: rangeCdb(0x8b, 16, { lba, blocks, flags: random(4) << 3 }),
		dataOut,
		play(model) {
			const there = slice(model, lba, blocks);
			store(
				model,
				lba,
				Buffer.from(dataOut.map((byte, at) => byte | (there[at] ?? 0))),
			);
			return { status: 0 };
		},
	};
};

const DESIGNATOR = Buffer.from("3123456789abcdef", "hex");

const copy = (random: Random): Step => {
	const blocks = 1 + random(60);
	const from = random(BLOCKS - blocks + 1);
	const to = random(BLOCKS - blocks + 1);
	const dataOut = Buffer.alloc(16 + 32 + 28);
	dataOut[1] = 0x18;
	dataOut.writeUInt16BE(32, 2);
	dataOut.writeUInt32BE(28, 8);
	dataOut.set([0xe4, 0, 0, 0, 1, 3, 0, 8, ...DESIGNATOR], 16);
	dataOut.set([2, 0, 0, 24], 48);
	dataOut.writeUInt16BE(blocks, 58);
	dataOut.writeUInt32BE(from, 64);
	dataOut.writeUInt32BE(to, 72);
	const cdb = Buffer.alloc(16);
	cdb[0] = 0x83;
	cdb.writeUInt32BE(dataOut.length, 10);
	return {
		cdb,
		dataOut,
		play(model) {
			store(model, to, Buffer.from(slice(model, from, blocks)));
			return { status: 0 };
		},
	};
};

const lbaStatus = (random: Random): Step => {
	const lba = random(BLOCKS);
	const most = 1 + random(5);
	const room = 8 + 16 * most;
	return {
		cdb: rangeCdb(0x9e, 16, { lba, blocks: room, flags: 0x12 }),
		room,
		play({ mapped }) {
			const list: Buffer[] = [];
			for (let at = lba; at < BLOCKS && list.length < most; ) {
				let end = at;
				while (end < BLOCKS && mapped[end] === mapped[at]) end++;
				const descriptor = Buffer.alloc(16);
				descriptor.writeUInt32BE(at, 4);
				descriptor.writeUInt32BE(end - at, 8);
				descriptor[12] = mapped[at] ? 0 : 1;
				list.push(descriptor);
				at = end;
			}
			const data = Buffer.concat([Buffer.alloc(8), ...list]);
			data.writeUInt32BE(data.length - 4, 0);
			return { status: 0, data };
		},
	};
};

const cache = (random: Random): Step => {
	const [lba, blocks] = randomRange(random, 40);
	const opcode = pick(random, [0x35, 0x34]);
	return {
		cdb: rangeCdb(opcode, 10, { lba, blocks: random(2) * blocks }),
		play: () => ({ status: 0 }),
	};
};

const MAKERS = [
	read,
	write,
	small,
	writeSame,
	unmap,
	verify,
	compareAndWrite,
	orWrite,
	copy,
	lbaStatus,
	cache,
];

/** A disk whose reads spoil what the read before them returned: it is no longer the caller's. */
function modelled(): Harness {
	const disk = byteDisk({ blocks: BLOCKS, maxBlocks: 7 });
	const { read: plain } = disk;
	let last: Buffer | undefined;
	disk.read = async (lba, blocks) => {
		last?.fill(0xdb);
		last = await plain(lba, blocks);
		return last;
	};
	const peer = { medium: disk, refusal: () => undefined };
	return harness({
		disk,
		peers: new Map([[DESIGNATOR.toString("hex"), peer]]),
	});
}

/** READ of more than one chunk by the harness keeps what it read: it is C that does it for real. */
function withPlainTransfers(h: Harness): Harness["send"] {
	return async (nexus, cdb, options) => {
		const opcode = cdb[0] ?? 0;
		const spoiling = h.disk.read;
		if ([0x08, 0x28, 0xa8, 0x88].includes(opcode))
			h.disk.read = async (lba, blocks) =>
				Buffer.from(await spoiling(lba, blocks));
		try {
			return await h.send(nexus, cdb, options);
		} finally {
			h.disk.read = spoiling;
		}
	};
}

test(`${COMMANDS} random commands leave the disk as a model has it (seed ${SEED})`, async () => {
	const random = seeded(SEED);
	const h = modelled();
	const send = withPlainTransfers(h);
	const model: Model = {
		bytes: Buffer.alloc(BLOCKS * SIZE),
		mapped: new Uint8Array(BLOCKS).fill(1),
	};
	for (let number = 0; number < COMMANDS; number++) {
		const step = pick(random, MAKERS)(random, model);
		const { cdb, dataOut, room = 0 } = step;
		const wanted = step.play(model);
		const answer = await send(0, cdb, { dataOut, room });
		const name = `command ${number}: ${cdb.toString("hex")}`;
		assert.equal(answer.overrun, false, name);
		assert.equal(answer.status, wanted.status ?? 0, name);
		assert.deepEqual(answer.sense, wanted.sense, name);
		assert(answer.data.equals(wanted.data ?? Buffer.alloc(0)), name);
		assert(h.disk.bytes.equals(model.bytes), name);
		assert(Buffer.compare(h.disk.mapped, model.mapped) === 0, name);
		h.disk.calls.length = 0;
	}
	await send(0, rangeCdb(0x91, 16));
	assert(h.disk.stable.equals(model.bytes));
});

const OPERATIONS = [
	...atomicOperations,
	...cacheOperations,
	...copyOperations,
	...readWriteOperations,
	...unmapOperations,
	...verifyOperations,
	...writeSameOperations,
];

test("no random CDB and parameter list makes a command fail from within", async () => {
	const random = seeded(SEED + 1);
	const h = modelled();
	const send = withPlainTransfers(h);
	for (let number = 0; number < 4000; number++) {
		const { opcode, serviceAction, usage } = pick(random, OPERATIONS);
		// Most bits are ones that are evaluated, and most numbers small.
		const cdb = Buffer.from(
			usage.map((mask) => {
				const byte = random(3) ? 0 : random(256);
				return random(20) ? byte & mask : byte;
			}),
		);
		cdb[0] = opcode;
		cdb[1] = serviceAction ?? cdb[1] ?? 0;
		const dataOut = Buffer.alloc(random(4) * 700);
		for (let at = 0; at < Math.min(dataOut.length, 200); at++)
			dataOut[at] = random(3) ? 0 : random(256);
		const room = random(4) * 700;
		const { sense } = await send(0, cdb, { dataOut, room });
		const name = `CDB ${number}: ${cdb.toString("hex")}`;
		assert.notEqual(sense?.readUInt16BE(12), 0x4400, name);
		h.disk.calls.length = 0;
	}
	assert.deepEqual(h.logged, []);
});
