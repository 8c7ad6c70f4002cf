// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { BdevUser } from "../../src/engine/bdev/bdev.ts";
import {
	type BdevRegistry,
	createRegistry,
} from "../../src/engine/bdev/registry.ts";
import { silent } from "../../src/engine/log.ts";
import { fails } from "../support/engine.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

let bdevs: BdevRegistry;
let dir: string;
const SMALL = { blockSize: 512, numBlocks: 8 };

beforeEach(() => {
	dir = makeTempDir();
	bdevs = createRegistry(silent);
});
afterEach(async () => {
	await bdevs.close();
	removeTempDir(dir);
});

/** A user that writes down what it was told. */
function makeUser(name: string, readonly = false) {
	const told: string[] = [];
	const tell = (what: string) => async () => void told.push(what);
	const user: BdevUser = {
		name,
		readonly,
		pause: tell("pause"),
		resume: tell("resume"),
		removed: () => void told.push("removed"),
		changed: tell("changed"),
	};
	return { user, told };
}

function file(size: number): string {
	const path = join(dir, "disk.img");
	writeFileSync(path, new Uint8Array(size));
	return path;
}

test("names are given in order, and given again", async () => {
	assert.equal((await bdevs.createMalloc(SMALL)).name, "Malloc0");
	assert.equal((await bdevs.createMalloc(SMALL)).name, "Malloc1");
	assert.equal((await bdevs.createNull(SMALL)).name, "Null0");
	await bdevs.delete("Malloc0");
	assert.equal((await bdevs.createMalloc(SMALL)).name, "Malloc0");
});

test("a bdev is found by name and by UUID, which stays", async () => {
	const uuid = "0123ABCD-89ab-cdef-0123-456789abcdef";
	const bdev = await bdevs.createNull({ ...SMALL, name: "a", uuid });
	assert.equal(bdevs.get("a"), bdev);
	assert.equal(bdevs.get(uuid), bdev);
	assert.equal(bdevs.get(uuid.toLowerCase()), bdev);
	await bdevs.resize("a", 16);
	assert.equal(bdev.uuid, uuid.toLowerCase());
	const other = await bdevs.createNull(SMALL);
	assert.notEqual(other.uuid, bdev.uuid);
});

test("a name or UUID that is taken is refused", async () => {
	const { uuid } = await bdevs.createNull({ ...SMALL, name: "a" });
	await fails(bdevs.createMalloc({ ...SMALL, name: "a" }), "E_EXISTS", /a/);
	await fails(bdevs.createNull({ ...SMALL, name: uuid }), "E_EXISTS");
	await fails(bdevs.createNull({ ...SMALL, name: "b", uuid }), "E_EXISTS");
	assert.equal(bdevs.list().length, 1);
});

test("sizes that make no sense are refused", async () => {
	for (const blockSize of [0, 511, 513, 768, 131072]) {
		await fails(bdevs.createNull({ blockSize, numBlocks: 8 }), "E_INVALID");
	}
	for (const numBlocks of [0, -1, 1.5, 2 ** 53]) {
		await fails(bdevs.createNull({ blockSize: 512, numBlocks }), "E_INVALID");
	}
	await fails(
		bdevs.createNull({ blockSize: 4096, numBlocks: 8, physicalBlockSize: 512 }),
		"E_INVALID",
	);
	await fails(
		bdevs.createMalloc({ blockSize: 65536, numBlocks: 2 ** 36 }),
		"E_NO_MEMORY",
	);
	assert.deepEqual(bdevs.list(), []);
});

test("one writer has a bdev alone; readers share", async () => {
	const bdev = await bdevs.createNull(SMALL);
	const writer = makeUser("w").user;
	const release = bdev.claim(writer);
	assert.equal(bdev.claimType, "exclusive_write");
	assert.throws(
		() => bdev.claim(makeUser("w2").user),
		/claimed by controller w/,
	);
	assert.throws(() => bdev.claim(makeUser("r", true).user), /claimed/);
	release();
	assert.equal(bdev.claimType, undefined);

	const releases = ["a", "b"].map((name) =>
		bdev.claim(makeUser(name, true).user),
	);
	assert.equal(bdev.claimType, "read_many_write_none");
	assert.throws(() => bdev.claim(writer), /claimed by controller a/);
	for (const each of releases) each();
	bdev.claim(writer)();
});

test("growing does not stop users; shrinking does; both are told", async () => {
	const bdev = await bdevs.createNull(SMALL);
	const { user, told } = makeUser("u");
	bdev.claim(user);
	await bdevs.resize(bdev.name, 16);
	assert.deepEqual(told.splice(0), ["changed"]);
	await bdevs.resize(bdev.name, 4);
	assert.deepEqual(told.splice(0), ["pause", "resume", "changed"]);
	await bdevs.resize(bdev.name, 4);
	assert.deepEqual(told, []);
	assert.equal(bdev.backend.numBlocks, 4);
	await fails(bdevs.resize(bdev.name, 0), "E_INVALID");
	await fails(bdevs.rescan(bdev.name), "E_UNSUPPORTED");
});

