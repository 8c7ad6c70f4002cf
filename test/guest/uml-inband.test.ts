// SPDX-License-Identifier: MIT
// A guest whose kernel sends its kicks, and gets its calls, as messages: Linux's virtio_uml does
// if that is offered.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startEngine } from "../../src/engine/engine.ts";
import { PROTOCOL_FEATURES } from "../../src/engine/vhost-user/messages.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";
import { bootUml } from "../support/uml.ts";

const MIB = 1024 * 1024;

test("a guest reads and writes with in-band notifications", async () => {
	const dir = makeTempDir();
	const engine = await startEngine({ socketDir: dir });
	try {
		const numBlocks = (64 * MIB) / 512;
		await engine.bdevs.createMalloc({
			name: "disk",
			blockSize: 512,
			numBlocks,
		});
		const controller = await engine.createBlkController({
			name: "blk",
			bdev: "disk",
			inband: true,
		});
		const guest = await bootUml([
			{ socket: engine.socketPath("blk"), kind: "blk", queues: 1 },
		]);
		try {
			const [session] = controller.sessions;
			const { INBAND_NOTIFICATIONS } = PROTOCOL_FEATURES;
			assert(session);
			assert.notEqual(session.protocolFeatures & INBAND_NOTIFICATIONS, 0n);
			await guest.run("dd if=/dev/urandom of=data bs=1M count=16");
			await guest.run("dd if=data of=/dev/vda bs=64k oflag=direct");
			await guest.run(
				"dd if=/dev/vda bs=4k count=4096 iflag=direct | cmp - data",
			);
			assert.equal(session.rings[0]?.broken, false);
			await guest.powerOff();
		} catch (error) {
			await guest.kill();
			throw error;
		}
	} finally {
		await engine.close();
		removeTempDir(dir);
	}
});
