// SPDX-License-Identifier: MIT
// EXTENDED COPY.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import type { CopyPeer } from "../../src/engine/scsi/task.ts";
import { byteDisk } from "../support/byte-disk.ts";
import { harness } from "../support/scsi.ts";
import {
	badCdb,
	badList,
	expectAnswer,
	fixedSense,
	LIST_LENGTH_ERROR,
	stamped,
} from "../support/scsi-cases.ts";
import {
	ABSENT,
	aborted,
	BLOCKS,
	BOTH,
	copy,
	copyCdb,
	copyList,
	forwarded,
	NAA,
	NO_ID,
	OTHER_NAA,
	part,
	scene,
	segment,
	target,
	UUID,
} from "../support/scsi-copy.ts";

test("EXTENDED COPY copies from one disk to another", async () => {
	const { h, own, other } = scene();
	const list = copyList(BOTH, [
		segment({ blocks: 9, source: 3, destination: 20 }),
		segment({ blocks: 1, source: 0, destination: 0, from: 1, to: 0 }),
	]);
	await expectAnswer(h, copy(list));
	const pattern = stamped(BLOCKS, 1);
	assert(part(other, 20, 9).equals(pattern.subarray(3 * 512, 12 * 512)));
	assert(part(own, 0, 1).equals(stamped(1, 2)));
	assert(other.stable.subarray(20 * 512, 29 * 512).equals(part(other, 20, 9)));
});

test("EXTENDED COPY knows disks by UUID as well, STR and PRIORITY, and block lengths that are right", async () => {
	const { h, other } = scene();
	const targets = [
		target(NAA, { blockLength: 512 }),
		target(UUID, { blockLength: 512 }),
	];
	const list = copyList(targets, [segment({ blocks: 2 })], { flags: 0x27 });
	await expectAnswer(h, copy(list));
	assert(part(other, 0, 2).equals(stamped(BLOCKS, 1).subarray(0, 1024)));
});

for (const [name, source, destination] of [
	["forward", 5, 17],
	["backward", 17, 5],
	["onto itself", 9, 9],
	["by one block", 5, 6],
	["by one block the other way", 6, 5],
] as const)
	test(`EXTENDED COPY within a disk, overlapping, ${name}`, async () => {
		const { h, own } = scene();
		const wanted = stamped(BLOCKS);
		wanted.copy(wanted, destination * 512, source * 512, (source + 30) * 512);
		const fields = { blocks: 30, source, destination, from: 0, to: 0 };
		await expectAnswer(h, copy(copyList([target(NAA)], [segment(fields)])));
		assert(own.bytes.equals(wanted));
	});

test("EXTENDED COPY of nothing", async () => {
	const { h, own } = scene();
	await expectAnswer(h, { cdb: copyCdb(0) });
	await expectAnswer(h, copy(copyList([], [])));
	await expectAnswer(h, copy(copyList(BOTH, [])));
	await expectAnswer(h, copy(copyList(BOTH, [segment({ blocks: 0 })])));
	assert(own.bytes.equals(stamped(BLOCKS)));
});

function refusal(asc: number, byte: number): Buffer {
	const specific = [0x80, byte >> 8, byte & 0xff];
	return fixedSense(5, asc, { specific });
}

const ONE = [segment()];

