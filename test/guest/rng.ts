// SPDX-License-Identifier: MIT
// examples/virtio-rng.ts, as it is printed, as an entropy source of a Linux guest; and beside it
// two more devices of that kind: one whose bytes are known, one that sends zeroes. For guests that
// have other devices too.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import process from "node:process";
import type { TestContext } from "node:test";
import { deflateSync } from "node:zlib";
import {
	type DeviceRequest,
	type Engine,
	startEngine,
} from "../../src/engine/engine.ts";
import { projectPath } from "../support/instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
} from "../support/processes.ts";
import type { QemuGuest } from "../support/qemu.ts";

const RING_PACKED = 34;
const READ_BYTES = 16384;
/** In the order in which the guest gets them. */
const SOURCES = ["rng0", "known", "zeroes"] as const;
type Source = (typeof SOURCES)[number];
/** Where they are among QEMU's PCI devices: after all others. */
const SLOT = "1e";

export interface Entropy {
	/** QEMU's arguments for the devices, with rings of either format. */
	args: string[];
	/** Checks them in a guest that has them, whose last use this is. */
	check(t: TestContext, guest: QemuGuest): Promise<void>;
	close(): Promise<void>;
}

/** Starts the example in a process of its own; its device is rng0. */
async function startExample(dir: string): Promise<Process> {
	const example = import.meta.url.endsWith(".ts")
		? "examples/virtio-rng.ts"
		: "dist/examples/virtio-rng.js";
	const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
	const args = [...flags, projectPath(example), dir];
	const started = startProcess(process.execPath, args);
	await waitUntil(
		() => {
			assert(started.alive(), started.stderr());
			return started.stdout().includes("ready: ");
		},
		20_000,
		() => `the example is ready\n${started.stderr()}`,
	);
	return started;
}

/** The numbers from `from` on, in the big-endian order of `bytes`: none is like another. */
function numbers(from: number, bytes: number): Buffer {
	const data = Buffer.alloc(bytes);
	for (let i = 0; i < bytes / 4; i++) data.writeUInt32BE(from + i, 4 * i);
	return data;
}

/** Serves the other two; gives what the known one has sent so far. */
async function serveOthers(engine: Engine): Promise<() => Buffer> {
	const sent: Buffer[] = [];
	let next = 1;
	const known = (request: DeviceRequest) => {
		// Whole numbers, so that a buffer that is not filled is noticed.
		const data = numbers(next, request.writable & ~3);
		next += data.length / 4;
		request.write(data);
		sent.push(data);
		request.complete();
	};
	await engine.createDevice({ name: "known", onRequest: known });
	await engine.createDevice({
		name: "zeroes",
		onRequest(request) {
			request.write(Buffer.alloc(request.writable));
			request.complete();
		},
	});
	return () => Buffer.concat(sent);
}

const deviceArguments = (dir: string, packed: boolean) =>
	SOURCES.flatMap((name, i) => [
		"-chardev",
		`socket,id=rng${i},path=${join(dir, name)}`,
		"-device",
		[
			`vhost-user-rng-pci,chardev=rng${i},packed=${packed ? "on" : "off"}`,
			`queue_reset=off,multifunction=on,addr=${SLOT}.${i}`,
		].join(","),
	]);

/** Reads from the driver itself: nothing stirs the bytes on their way. */
async function readFrom(guest: QemuGuest, source: Source): Promise<Buffer> {
	const device = `virtio_rng.${SOURCES.indexOf(source)}`;
	const text = await guest.run(
		`echo ${device} >/sys/class/misc/hw_random/rng_current && dd if=/dev/hwrng bs=4096 count=${READ_BYTES / 4096} iflag=fullblock 2>/dev/null | base64`,
	);
	const data = Buffer.from(text, "base64");
	assert.equal(data.length, READ_BYTES);
	return data;
}

