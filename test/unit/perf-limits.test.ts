// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { blkShape, usableSize } from "../../src/engine/perf-limits.ts";

const RO = 1n << 5n;
const BLK_SIZE = 1n << 6n;
const MQ = 1n << 12n;

/** A virtio-blk device of 1 MiB with blocks of 4 KiB and 4 queues. */
function device(features: bigint) {
	const config = Buffer.alloc(60);
	config.writeBigUInt64LE(2048n, 0);
	config.writeUInt32LE(4096, 20);
	config.writeUInt16LE(4, 34);
	return blkShape({ features, config });
}

const LOAD = {
	blockSize: 4096,
	iodepth: 32,
	queues: 4,
	writes: false,
	verify: false,
};

test("a load goes over all whole requests of the device", () => {
	const all = device(BLK_SIZE | MQ);
	assert.equal(usableSize("s", all, LOAD), 2 ** 20);
	assert.equal(usableSize("s", all, { ...LOAD, size: 8192 }), 8192);
	const odd = { ...LOAD, blockSize: 3 * 4096 };
	assert.equal(usableSize("s", all, odd), 85 * 3 * 4096);
});

test("what the device cannot do is refused, with what it can", () => {
	const refused = (features: bigint, load: object, message: RegExp) =>
		assert.throws(
			() => usableSize("/s", device(features), { ...LOAD, ...load }),
			message,
		);
	refused(MQ, { queues: 5 }, /^VhostctlError: \/s: 5 queues: the device has 4/);
	refused(0n, { queues: 2 }, /the device has 1/);
	refused(BLK_SIZE | MQ, { blockSize: 512 }, /block size, 4096/);
	refused(MQ, { blockSize: 1000 }, /block size, 512/);
	refused(MQ, { blockSize: 0 }, /block size, 512/);
	refused(MQ | RO, { writes: true }, /read-only/);
	refused(MQ, { size: 2 ** 20 + 4096 }, /the device has 1048576 bytes/);
	refused(MQ, { size: 6000 }, /not a multiple of the request size, 4096/);
	refused(MQ, { blockSize: 2 ** 21 }, /size 0/);
	refused(MQ, { size: 127 * 4096, verify: true }, /128 requests in flight/);
});

test("a request is not larger than the device says that it takes", () => {
	const disk = { ...device(BLK_SIZE | MQ), maxRequest: 8192 };
	assert.equal(usableSize("s", disk, { ...LOAD, blockSize: 8192 }), 2 ** 20);
	assert.throws(
		() => usableSize("s", disk, { ...LOAD, blockSize: 12288 }),
		/12288 bytes a request: the device takes at most 8192/,
	);
});

test("a read-only device may be read", () => {
	assert.equal(usableSize("s", device(RO | MQ), LOAD), 2 ** 20);
});