for (const [name, list, sense] of [
	["a list of less than its header", Buffer.alloc(15), LIST_LENGTH_ERROR],
	[
		"a list that cuts a target off",
		copyList(BOTH, ONE).subarray(0, 79),
		LIST_LENGTH_ERROR,
	],
	[
		"a list that cuts a segment off",
		copyList(BOTH, ONE).subarray(0, 107),
		LIST_LENGTH_ERROR,
	],
	[
		"a segment that is cut off by its length",
		copyList(BOTH, [segment().subarray(0, 20)]),
		LIST_LENGTH_ERROR,
	],
	["targets of odd length", copyList([Buffer.alloc(31)], []), badList(2)],
	[
		"too many targets",
		copyList(new Array(17).fill(target(NAA)), ONE),
		refusal(0x2606, 2),
	],
	[
		"too many segments",
		copyList(BOTH, new Array(65).fill(segment())),
		refusal(0x2608, 8),
	],
	[
		"descriptors that are too long",
		copyList(new Array(17).fill(target(NAA)), new Array(130).fill(segment())),
		LIST_LENGTH_ERROR,
	],
	[
		"a type of target that is not known",
		copyList([target(NAA), target(NAA, { type: 0xe0 })], ONE),
		refusal(0x2607, 48),
	],
	[
		"a type of segment that is not known",
		copyList(BOTH, [segment(), Buffer.from([3, 0, 0, 16])]),
		refusal(0x2609, 108),
	],
	[
		"a segment of another length",
		copyList(BOTH, [Buffer.concat([Buffer.of(2, 0, 0, 25), Buffer.alloc(24)])]),
		badList(82),
	],
	[
		"inline data",
		Buffer.concat([copyList(BOTH, ONE, { inlineLength: 4 }), Buffer.alloc(4)]),
		refusal(0x260b, 12),
	],
	["a reserved usage", copyList(BOTH, ONE, { flags: 0x08 }), badList(1, 4)],
	[
		"a list identifier that is none",
		copyList(BOTH, ONE, { flags: NO_ID }),
		badList(0),
	],
	["a reserved bit", copyList(BOTH, ONE, { flags: 0x40 }), badList(1, 6)],
	[
		"a designator of a port",
		copyList([target(NAA, { association: 1 })], []),
		badList(21, 5),
	],
	["no designator", copyList([target(Buffer.alloc(0))], []), badList(23)],
	[
		"a block length that is wrong",
		copyList([target(NAA, { blockLength: 4096 })], []),
		badList(16 + 29),
	],
] as const)
	test(`EXTENDED COPY with ${name}`, async () => {
		const { h, own, other } = scene();
		const answer = await h.send(0, copyCdb(list.length), { dataOut: list });
		assert.deepEqual([answer.status, answer.sense], [2, sense]);
		assert.deepEqual([own.calls, other.calls], [[], []]);
		assert.equal(h.lu.copyResults.size, 0);
	});

test("EXTENDED COPY checks its CDB", async () => {
	const { h } = scene();
	const cdb = copyCdb(16);
	cdb[2] = 1;
	await expectAnswer(h, { cdb, sense: badCdb(2, 0) });
	cdb[1] = 1;
	await expectAnswer(h, { cdb, sense: badCdb(1, 4) });
	await expectAnswer(h, {
		cdb: copyCdb(17),
		dataOut: Buffer.alloc(16),
		overrun: true,
	});
});

for (const [name, targets, fields, sense] of [
	["an index of no source", BOTH, { from: 2 }, aborted(0x0804, { byte: 4 })],
	[
		"an index of no destination",
		[target(NAA)],
		{ to: 1 },
		aborted(0x0804, { byte: 6 }),
	],
	[
		"a target that is not there",
		[target(NAA), target(ABSENT)],
		{},
		aborted(0x0d02, { byte: 6 }),
	],
	[
		"a target that is no disk",
		[target(NAA, { deviceType: 1 }), target(NAA)],
		{},
		aborted(0x0d03, { byte: 4 }),
	],
	[
		"blocks beyond the source",
		BOTH,
		{ source: BLOCKS, blocks: 1 },
		aborted(0, { byte: 12 }),
	],
	[
		"blocks beyond the destination",
		BOTH,
		{ destination: 0xffffffffffffffffn, blocks: 1 },
		aborted(0, { byte: 20 }),
	],
] as const)
	test(`EXTENDED COPY with ${name}`, async () => {
		const { h, other } = scene();
		const list = copyList(targets, [segment(fields)]);
		await expectAnswer(h, { ...copy(list), sense });
		assert.deepEqual(other.calls, []);
	});