/** Bytes from a good source do not compress, are all there, and no block comes twice. */
function assertRandom(data: Buffer): void {
	const packedSize = deflateSync(data, { level: 9 }).length;
	assert(packedSize > data.length, `${data.length} shrank to ${packedSize}`);
	const counts = new Array<number>(256).fill(0);
	for (const byte of data) counts[byte] = (counts[byte] ?? 0) + 1;
	const expected = data.length / counts.length;
	const chi2 = counts.reduce(
		(sum, count) => sum + (count - expected) ** 2 / expected,
		0,
	);
	// 255 degrees of freedom: outside this once in 10^9 times.
	assert(chi2 > 135 && chi2 < 415, `chi-squared ${chi2}`);
	const blocks = new Set<string>();
	for (let i = 0; i < data.length; i += 16)
		blocks.add(data.toString("hex", i, i + 16));
	assert.equal(blocks.size, data.length / 16, "blocks repeat");
}

/** Whether every 64 bytes, a cache line and what the driver asks for, are of `sent`, in order. */
function assertSent(data: Buffer, sent: Buffer): void {
	let from = 0;
	for (let i = 0; i < data.length; i += 64) {
		const at = sent.indexOf(data.subarray(i, i + 64), from);
		assert(at >= 0, `bytes ${i}..: ${data.toString("hex", i, i + 64)}`);
		from = at + 1;
	}
}

/** In the guest: the devices, in their order. */
async function devicesOf(guest: QemuGuest): Promise<string[]> {
	const text = await guest.run(
		"cd /sys/bus/virtio/devices && grep -l 0x0004 */device | sort -V",
	);
	return text
		.trim()
		.split("\n")
		.map((path) => path.replace("/device", ""));
}

async function assertSeen(guest: QemuGuest, packed: boolean): Promise<void> {
	const found = await guest.run("cat /sys/class/misc/hw_random/rng_available");
	for (const i of SOURCES.keys()) assert(found.includes(`virtio_rng.${i}`));
	const devices = await devicesOf(guest);
	assert.equal(devices.length, SOURCES.length);
	for (const device of devices) {
		const bits = await guest.run(
			`cat /sys/bus/virtio/devices/${device}/features`,
		);
		assert.equal(bits[RING_PACKED], packed ? "1" : "0");
	}
}

async function assertNewEachTime(guest: QemuGuest): Promise<void> {
	const first = await readFrom(guest, "rng0");
	const second = await readFrom(guest, "rng0");
	assertRandom(first);
	assertRandom(second);
	assertRandom(Buffer.concat([first, second]));
}

/** The driver of the example's device goes, and comes back. */
async function rebind(guest: QemuGuest, example: Process): Promise<void> {
	const driver = "/sys/bus/virtio/drivers/virtio_rng";
	const [device] = await devicesOf(guest);
	const before = example.stdout().length;
	await guest.run(
		`echo ${device} >${driver}/unbind && echo ${device} >${driver}/bind`,
	);
	await waitUntil(
		() => /stopped\n[\s\S]*started/.test(example.stdout().slice(before)),
		5000,
		() => `the queue stops and starts: ${example.stdout()}`,
	);
	assertRandom(await readFrom(guest, "rng0"));
}

/** Starts the devices. */
export async function openEntropy(packed: boolean): Promise<Entropy> {
	const dir = makeTempDir();
	const engine = await startEngine({ socketDir: dir });
	const sent = await serveOthers(engine);
	const example = await startExample(dir);
	return {
		args: deviceArguments(dir, packed),
		async check(t, guest) {
			await t.test("entropy: the guest sees the sources, and their rings", () =>
				assertSeen(guest, packed),
			);
			await t.test("entropy: the example's is random, and new each time", () =>
				assertNewEachTime(guest),
			);
			await t.test(
				"entropy: a known source's comes as it was sent",
				async () => {
					const data = await readFrom(guest, "known");
					assertSent(data, sent());
					assert.throws(() => assertRandom(data), "a counter is not random");
				},
			);
			await t.test("entropy: zeroes are told from it", async () => {
				const data = await readFrom(guest, "zeroes");
				assert.deepEqual(data, Buffer.alloc(READ_BYTES));
				assert.throws(() => assertRandom(data), /shrank/);
				assert.throws(() => assertSent(data, sent()), /bytes 0/);
			});
			await t.test("entropy: the driver goes, and comes back", () =>
				rebind(guest, example),
			);
			await t.test("entropy: the example ends in good order", async () => {
				await guest.powerOff();
				process.kill(example.pid, "SIGTERM");
				assert.equal(await example.exited, 0, example.stderr());
			});
		},
		async close() {
			await example.kill();
			await engine.close();
			removeTempDir(dir);
		},
	};
}
