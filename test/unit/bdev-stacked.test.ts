// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import type { BdevUser } from "../../src/engine/bdev/bdev.ts";
import { isDelay } from "../../src/engine/bdev/delay.ts";
import { isError } from "../../src/engine/bdev/error.ts";
import {
	type BdevRegistry,
	createRegistry,
} from "../../src/engine/bdev/registry.ts";
import { silent } from "../../src/engine/log.ts";
import { createNotifications } from "../../src/engine/notifications.ts";

const MIB = 1024 * 1024;
const DISK = { blockSize: 512, numBlocks: (8 * MIB) / 512 };
const NO_DELAY = { avg_read: 0, p99_read: 0, avg_write: 0, p99_write: 0 };

let bdevs: BdevRegistry;
let notifications: ReturnType<typeof createNotifications>;

beforeEach(() => {
	notifications = createNotifications();
	bdevs = createRegistry(silent, new Map(), notifications, [0, 1]);
});
afterEach(() => bdevs.close());

function makeUser(name: string) {
	const told: string[] = [];
	const tell = (what: string) => async () => void told.push(what);
	const user: BdevUser = {
		name,
		readonly: false,
		pause: tell("pause"),
		resume: tell("resume"),
		removed: () => void told.push("removed"),
		changed: tell("changed"),
	};
	return { user, told };
}

/** What a VhostctlError is to be. */
function fails(code: string, message = /./) {
	return { name: "VhostctlError", code, message };
}

const names = () => bdevs.list().map(({ name }) => name);

test("a bdev that stacks has its base for itself, and gives it back", async () => {
	await bdevs.createMalloc(DISK);
	await bdevs.createPassthru({ name: "top", base: "Malloc0" });
	assert.equal(bdevs.get("Malloc0").claimType, "exclusive_write");
	await assert.rejects(
		bdevs.createError({ base: "Malloc0" }),
		fails("E_BUSY", /Malloc0 is claimed by bdev top \(exclusive_write\)/),
	);
	const { user } = makeUser("vm0");
	assert.throws(() => bdevs.get("Malloc0").claim(user), fails("E_BUSY", /top/));
	await bdevs.delete("top", "passthru");
	assert.equal(bdevs.get("Malloc0").claimType, undefined);
	bdevs.get("Malloc0").claim(user)();
	await assert.rejects(
		bdevs.createPassthru({ name: "top", base: "none" }),
		fails("E_NOT_FOUND", /none/),
	);
});

test("one that cannot be made leaves its base free", async () => {
	await bdevs.createMalloc(DISK);
	await bdevs.createNull({ name: "Malloc0p1", ...DISK });
	await assert.rejects(
		bdevs.createPassthru({ name: "Malloc0p1", base: "Malloc0" }),
		fails("E_EXISTS", /Malloc0p1/),
	);
	// The first part is made, and taken back.
	await assert.rejects(
		bdevs.createSplit("Malloc0", { count: 3, sizeMb: 0 }),
		fails("E_EXISTS", /Malloc0p1/),
	);
	assert.deepEqual(names(), ["Malloc0", "Malloc0p1"]);
	assert.equal(bdevs.get("Malloc0").claimType, undefined);
	const latencies = { ...NO_DELAY, p99_read: 86_400_000_001 };
	await assert.rejects(
		bdevs.createDelay({ name: "slow", base: "Malloc0", latencies }),
		fails("E_INVALID", /p99_read latency 86400000001/),
	);
	assert.equal(bdevs.get("Malloc0").claimType, undefined);
});

test("a base takes what stacks on it along, from the top", async () => {
	await bdevs.createMalloc(DISK);
	await bdevs.createError({ base: "Malloc0" });
	await bdevs.createDelay({
		name: "slow",
		base: "EE_Malloc0",
		latencies: NO_DELAY,
	});
	const { user, told } = makeUser("vm0");
	bdevs.get("slow").claim(user);
	await bdevs.delete("Malloc0");
	assert.deepEqual(names(), []);
	assert.deepEqual(told, ["pause", "removed", "resume", "changed"]);
	const order = notifications
		.since(0, 100)
		.filter(({ type }) => type === "bdev_unregister")
		.map(({ ctx }) => ctx);
	assert.deepEqual(order, ["slow", "EE_Malloc0", "Malloc0"]);
});

test("size goes up through a stack, to those who use it", async () => {
	await bdevs.createMalloc(DISK);
	await bdevs.createError({ base: "Malloc0" });
	await bdevs.createPassthru({ name: "top", base: "EE_Malloc0" });
	const { user, told } = makeUser("vm0");
	bdevs.get("top").claim(user);
	for (const numBlocks of [DISK.numBlocks * 2, DISK.numBlocks / 2]) {
		told.length = 0;
		await bdevs.resize("Malloc0", numBlocks);
		assert.equal(bdevs.get("top").backend.numBlocks, numBlocks);
		assert.deepEqual(told, ["pause", "resume", "changed"]);
	}
	await assert.rejects(
		bdevs.resize("top", DISK.numBlocks),
		fails("E_UNSUPPORTED", /resize EE_Malloc0/),
	);
	const resized = notifications
		.since(0, 100)
		.filter(({ type }) => type === "bdev_resize");
	assert.equal(resized.length, 6);
});

