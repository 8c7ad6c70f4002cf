// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import {
	type BlkConfig,
	CONFIG_SIZE,
	decodeBlkConfig,
	decodeConfigWrite,
	encodeBlkConfig,
	readConfigSpace,
	WRITEBACK_OFFSET,
} from "../../src/engine/virtio/blk-config.ts";
import {
	featureNames,
	VIRTIO_BLK_F,
	VIRTIO_F,
} from "../../src/engine/virtio/features.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

const u = (bits: number) => fc.nat({ max: 2 ** bits - 1 });

const configs: fc.Arbitrary<BlkConfig> = fc.record({
	capacity: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
	sizeMax: u(32),
	segMax: u(32),
	blkSize: u(32),
	physicalBlockExp: u(8),
	alignmentOffset: u(8),
	minIoSize: u(16),
	optIoSize: u(32),
	writeback: fc.boolean(),
	numQueues: u(16),
	maxDiscardSectors: u(32),
	maxDiscardSeg: u(32),
	discardSectorAlignment: u(32),
	maxWriteZeroesSectors: u(32),
	maxWriteZeroesSeg: u(32),
	writeZeroesMayUnmap: fc.boolean(),
});

test("what is encoded is decoded, and the rest is zeros", () => {
	fc.assert(
		fc.property(configs, (config) => {
			const space = encodeBlkConfig(config);
			assert.equal(space.length, CONFIG_SIZE);
			assert.deepEqual(decodeBlkConfig(space), { ...config });
			assert(space.subarray(57).every((byte) => byte === 0));
		}),
	);
});

/** Value of each byte position is its own, so that any misplaced field shows. */
test("fields lie where the kernel's struct virtio_blk_config has them", () => {
	const folder = makeTempDir();
	const fields = {
		capacity: "capacity",
		sizeMax: "size_max",
		segMax: "seg_max",
		blkSize: "blk_size",
		physicalBlockExp: "physical_block_exp",
		alignmentOffset: "alignment_offset",
		minIoSize: "min_io_size",
		optIoSize: "opt_io_size",
		writeback: "wce",
		numQueues: "num_queues",
		maxDiscardSectors: "max_discard_sectors",
		maxDiscardSeg: "max_discard_seg",
		discardSectorAlignment: "discard_sector_alignment",
		maxWriteZeroesSectors: "max_write_zeroes_sectors",
		maxWriteZeroesSeg: "max_write_zeroes_seg",
		writeZeroesMayUnmap: "write_zeroes_may_unmap",
	} satisfies Record<keyof BlkConfig, string>;
	const prints = Object.values(fields).map(
		(name) =>
			`printf("%zu %zu\\n", offsetof(struct virtio_blk_config, ${name}), sizeof(((struct virtio_blk_config *)0)->${name}));`,
	);
	const program = join(folder, "offsets");
	execFileSync("gcc", ["-x", "c", "-o", program, "-"], {
		input: `#include <stddef.h>\n#include <stdio.h>\n#include <linux/virtio_blk.h>\nint main(void) { ${prints.join("\n")} return 0; }`,
	});
	const places = execFileSync(program, { encoding: "utf8" })
		.trim()
		.split("\n")
		.map((line) => line.split(" ").map(Number));
	removeTempDir(folder);
	for (const [i, key] of Object.keys(fields).entries()) {
		const [offset = 0, size = 0] = places[i] ?? [];
		const space = Buffer.alloc(CONFIG_SIZE);
		space.writeUIntLE(1, offset, Math.min(size, 6));
		const decoded: object = decodeBlkConfig(space);
		for (const [name, value] of Object.entries(decoded))
			assert.equal(Number(value), name === key ? 1 : 0, `${key}: ${name}`);
	}
});

test("any part of the space can be read, and nothing beyond it", () => {
	const space = Buffer.from(Array.from({ length: CONFIG_SIZE }, (_, i) => i));
	fc.assert(
		fc.property(u(9), u(9), (offset, length) => {
			if (offset + length > CONFIG_SIZE)
				assert.throws(() => readConfigSpace(space, offset, length), {
					code: "E_INVALID",
				});
			else
				assert.deepEqual(
					[...readConfigSpace(space, offset, length)],
					Array.from({ length }, (_, i) => offset + i),
				);
		}),
	);
});

test("writeback is the only field to write, with 0 or 1", () => {
	assert.equal(decodeConfigWrite(WRITEBACK_OFFSET, Buffer.from([0])), false);
	assert.equal(decodeConfigWrite(WRITEBACK_OFFSET, Buffer.from([1])), true);
	const refused: [number, number[]][] = [
		[WRITEBACK_OFFSET, [2]],
		[WRITEBACK_OFFSET, []],
		[WRITEBACK_OFFSET, [1, 0]],
		[WRITEBACK_OFFSET - 1, [1]],
		[0, [1]],
	];
	for (const [offset, bytes] of refused)
		assert.throws(() => decodeConfigWrite(offset, Buffer.from(bytes)), {
			code: "E_INVALID",
		});
});

test("features have their names", () => {
	const set = VIRTIO_BLK_F.RO | VIRTIO_F.VERSION_1 | (1n << 60n);
	assert.deepEqual(featureNames(set), ["RO", "VERSION_1"]);
});
