// SPDX-License-Identifier: MIT
// What controllers offer, and what goes along with a connection or a guest.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { after, before, test } from "node:test";
import type { BlkController } from "../../src/engine/blk-controller.ts";
import { type Engine, startEngine } from "../../src/engine/engine.ts";
import type { Session } from "../../src/engine/vhost-user/device.ts";
import {
	DEFAULT_PROTOCOL_FEATURES,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import {
	protocolFeatures,
	ringFeatures,
} from "../../src/engine/vhost-user/offers.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import type { ScsiController } from "../../src/engine/virtio-scsi/controller.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

let engine: Engine;
let dir: string;
let blk: BlkController;
let scsi: ScsiController;

before(async () => {
	dir = makeTempDir();
	engine = await startEngine({ socketDir: dir });
	const size = { blockSize: 512, numBlocks: 2048 };
	await engine.bdevs.createMalloc({ name: "one", ...size });
	await engine.bdevs.createMalloc({ name: "two", ...size });
	blk = await engine.createBlkController({ name: "blk", bdev: "one" });
	scsi = await engine.createScsiController({ name: "scsi" });
	await scsi.addLun(3, 0, engine.bdevs.get("two"));
});
after(async () => {
	await engine.close();
	removeTempDir(dir);
});

/** What a device sees of a connection, for a device that looks at nothing. */
const nobody = (id: number): Session => ({
	id,
	features: 0n,
	protocolFeatures: 0n,
	status: 0,
	memory: [],
	rings: [],
	readMemory: () => Buffer.alloc(0),
	writeMemory: () => {},
	pause: async () => {},
	resume: async () => {},
	configChanged: async () => {},
	ended: Promise.resolve(),
	close: async () => {},
	freeze: () => Promise.reject(new Error("not to be called")),
	thaw: async () => {},
});

test("packed rings and logging are offered; the rest on demand", () => {
	for (const { features, protocolFeatures } of [blk, scsi]) {
		assert.equal(features & VIRTIO_F.RING_PACKED, VIRTIO_F.RING_PACKED);
		assert.equal(features & VIRTIO_F.LOG_ALL, VIRTIO_F.LOG_ALL);
		assert.equal(features & VIRTIO_F.ACCESS_PLATFORM, 0n);
		assert.equal(protocolFeatures, DEFAULT_PROTOCOL_FEATURES);
	}
	const plain = ringFeatures({});
	assert.equal(ringFeatures({ packed: false }), plain & ~VIRTIO_F.RING_PACKED);
	assert.equal(ringFeatures({ iommu: true }), plain | VIRTIO_F.ACCESS_PLATFORM);
	assert.equal(
		protocolFeatures({ postcopy: true, inband: true }),
		DEFAULT_PROTOCOL_FEATURES |
			PROTOCOL_FEATURES.PAGEFAULT |
			PROTOCOL_FEATURES.INBAND_NOTIFICATIONS,
	);
});

const WCE_OFFSET = 32;

test("the write cache of a disk goes along with its guest", () => {
	const session = nobody(1000);
	const state = () => blk.exportState?.(session) ?? Buffer.alloc(0);
	const wce = () => blk.readConfig(WCE_OFFSET, 1, session)[0];
	blk.writeConfig(WCE_OFFSET, Buffer.from([0]), session);
	const off = state();
	blk.writeConfig(WCE_OFFSET, Buffer.from([1]), session);
	const on = state();
	blk.importState?.(session, off);
	assert.equal(wce(), 0);
	blk.importState?.(session, on);
	assert.equal(wce(), 1);
	for (const bad of ["", "01", "0102", "0001", "010101", "0201"])
		assert.throws(
			() => blk.importState?.(session, Buffer.from(bad, "hex")),
			{ code: "E_INVALID" },
			bad,
		);
	assert.equal(wce(), 1);
});

/** A connection of the SCSI controller, for as long as work needs it. */
function connected<T>(
	id: number,
	image: unknown,
	work: (session: Session) => T,
): T {
	const session = nobody(id);
	scsi.attach(session, image);
	try {
		return work(session);
	} finally {
		scsi.detach(session);
	}
}

const SIZES_OFFSET = 20;
const sizes = (sense: number, cdb: number) => {
	const data = Buffer.alloc(8);
	data.writeUInt32LE(sense, 0);
	data.writeUInt32LE(cdb, 4);
	return data;
};

test("the sizes of a SCSI device go along with its guest", () => {
	const state = connected(1001, undefined, (session) => {
		scsi.writeConfig(SIZES_OFFSET, sizes(252, 260), session);
		return scsi.exportState?.(session) ?? Buffer.alloc(0);
	});
	connected(1002, undefined, (session) => {
		scsi.importState?.(session, state);
		const read = scsi.readConfig(SIZES_OFFSET, 8, session);
		assert.deepEqual(Buffer.from(read), sizes(252, 260));
		const version2 = Buffer.from(state);
		version2.writeUInt32LE(2, 0);
		for (const bad of [
			Buffer.alloc(0),
			state.subarray(0, 8),
			Buffer.concat([state, Buffer.alloc(1)]),
			version2,
			Buffer.concat([state.subarray(0, 4), sizes(253, 32)]),
			Buffer.concat([state.subarray(0, 4), sizes(96, 5)]),
		])
			assert.throws(() => scsi.importState?.(session, bad), {
				code: "E_INVALID",
			});
		const after = scsi.readConfig(SIZES_OFFSET, 8, session);
		assert.deepEqual(Buffer.from(after), sizes(252, 260));
	});
});

interface Image {
	slot: number;
	sizes: { senseSize: number; cdbSize: number };
	missed: boolean;
	attentions: [number, number[]][];
}

test("a SCSI connection keeps its slot, sizes and unit attentions in another process", () => {
	const first = nobody(1003);
	scsi.attach(first);
	const image = connected(1004, undefined, (session) => {
		scsi.writeConfig(SIZES_OFFSET, sizes(18, 16), session);
		return JSON.parse(JSON.stringify(scsi.exportSession?.(session))) as Image;
	});
	scsi.detach(first);
	assert.equal(image.slot, 1);
	assert.deepEqual(image.sizes, { senseSize: 18, cdbSize: 16 });
	// It has not been told yet that it is new.
	const [[, pending] = [0, []]] = image.attentions;
	assert.equal(pending.length, 1);
	const again = connected(1005, image, (session) =>
		JSON.parse(JSON.stringify(scsi.exportSession?.(session))),
	);
	assert.deepEqual(again, image);
	// What was told already is not told again; of a unit that it does not know it is.
	const told = image.attentions.map(([unit]) => [unit, []]);
	const quiet = connected(1006, { ...image, attentions: told }, (session) =>
		scsi.exportSession?.(session),
	);
	assert.deepEqual((quiet as Image).attentions, told);
	const other = connected(1007, { ...image, attentions: [] }, (session) =>
		scsi.exportSession?.(session),
	);
	assert.deepEqual((other as Image).attentions, image.attentions);
});

test("what is no image of a SCSI connection is refused", () => {
	const image = connected(1008, undefined, (session) =>
		scsi.exportSession?.(session),
	) as Image;
	for (const bad of [
		null,
		{},
		"image",
		{ ...image, slot: 1.5 },
		{ ...image, slot: "0" },
		{ ...image, sizes: {} },
		{ ...image, missed: 1 },
		{ ...image, attentions: {} },
		{ ...image, attentions: [[1]] },
		{ ...image, attentions: [[1, [65536 * 7]]] },
	])
		assert.throws(() => scsi.attach(nobody(1009), bad), {
			code: "E_INVALID",
		});
	assert.equal(scsi.sessions.length, 0);
});