test("parts stay as they are, and keep their base as large as they need", async () => {
	await bdevs.createMalloc(DISK);
	const parts = await bdevs.createSplit("Malloc0", { count: 3, sizeMb: 2 });
	assert.deepEqual(
		parts.map(({ name, backend }) => [
			name,
			backend.numBlocks,
			backend.driverSpecific(),
		]),
		[0, 1, 2].map((i) => [
			`Malloc0p${i}`,
			4096,
			{ split: { base_bdev: "Malloc0", offset_blocks: i * 4096 } },
		]),
	);
	await bdevs.resize("Malloc0", DISK.numBlocks * 2);
	assert.equal(bdevs.get("Malloc0p2").backend.numBlocks, 4096);
	await assert.rejects(
		bdevs.resize("Malloc0", 3 * 4096 - 1),
		fails("E_BUSY", /needs 12288 blocks/),
	);
	await bdevs.resize("Malloc0", 3 * 4096);
	await bdevs.deleteSplit("Malloc0");
	assert.deepEqual(names(), ["Malloc0"]);
	assert.equal(bdevs.get("Malloc0").claimType, undefined);
	await assert.rejects(
		bdevs.deleteSplit("Malloc0"),
		fails("E_NOT_FOUND", /not split/),
	);
});

test("as many parts are made as fit", async () => {
	await bdevs.createMalloc({ blockSize: 4096, numBlocks: 1024 });
	const split = (count: number, sizeMb: number) =>
		bdevs.createSplit("Malloc0", { count, sizeMb });
	assert.equal((await split(9, 1)).length, 4);
	await bdevs.deleteSplit("Malloc0");
	const thirds = await split(3, 0);
	assert.deepEqual(
		thirds.map(({ backend }) => backend.numBlocks),
		[341, 341, 341],
	);
	await bdevs.deleteSplit("Malloc0");
	for (const [count, sizeMb, reason] of [
		[0, 0, /split_count 0/],
		[1, 5, /too few/],
		[2000, 0, /too few/],
	] as const)
		await assert.rejects(split(count, sizeMb), fails("E_INVALID", reason));
});

test("a read-only base shows in what stacks on it, and supports too", async () => {
	await bdevs.createNull({ name: "n", ...DISK });
	const { backend } = await bdevs.createPassthru({ name: "top", base: "n" });
	assert.deepEqual(backend.supports, bdevs.get("n").backend.supports);
	assert.equal(backend.productName, "passthru");
});

test("latencies change one by one", async () => {
	await bdevs.createNull({ name: "n", ...DISK });
	const latencies = { ...NO_DELAY, avg_read: 10 };
	const { backend } = await bdevs.createDelay({
		name: "slow",
		base: "n",
		latencies,
	});
	assert.ok(isDelay(backend));
	backend.setLatency("p99_write", 7);
	assert.deepEqual(backend.driverSpecific(), {
		delay: {
			name: "slow",
			base_bdev_name: "n",
			avg_read_latency: 10,
			p99_read_latency: 0,
			avg_write_latency: 0,
			p99_write_latency: 7,
		},
	});
	assert.throws(() => backend.setLatency("avg_read", 1e12), fails("E_INVALID"));
});

test("rules are checked, shown and taken back", async () => {
	await bdevs.createNull({ name: "n", ...DISK });
	const { backend } = await bdevs.createError({ base: "n" });
	assert.ok(isError(backend));
	const bad = [
		[{ kind: "corrupt_data", num: 1 }, /corrupt_value 0/],
		[{ kind: "failure", num: 1, probability: 0 }, /probability 0/],
		[{ kind: "failure", num: 1, probability: 1.5 }, /probability 1.5/],
		[{ kind: "failure", num: 1, lba: DISK.numBlocks }, /blocks from 16384 on/],
		[{ kind: "failure", num: 1, numBlocks: 0 }, /blocks from 0 on/],
	] as const;
	for (const [rule, reason] of bad)
		assert.throws(
			() => backend.inject(["read"], rule),
			fails("E_INVALID", reason),
		);
	assert.deepEqual(backend.rules(), []);
	backend.inject(["read", "flush"], { kind: "pending", num: 2 });
	backend.inject(["write"], { kind: "failure", num: 5, lba: 8, numBlocks: 8 });
	assert.deepEqual(
		backend.rules().map(([operation, { kind, num }]) => [operation, kind, num]),
		[
			["read", "pending", 2],
			["flush", "pending", 2],
			["write", "failure", 5],
		],
	);
	backend.resume();
	assert.deepEqual(
		backend.rules().map(([operation]) => operation),
		["write"],
	);
	backend.clear();
	assert.deepEqual(backend.driverSpecific(), {
		error_disk: { base_bdev: "n", rules: [], pending: 0 },
	});
});