test("a RAM disk grows beyond its pages, with its users stopped", async () => {
	const bdev = await bdevs.createMalloc({ ...SMALL, pageSize: "4K" });
	const { user, told } = makeUser("u");
	bdev.claim(user);
	await bdevs.resize(bdev.name, 100_000);
	assert.deepEqual(told.splice(0), ["pause", "resume", "changed"]);
	assert.equal(bdev.backend.numBlocks, 100_000);
	await fails(bdevs.resize(bdev.name, 2 ** 43), "E_NO_MEMORY");
	assert.equal(bdev.backend.numBlocks, 100_000, "a failure changes nothing");
});

test("deletion takes the bdev from its users between pause and resume", async () => {
	const bdev = await bdevs.createMalloc(SMALL);
	const { user, told } = makeUser("u");
	bdev.claim(user);
	const deleted = bdevs.delete(bdev.name);
	assert.throws(() => bdevs.get(bdev.name), /no bdev Malloc0/);
	assert.throws(() => bdev.claim(makeUser("late").user), /no bdev/);
	await fails(bdevs.delete(bdev.name), "E_NOT_FOUND");
	await deleted;
	assert.deepEqual(told, ["pause", "removed", "resume", "changed"]);
	assert.deepEqual(bdevs.list(), []);
});

test("changes of one bdev happen one after another", async () => {
	const bdev = await bdevs.createNull({ ...SMALL, numBlocks: 1000 });
	const { user, told } = makeUser("u");
	bdev.claim(user);
	const sizes = [900, 800, 700];
	await Promise.all(sizes.map((size) => bdevs.resize(bdev.name, size)));
	assert.equal(told.join(), sizes.map(() => "pause,resume,changed").join());
	assert.equal(bdev.backend.numBlocks, 700);
});

test("a kind that does not fit is refused", async () => {
	await bdevs.createNull({ ...SMALL, name: "n" });
	await fails(bdevs.delete("n", "malloc"), "E_NOT_FOUND", /is a null bdev/);
	await bdevs.delete("n", "null");
});

test("waiting for a bdev ends when it comes, or in time", async () => {
	const waiting = bdevs.waitFor("later", 10_000);
	const bdev = await bdevs.createNull({ ...SMALL, name: "later" });
	assert.equal(await waiting, bdev);
	assert.equal(await bdevs.waitFor("later", 0), bdev);
	await fails(bdevs.waitFor("never", 20), "E_NOT_FOUND");
	const cut = bdevs.waitFor("never", 1e12);
	await Promise.all([fails(cut, "E_NOT_FOUND"), bdevs.close()]);
});

test("a file's size is its disk's, and rescan finds a new one", async () => {
	const filename = file(8192);
	const bdev = await bdevs.createFile({ driver: "aio", name: "f", filename });
	const { user, told } = makeUser("u");
	bdev.claim(user);
	assert.equal(bdev.backend.numBlocks, 16);
	assert.equal(bdev.backend.productName, "AIO disk");
	await fails(bdevs.resize("f", 8), "E_UNSUPPORTED", /rescan/);
	truncateSync(filename, 16384);
	await bdevs.rescan("f", "aio");
	assert.equal(bdev.backend.numBlocks, 32);
	assert.deepEqual(told.splice(0), ["changed"]);
	truncateSync(filename, 4096);
	await bdevs.rescan("f");
	assert.equal(bdev.backend.numBlocks, 8);
	assert.deepEqual(told.splice(0), ["pause", "resume", "changed"]);
	truncateSync(filename, 1000);
	await fails(bdevs.rescan("f"), "E_INVALID", /multiple of block_size 512/);
	assert.equal(bdev.backend.numBlocks, 8);
});

test("files that make no disk are refused, with the reason", async () => {
	const create = (filename: string, more: object = {}) =>
		bdevs.createFile({ driver: "uring", name: "f", filename, ...more });
	await fails(create(join(dir, "none")), "E_NOT_FOUND", /none/);
	await fails(create(dir), "E_INVALID", /neither a regular file/);
	await fails(create("/dev/null"), "E_INVALID", /neither/);
	await fails(create(file(0)), "E_INVALID");
	await fails(create(file(1000)), "E_INVALID", /multiple/);
	await fails(create(file(4096), { blockSize: 8192 }), "E_INVALID");
	assert.deepEqual(bdevs.list(), []);
});

test("driver_specific tells whether I/O is direct", async () => {
	const options = { driver: "uring", filename: file(65536) } as const;
	const bdev = await bdevs.createFile({ ...options, name: "f" });
	const { uring } = bdev.backend.driverSpecific() as {
		uring: { direct: boolean; filename: string };
	};
	assert.equal(typeof uring.direct, "boolean");
	assert.equal(uring.filename, options.filename);
});

test("a read-only file cannot be unmapped, and says so", async () => {
	const bdev = await bdevs.createFile({
		driver: "aio",
		name: "f",
		filename: file(4096),
		readonly: true,
	});
	assert.equal(bdev.backend.readonly, true);
	assert.equal(bdev.backend.supports.unmap, false);
});