test("EXTENDED COPY of more bytes than a segment may have", async () => {
	const own = byteDisk({ blocks: 2, blockSize: 4096 });
	own.numBlocks = 40000;
	const peer: CopyPeer = { medium: own, refusal: () => undefined };
	const h = harness({
		disk: own,
		peers: new Map([[NAA.toString("hex"), peer]]),
	});
	const fields = { to: 0, blocks: 16385, destination: 20000 };
	const list = copyList([target(NAA)], [segment(fields)]);
	await expectAnswer(h, {
		...copy(list),
		sense: aborted(0x2600, { byte: 10 }),
	});
});

test("EXTENDED COPY tells what the source failed with, and how much is left", async () => {
	const { h, own, other } = scene();
	own.fail({ op: "read", errno: "EIO", lba: 9 });
	const list = copyList(BOTH, [
		segment({ blocks: 2 }),
		segment({ blocks: 10, source: 3, destination: 20 }),
	]);
	const inner = fixedSense(3, 0x1100);
	await expectAnswer(h, {
		...copy(list),
		sense: forwarded(8, 2, inner, { segment: 1, information: 6 }),
	});
	assert(part(other, 20, 4).equals(part(own, 3, 4)));
});

test("EXTENDED COPY tells what the destination failed with", async () => {
	const { h, other } = scene();
	other.fail({ op: "write", errno: "ENOSPC" });
	const inner = fixedSense(7, 0x2707);
	await expectAnswer(h, {
		...copy(copyList(BOTH, [segment({ blocks: 5 })])),
		sense: forwarded(9, 2, inner, { information: 5 }),
	});
});

test("EXTENDED COPY honours reservations of source and destination, chunk by chunk", async () => {
	const { h, other, refusals } = scene();
	refusals.write = { kind: "status", status: 0x18 };
	const list = copyList(BOTH, [segment({ blocks: 5 })]);
	const sense = forwarded(9, 0x18, Buffer.alloc(0), { information: 5 });
	await expectAnswer(h, { ...copy(list), sense });
	assert.deepEqual(other.calls, []);
	delete refusals.write;
	refusals.read = { kind: "status", status: 0x18 };
	await expectAnswer(h, copy(list));
	const back = copyList(BOTH, [segment({ from: 1, to: 0, blocks: 5 })]);
	await expectAnswer(h, {
		...copy(back),
		sense: forwarded(8, 0x18, Buffer.alloc(0), { information: 5 }),
	});
	delete refusals.read;
	const { write } = other;
	other.write = async (...args) => {
		await write(...args);
		refusals.write = { kind: "check", sense: { key: 7, asc: 0x2700 } };
	};
	await expectAnswer(h, {
		...copy(list),
		sense: forwarded(9, 2, fixedSense(7, 0x2700), { information: 1 }),
	});
});

test("EXTENDED COPY in descriptor format sense data", async () => {
	const { h, own } = scene();
	own.fail({ op: "read", errno: "EIO" });
	Object.defineProperty(h.lu, "descriptorSense", { value: true });
	const list = copyList(BOTH, [segment({ blocks: 2 })]);
	const { sense } = await h.send(0, copyCdb(list.length), { dataOut: list });
	const wanted =
		"720a0d0100000024" + // COPY ABORTED, THIRD PARTY DEVICE FAILURE
		"000a80000000000000000002" + // INFORMATION: two blocks are left
		"010a00000000000000000000" + // COMMAND-SPECIFIC INFORMATION: segment 0
		"0c0a01027203110000000000"; // forwarded: source, CHECK CONDITION
	assert.equal(sense?.toString("hex"), wanted);
});

/** Source blocks of 512 bytes, destination blocks of 2048. */
function inexactScene() {
	return scene(2048, 512);
}

function ownBytes(lba: number, blocks: number): Buffer {
	return stamped(BLOCKS).subarray(lba * 512, (lba + blocks) * 512);
}

