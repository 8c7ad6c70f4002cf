// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { createRegistry } from "../../src/engine/bdev/registry.ts";
import { silent } from "../../src/engine/log.ts";
import { createNotifications } from "../../src/engine/notifications.ts";

test("events are told from an id on, as many as asked for", () => {
	const history = createNotifications();
	assert.deepEqual(history.since(0, 10), []);
	for (const ctx of ["a", "b", "c"]) history.send("bdev_register", ctx);
	const names = (id: number, max: number) =>
		history.since(id, max).map((event) => `${event.id}${event.ctx}`);
	assert.deepEqual(names(0, Number.POSITIVE_INFINITY), ["0a", "1b", "2c"]);
	assert.deepEqual(names(1, 1), ["1b"]);
	assert.deepEqual(names(2, 9), ["2c"]);
	assert.deepEqual(names(0, 0), []);
	assert.deepEqual(names(3, 9), []);
	assert.deepEqual(names(2 ** 53 - 1, 2 ** 64), []);
});

test("the last 1024 events are kept, with their ids", () => {
	const history = createNotifications();
	for (let i = 0; i < 3000; i++) history.send("bdev_resize", `bdev${i}`);
	const all = history.since(0, 2 ** 64);
	assert.equal(all.length, 1024);
	for (const [i, { id, ctx }] of all.entries()) {
		assert.equal(id, 1976 + i);
		assert.equal(ctx, `bdev${id}`);
	}
	assert.deepEqual(
		history.since(2998, 5).map(({ id }) => id),
		[2998, 2999],
	);
});

test("the registry tells of bdevs that come, change their size and go", async () => {
	const history = createNotifications();
	const bdevs = createRegistry(silent, undefined, history);
	await bdevs.createNull({ name: "N", blockSize: 512, numBlocks: 8 });
	await bdevs.resize("N", 8);
	await bdevs.resize("N", 16);
	await assert.rejects(
		bdevs.createNull({ name: "N", blockSize: 512, numBlocks: 8 }),
	);
	await bdevs.delete("N");
	assert.deepEqual(history.since(0, 9), [
		{ id: 0, type: "bdev_register", ctx: "N" },
		{ id: 1, type: "bdev_resize", ctx: "N" },
		{ id: 2, type: "bdev_unregister", ctx: "N" },
	]);
	await bdevs.createNull({ blockSize: 512, numBlocks: 8 });
	await bdevs.close();
	assert.deepEqual(
		history.since(3, 9).map(({ type }) => type),
		["bdev_register", "bdev_unregister"],
	);
});
