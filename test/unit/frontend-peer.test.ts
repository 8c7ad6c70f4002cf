// SPDX-License-Identifier: MIT
// The front end against somebody else's back end: qemu-storage-daemon.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { VhostctlError } from "../../src/engine/errors.ts";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import { decodeBlkConfig } from "../../src/engine/virtio/blk-config.ts";
import { native } from "../../src/ffi/native.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
} from "../support/processes.ts";

/** The socket's file is there a moment before it can be connected to. */
async function connectWhenUp(
	runtime: Runtime,
	path: string,
	daemon: Process,
): Promise<Frontend> {
	const frontends: Frontend[] = [];
	await waitUntil(
		async () => {
			assert(daemon.alive(), daemon.stderr());
			if (!existsSync(path)) return false;
			const connecting = connectFrontend(runtime, path, {
				queues: 2,
				queueSize: 16,
				memoryBytes: 8192,
				mode: "interrupt",
				pageSize: 4096n,
			});
			return connecting.then(
				(frontend) => frontends.push(frontend) > 0,
				(error: VhostctlError) => {
					if (error.code === "E_CONNECT") return false;
					throw error;
				},
			);
		},
		10_000,
		() => `qemu-storage-daemon listens: ${daemon.stderr()}`,
	);
	return frontends[0] ?? assert.fail("no front end");
}

test("qemu-storage-daemon's export: configuration, I/O, stop, start and reset", async () => {
	const folder = makeTempDir();
	const path = join(folder, "qsd");
	const daemon = startProcess("qemu-storage-daemon", [
		"--blockdev",
		"driver=null-co,node-name=n,size=1048576,read-zeroes=on",
		"--export",
		`type=vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=${path},writable=on,num-queues=2`,
	]);
	const runtime = createRuntime();
	try {
		const frontend = await connectWhenUp(runtime, path, daemon);
		assert.equal(frontend.maxQueues, 2);
		assert.equal(decodeBlkConfig(frontend.config).capacity, 2048n);
		await assert.rejects(frontend.readConfig(0, 256), { code: "E_INVALID" });
		const { addr } = frontend.memory;
		const read = (index: number) => {
			const { handle } = frontend.rings[index] ?? assert.fail("no ring");
			native.copyIn(addr, Buffer.alloc(16));
			native.copyIn(addr + 4096n, Buffer.alloc(513, 0xee));
			const pieces = [{ addr: addr + 4096n, len: 513n }];
			native.driverRingAdd(handle, [{ addr, len: 16n }], pieces, 7n);
			native.driverRingKick(handle);
			assert(native.driverRingWait(handle, 10_000), "no answer");
			assert.deepEqual(native.driverRingGet(handle), { token: 7n, len: 513 });
			assert.deepEqual(native.copyOut(addr + 4096n, 513), Buffer.alloc(513));
		};
		read(0);
		read(1);
		assert.equal(await frontend.stopRing(0), 1);
		await frontend.startRing(0, 1);
		read(0);
		await frontend.reset();
		read(0);
		read(1);
		await frontend.close();
	} finally {
		await daemon.kill();
		await runtime.close();
		removeTempDir(folder);
	}
});
