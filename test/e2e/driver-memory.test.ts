// SPDX-License-Identifier: MIT
// Memory that comes and goes, and rings that stop and go on, under a load.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import type { SharedMemory } from "../../src/engine/vhost-user/frontend-memory.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native } from "../../src/ffi/native.ts";
import {
	expectFormat,
	FORMATS,
	type Format,
	featuresFor,
	type LoadShape,
	loadBytes,
	startLoad,
	stopIdle,
} from "../support/driver.ts";
import { startInstance } from "../support/instance.ts";
import { SOAK } from "../support/soak.ts";

const MIB = 1024 * 1024;
const PATIENCE_MS = 30_000;
/** In all, over both formats. */
const CHANGES = SOAK ? 1000 : 200;
/** Regions at the same time, besides the first one. */
const SEVERAL = 7;

const SHAPE: LoadShape = {
	rw: "randrw",
	size: 8 * MIB,
	blockSize: 4096,
	iodepth: 16,
	ios: 0,
	verify: true,
	rings: 2,
};
/** The ring that no load is on. */
const FREE_RING = SHAPE.rings;

async function onDisk(
	format: Format,
	work: (runtime: Runtime, frontend: Frontend) => Promise<void>,
): Promise<void> {
	const disk = ["--bdev", "malloc:name=ram,size=16M", "--blk", "vm=ram"];
	const instance = await startInstance(disk);
	const runtime = createRuntime();
	try {
		const frontend = await connectFrontend(runtime, instance.socket("vm"), {
			queues: SHAPE.rings + 1,
			queueSize: 64,
			memoryBytes: loadBytes(SHAPE),
			features: featuresFor(format),
			mode: "interrupt",
			pageSize: 4096n,
		});
		expectFormat(frontend, format);
		await work(runtime, frontend);
		await frontend.close();
		await instance.stop();
	} finally {
		await runtime.close();
		await instance.crash();
	}
}

/** Reads a sector into memory anywhere that the device sees. */
function readInto(frontend: Frontend, memory: SharedMemory): number {
	const { handle } = frontend.rings[FREE_RING] ?? assert.fail("no ring");
	// The ring adds its own delta, which is not this memory's.
	const at = (offset: bigint) => memory.gpa + offset - frontend.gpaDelta;
	native.copyIn(memory.addr, Buffer.alloc(16));
	native.copyIn(memory.addr + 16n, Buffer.from([0xee]));
	native.driverRingAdd(
		handle,
		[{ addr: at(0n), len: 16n }],
		[
			{ addr: at(512n), len: 512n },
			{ addr: at(16n), len: 1n },
		],
		1n,
	);
	native.driverRingKick(handle);
	assert(native.driverRingWait(handle, PATIENCE_MS), "no answer");
	assert.deepEqual(native.driverRingGet(handle), { token: 1n, len: 513 });
	return native.copyOut(memory.addr + 16n, 1)[0] ?? -1;
}

for (const format of FORMATS)
	test(`${format} rings: memory added and removed ${CHANGES / 2} times under a load`, async () => {
		await onDisk(format, async (runtime, frontend) => {
			assert(frontend.maxRegions >= 509);
			const load = startLoad(runtime, frontend, SHAPE);
			try {
				const added: SharedMemory[] = [];
				for (let i = 0; i < CHANGES / 2; i++) {
					const memory = await frontend.addMemory(4096 << (i % 6));
					assert.equal(readInto(frontend, memory), 0);
					added.push(memory);
					if (added.length < 1 + (i % SEVERAL)) continue;
					// Not always the last one: gaps are left and filled.
					const [gone] = added.splice(i % added.length, 1);
					await frontend.removeMemory(gone ?? assert.fail());
					if (i % 50 === 0) await load.progress();
				}
				for (const memory of added) {
					assert.equal(readInto(frontend, memory), 0);
					await frontend.removeMemory(memory);
				}
				await load.progress();
				load.stop();
				await load.succeed(PATIENCE_MS);
			} finally {
				load.release();
			}
		});
	});

test("a request in memory that was removed is none, and the ring goes on", async () => {
	await onDisk("packed", async (_, frontend) => {
		const memory = await frontend.addMemory(8192);
		assert.equal(readInto(frontend, memory), 0);
		await frontend.removeMemory(memory);
		await assert.rejects(frontend.removeMemory(memory), { code: "E_INVALID" });
		const { handle } = frontend.rings[FREE_RING] ?? assert.fail();
		const addr = memory.gpa - frontend.gpaDelta;
		native.driverRingAdd(handle, [{ addr, len: 16n }], [], 2n);
		native.driverRingKick(handle);
		assert(native.driverRingWait(handle, PATIENCE_MS), "no answer");
		assert.deepEqual(native.driverRingGet(handle), { token: 2n, len: 0 });
		assert.equal(readInto(frontend, frontend.memory), 0);
	});
});

for (const format of FORMATS)
	test(`${format} rings stop, say where they go on, and go on there`, async () => {
		await onDisk(format, async (runtime, frontend) => {
			const shape = { ...SHAPE, ios: 20_000 };
			for (let round = 0; round < 5; round++) {
				const load = startLoad(runtime, frontend, shape);
				for (let i = 0; i < 10; i++) {
					const index = i % SHAPE.rings;
					const base = await frontend.stopRing(index);
					await frontend.startRing(index, base);
				}
				await load.succeed(PATIENCE_MS);
				load.release();
				for (const index of frontend.rings.keys()) {
					const base = await stopIdle(frontend, index);
					await frontend.startRing(index, base);
				}
			}
			const idle = await frontend.stopRing(FREE_RING);
			const packed = (frontend.features & VIRTIO_F.RING_PACKED) !== 0n;
			assert.equal(idle, packed ? 0x8000_8000 : 0);
		});
	});