test("EXTENDED COPY between block sizes, where it comes out even", async () => {
	const { h, own, other } = inexactScene();
	const list = copyList(BOTH, [
		segment({ blocks: 8, source: 1, destination: 5 }),
		// DC: two blocks of the destination.
		segment({ blocks: 2, source: 20, destination: 9, flags: 2 }),
		segment({ from: 1, to: 0, blocks: 1, source: 30, destination: 50 }),
	]);
	const kept = Buffer.from(part(other, 30, 1));
	await expectAnswer(h, copy(list));
	assert(part(other, 5, 2).equals(ownBytes(1, 8)));
	assert(part(other, 9, 2).equals(ownBytes(20, 8)));
	assert(part(own, 50, 4).equals(kept));
});

test("EXTENDED COPY that does not come out even, without PAD and CAT", async () => {
	const { h, other } = inexactScene();
	const list = copyList(BOTH, [segment({ blocks: 5 })]);
	await expectAnswer(h, { ...copy(list), sense: aborted(0x260a) });
	assert.deepEqual(other.calls, []);
});

test("EXTENDED COPY pads the last block of the destination", async () => {
	const { h, other } = inexactScene();
	const targets = [target(NAA), target(OTHER_NAA, { pad: true })];
	const list = copyList(targets, [segment({ blocks: 5, source: 3 })]);
	await expectAnswer(h, copy(list));
	const wanted = Buffer.concat([ownBytes(3, 5), Buffer.alloc(3 * 512)]);
	assert(part(other, 0, 2).equals(wanted));
});

test("EXTENDED COPY with PAD of the source keeps what is missing for the next segment", async () => {
	const { h, other } = inexactScene();
	const targets = [target(NAA, { pad: true }), target(OTHER_NAA)];
	const list = copyList(targets, [
		segment({ blocks: 5, source: 0, destination: 0 }),
		segment({ blocks: 3, source: 10, destination: 10 }),
	]);
	await expectAnswer(h, copy(list));
	assert(part(other, 0, 1).equals(ownBytes(0, 4)));
	const wanted = Buffer.concat([ownBytes(4, 1), ownBytes(10, 3)]);
	assert(part(other, 10, 1).equals(wanted));
});

test("EXTENDED COPY with CAT puts segments together, and drops the rest at the end", async () => {
	const { h, other } = inexactScene();
	const list = copyList(BOTH, [
		segment({ blocks: 3, source: 0, destination: 0, flags: 1 }),
		segment({ blocks: 4, source: 10, destination: 3, flags: 1 }),
		// DC: one block of the destination, of three that are left and one more.
		segment({ blocks: 1, source: 20, destination: 7, flags: 3 }),
		segment({ blocks: 1, source: 30, destination: 9, flags: 1 }),
	]);
	const untouched = Buffer.from(part(other, 9, 1));
	await expectAnswer(h, copy(list));
	const first = Buffer.concat([ownBytes(0, 3), ownBytes(10, 1)]);
	assert(part(other, 3, 1).equals(first));
	const second = Buffer.concat([ownBytes(11, 3), ownBytes(20, 1)]);
	assert(part(other, 7, 1).equals(second));
	assert(part(other, 9, 1).equals(untouched));
});

test("EXTENDED COPY counting blocks of the destination drops or keeps what is left of the source", async () => {
	for (const pad of [true, false]) {
		const { h, own, other } = scene(512, 2048);
		const targets = [target(NAA, { pad }), target(OTHER_NAA, { pad: !pad })];
		const list = copyList(targets, [
			segment({ blocks: 3, source: 0, destination: 0, flags: 2 }),
			segment({ blocks: 2, source: 9, destination: 10, flags: 2 }),
		]);
		await expectAnswer(h, copy(list));
		assert(part(other, 0, 3).equals(own.bytes.subarray(0, 3 * 512)));
		const kept = Buffer.concat([
			own.bytes.subarray(3 * 512, 4 * 512),
			own.bytes.subarray(9 * 2048, 9 * 2048 + 512),
		]);
		const dropped = own.bytes.subarray(9 * 2048, 9 * 2048 + 1024);
		assert(part(other, 10, 2).equals(pad ? dropped : kept));
	}
});
