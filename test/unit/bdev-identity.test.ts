// SPDX-License-Identifier: MIT
// Who a bdev is when nobody said, and what may be said.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { createRegistry } from "../../src/engine/bdev/registry.ts";
import { silent } from "../../src/engine/log.ts";
import { fails } from "../support/engine.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

const folder = makeTempDir();
after(() => removeTempDir(folder));

const size = { blockSize: 512, numBlocks: 8 };
const VERSION_5 =
	/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("the default UUID is made of kind, name and file", async () => {
	const uuids: string[] = [];
	for (let run = 0; run < 2; run++) {
		const registry = createRegistry(silent);
		const path = join(folder, "disk");
		const link = join(folder, `link${run}`);
		writeFileSync(path, Buffer.alloc(4096));
		symlinkSync(path, link);
		const bdevs = [
			await registry.createMalloc({ name: "a", ...size }),
			await registry.createNull({ name: "b", ...size }),
			await registry.createFile({ name: "c", driver: "aio", filename: link }),
			await registry.createFile({ name: "d", driver: "uring", filename: path }),
		];
		const made = bdevs.map(({ uuid }) => uuid);
		for (const uuid of made) assert.match(uuid, VERSION_5);
		assert.equal(new Set(made).size, made.length);
		uuids.push(made.join());
		await registry.close();
	}
	assert.equal(uuids[0], uuids[1]);
});

test("a default UUID that another was given is not taken", async () => {
	const registry = createRegistry(silent);
	const { uuid } = await registry.createNull({ name: "a", ...size });
	await registry.delete("a");
	await registry.createNull({ name: "thief", uuid, ...size });
	const again = await registry.createNull({ name: "a", ...size });
	assert.notEqual(again.uuid, uuid);
	await registry.close();
});

test("vendor, product and serial: defaults, limits, characters", async () => {
	const registry = createRegistry(silent);
	const plain = await registry.createNull({ name: "é and more", ...size });
	assert.deepEqual(plain.identity, {
		vendor: "VHOSTCTL",
		product: "Null disk",
		serial: "? and more",
	});
	const said = {
		vendor: "ACME",
		product: "P".repeat(16),
		serial: "S".repeat(32),
	};
	const named = await registry.createNull({ name: "b", ...said, ...size });
	assert.deepEqual(named.identity, said);
	const bad = [
		{ vendor: "123456789" },
		{ product: "P".repeat(17) },
		{ serial: "S".repeat(33) },
		{ serial: "tab\t" },
		{ vendor: "ü" },
	];
	for (const identity of bad)
		await fails(
			registry.createNull({ name: "c", ...identity, ...size }),
			"E_INVALID",
		);
	assert.equal(registry.list().length, 2);
	await registry.close();
});
