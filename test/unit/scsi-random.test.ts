// SPDX-License-Identifier: MIT
// Commands that nobody would send, from a seed.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { OPERATIONS } from "../../src/engine/scsi/opcodes.ts";
import { harness } from "../support/scsi.ts";

/** Numbers from 0 to below `limit`, always the same for a seed (mulberry32). */
function generator(seed: number): (limit: number) => number {
	let state = seed;
	return (limit) => {
		state = (state + 0x6d2b79f5) | 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
	};
}

type Random = ReturnType<typeof generator>;

/** A CDB whose opcode exists, most of whose bits may be set, and whose numbers are small as a rule. */
function randomCdb(random: Random): Buffer {
	const cdb = Buffer.alloc(16);
	const one = OPERATIONS[random(OPERATIONS.length)];
	assert(one);
	for (const [i, mask] of one.usage.entries()) {
		const dense = random(4) === 0;
		const value = dense ? random(256) : random(8) === 0 ? random(16) : 0;
		cdb[i] = random(200) === 0 ? random(256) : value & mask;
	}
	cdb[0] = random(100) === 0 ? random(256) : one.opcode;
	if (one.serviceAction !== undefined)
		cdb[1] = ((cdb[1] ?? 0) & 0xe0) | one.serviceAction;
	return cdb;
}

function randomBytes(random: Random): Buffer {
	const out = Buffer.alloc(random(3) === 0 ? random(64 * 1024) : random(600));
	if (random(2) === 0)
		for (let i = 0; i < out.length; i += 1 + random(5)) out[i] = random(256);
	return out;
}

test("20,000 random commands: each ends, within its buffers, without a mistake of ours", async () => {
	const random = generator(3);
	const h = harness({ nexuses: 3, disk: { blocks: 256 } });
	const statuses = new Map<number, number>();
	for (let i = 0; i < 20_000; i++) {
		const cdb = randomCdb(random);
		const dataOut = randomBytes(random);
		const room = random(3) === 0 ? random(128 * 1024) : random(600);
		const answer = await h.send(random(3), cdb, { dataOut, room });
		assert.deepEqual(h.logged, [], cdb.toString("hex"));
		assert(answer.residual >= 0 && answer.residual <= room + dataOut.length);
		assert.equal(answer.status === 2, answer.sense !== undefined);
		assert.notEqual(answer.sense?.toString("hex", 12, 14), "4400");
		statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
		if (i % 500 === 0) h.lu.reset();
	}
	// It was worth it: some of them did something.
	assert((statuses.get(0) ?? 0) > 2000, JSON.stringify([...statuses]));
	await h.lu.close();
});
