// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import {
	DECODERS,
	decodeAddress,
	decodeConfig,
	decodeFdIndex,
	decodeInflight,
	decodeIotlb,
	decodeLog,
	decodeMemory,
	decodeMessage,
	decodeRegion,
	decodeState,
	decodeTransfer,
	decodeU64,
	encodeAddress,
	encodeConfig,
	encodeFdIndex,
	encodeInflight,
	encodeIotlb,
	encodeLog,
	encodeMemory,
	encodeMessage,
	encodeRegion,
	encodeReply,
	encodeState,
	encodeTransfer,
	encodeU64,
	type MemoryRegion,
} from "../../src/engine/vhost-user/codec.ts";

const u32 = fc.nat({ max: 2 ** 32 - 1 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const PROTOCOL = { code: "E_PROTOCOL" };

/** An address of that alignment. */
const aligned = (unit: bigint) =>
	fc
		.bigInt({ min: 0n, max: (2n ** 64n - 1n) / unit })
		.map((value) => value * unit);

test("messages: header and payload survive", () => {
	fc.assert(
		fc.property(u32, fc.uint8Array({ maxLength: 300 }), (request, bytes) => {
			const payload = Buffer.from(bytes);
			const plain = decodeMessage(encodeMessage(request, 8, payload));
			assert.deepEqual(plain, { request, flags: 9, payload });
			const reply = decodeMessage(encodeReply(request, payload));
			assert.deepEqual(reply, { request, flags: 5, payload });
		}),
	);
});

test("messages: the wire format is the specification's", () => {
	const bytes = encodeMessage(18, 8, encodeState({ index: 1, num: 2 }));
	const hex = "12000000 09000000 08000000 01000000 02000000";
	assert.equal(bytes.toString("hex"), hex.replaceAll(" ", ""));
	assert.equal(encodeFdIndex(3, false).toString("hex"), "0301000000000000");
	assert.equal(
		encodeConfig(32, Buffer.from([1]), 0).toString("hex"),
		"20000000010000000000000001",
	);
});

test("messages: headers that are short, lie, or are of another version", () => {
	const good = encodeMessage(1, 0, Buffer.alloc(4));
	const changed = (change: (message: Buffer) => void) => {
		const message = Buffer.from(good);
		change(message);
		return message;
	};
	for (const bad of [
		Buffer.alloc(0),
		good.subarray(0, 11),
		good.subarray(0, 15),
		Buffer.concat([good, Buffer.alloc(1)]),
		changed((m) => m.writeUInt32LE(0, 4)),
		changed((m) => m.writeUInt32LE(2, 4)),
		changed((m) => m.writeUInt32LE(0x11, 4)),
		changed((m) => m.writeUInt32LE(0x80000001, 4)),
		changed((m) => m.writeUInt32LE(0xffffffff, 8)),
	])
		assert.throws(() => decodeMessage(bad), PROTOCOL);
});

test("payloads: what is encoded is decoded", () => {
	fc.assert(
		fc.property(u64, (value) => {
			assert.equal(decodeU64(encodeU64(value)), value);
		}),
	);
	fc.assert(
		fc.property(u32, u32, (index, num) => {
			const state = { index, num };
			assert.deepEqual(decodeState(encodeState(state)), state);
		}),
	);
	fc.assert(
		fc.property(fc.nat({ max: 255 }), fc.boolean(), (index, hasFd) => {
			const decoded = decodeFdIndex(encodeFdIndex(index, hasFd));
			assert.deepEqual(decoded, { index, hasFd });
		}),
	);
	const addresses = fc.tuple(
		u32,
		fc.nat({ max: 1 }),
		aligned(16n),
		aligned(4n),
		aligned(2n),
		u64,
	);
	fc.assert(
		fc.property(addresses, ([index, flags, desc, used, avail, log]) => {
			const address = { index, flags, desc, used, avail, log };
			assert.deepEqual(decodeAddress(encodeAddress(address)), address);
		}),
	);
	fc.assert(
		fc.property(
			u32,
			u32,
			fc.uint8Array({ maxLength: 256 }),
			(offset, flags, bytes) => {
				const data = Buffer.from(bytes);
				const space = { offset, size: data.length, flags, data };
				assert.deepEqual(
					decodeConfig(encodeConfig(offset, data, flags)),
					space,
				);
			},
		),
	);
});

test("ring addresses are refused unless aligned to 16, 4 and 2", () => {
	const place = { index: 0, flags: 0, desc: 0n, used: 0n, avail: 0n, log: 0n };
	for (const [name, unit] of [
		["desc", 16n],
		["used", 4n],
		["avail", 2n],
	] as const)
		for (let offset = 1n; offset < unit; offset++) {
			const odd = encodeAddress({ ...place, [name]: offset });
			assert.throws(() => decodeAddress(odd), PROTOCOL);
		}
	assert.throws(
		() => decodeAddress(encodeAddress({ ...place, flags: 2 })),
		PROTOCOL,
	);
});

const MAX = 2n ** 64n;
const base: MemoryRegion = { gpa: 0n, size: 4096n, userAddr: 0n, offset: 0n };

test("memory tables hold 1 to 8 regions, none of which wraps around", () => {
	const regions = (count: number) => Array.from({ length: count }, () => base);
	for (let count = 1; count <= 8; count++)
		assert.deepEqual(
			decodeMemory(encodeMemory(regions(count))),
			regions(count),
		);
	for (const count of [0, 9])
		assert.throws(() => decodeMemory(encodeMemory(regions(count))), PROTOCOL);
	for (const key of ["gpa", "userAddr", "offset"] as const) {
		const at = (start: bigint) => encodeMemory([{ ...base, [key]: start }]);
		assert.equal(decodeMemory(at(MAX - 4096n))[0]?.[key], MAX - 4096n);
		assert.throws(() => decodeMemory(at(MAX - 4095n)), PROTOCOL);
	}
	const empty = encodeMemory([{ ...base, size: 0n }]);
	assert.throws(() => decodeMemory(empty), PROTOCOL);
	const huge = encodeMemory([{ ...base, size: MAX - 1n, gpa: 2n }]);
	assert.throws(() => decodeMemory(huge), PROTOCOL);
});

test("a memory table may have room to spare, as Linux's virtio_uml sends it", () => {
	const table = encodeMemory([base, base]);
	table.writeUInt32LE(1, 0);
	assert.deepEqual(decodeMemory(table), [base]);
	table.writeUInt32LE(3, 0);
	assert.throws(() => decodeMemory(table), PROTOCOL);
});

test("payloads of logs, in-flight buffers, translations and states survive", () => {
	const u16 = fc.nat({ max: 0xffff });
	const u8 = fc.nat({ max: 0xff });
	fc.assert(
		fc.property(u64, u64, u64, u16, u16, u8, u8, (a, b, c, d, e, f, g) => {
			const area = { size: a, offset: b };
			assert.deepEqual(decodeLog(encodeLog(area)), area);
			const inflight = { ...area, numQueues: d, queueSize: e };
			for (const payloadSize of [20, 24])
				assert.deepEqual(
					decodeInflight(encodeInflight(inflight, payloadSize)),
					{ ...inflight, payloadSize },
				);
			const iotlb = { iova: a, size: b, userAddr: c, access: f, type: g };
			assert.deepEqual(decodeIotlb(encodeIotlb(iotlb)), iotlb);
			const unpadded = encodeIotlb(iotlb).subarray(0, 26);
			assert.deepEqual(decodeIotlb(unpadded), iotlb);
			const transfer = { direction: d, phase: e };
			assert.deepEqual(decodeTransfer(encodeTransfer(transfer)), transfer);
		}),
	);
});

test("one region: padding, then a region that does not wrap around", () => {
	const region = { ...base, gpa: 1n << 40n, userAddr: 7n, offset: MAX - 1n };
	const bytes = encodeRegion(region);
	assert.equal(bytes.length, 40);
	assert.equal(bytes.readBigUInt64LE(0), 0n);
	assert.deepEqual(decodeRegion(bytes), region);
	for (const bad of [
		{ ...base, size: 0n },
		{ ...base, gpa: MAX - 4095n },
		{ ...base, userAddr: MAX - 4095n },
	])
		assert.throws(() => decodeRegion(encodeRegion(bad)), PROTOCOL);
});

test("the wire format of the newer payloads is the specification's", () => {
	const area = { size: 0x11n, offset: 0x22n };
	assert.equal(
		encodeLog(area).toString("hex"),
		"11000000000000002200000000000000",
	);
	const inflight = { ...area, numQueues: 0x33, queueSize: 0x4444 };
	assert.equal(
		encodeInflight(inflight, 20).toString("hex"),
		"1100000000000000220000000000000033004444",
	);
	const iotlb = { iova: 1n, size: 2n, userAddr: 3n, access: 3, type: 2 };
	const words = "010000000000000002000000000000000300000000000000";
	assert.equal(encodeIotlb(iotlb).toString("hex"), `${words}0302000000000000`);
});

test("vring indexes have no bits beyond 8", () => {
	for (const value of [1n << 9n, 1n << 63n])
		assert.throws(() => decodeFdIndex(encodeU64(value)), PROTOCOL);
});

test("decoders take any bytes and throw nothing but E_PROTOCOL", () => {
	const decoders = fc.constantFrom(...Object.values(DECODERS));
	const sizes = fc.constantFrom(0, 1, 7, 8, 9, 12, 39, 40, 41, 72, 268, 269);
	const bytes = sizes.chain((n) =>
		fc.uint8Array({ minLength: n, maxLength: n }),
	);
	fc.assert(
		fc.property(decoders, bytes, (decode, payload) => {
			try {
				decode(Buffer.from(payload));
			} catch (error) {
				assert.equal((error as { code?: unknown }).code, "E_PROTOCOL");
			}
		}),
		{ numRuns: 1000 },
	);
});

test("payloads of another size are refused", () => {
	const sizes = {
		none: [0],
		u64: [8],
		state: [8],
		address: [40],
		fdIndex: [8],
		log: [16],
		inflight: [20, 24],
		iotlb: [26, 32],
		transfer: [8],
	};
	for (const [kind, good] of Object.entries(sizes))
		for (let size = 0; size < 64; size++) {
			const decode = DECODERS[kind as keyof typeof sizes];
			if (good.includes(size)) decode(Buffer.alloc(size));
			else assert.throws(() => decode(Buffer.alloc(size)), PROTOCOL, kind);
		}
});
