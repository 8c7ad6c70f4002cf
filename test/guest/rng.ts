// SPDX-License-Identifier: MIT
// examples/virtio-rng.ts, as it is printed, as the entropy source of a Linux guest; and beside it
// two more devices of that kind: one whose bytes are known, one that sends zeroes.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
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
import { bootQemu, type QemuGuest } from "../support/qemu.ts";
import { SOAK } from "../support/soak.ts";

const RING_PACKED = 34;
const READ_BYTES = 16384;
/** In the order in which the guest gets them. */
const SOURCES = ["rng0", "known", "zeroes"] as const;
type Source = (typeof SOURCES)[number];

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
		`vhost-user-rng-pci,chardev=rng${i},packed=${packed ? "on" : "off"},queue_reset=off`,
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

for (const packed of SOAK ? [false, true] : [true])
	test(`a guest's entropy from devices of one's own, ${packed ? "packed" : "split"} rings`, async (t) => {
		const dir = makeTempDir();
		const engine = await startEngine({ socketDir: dir });
		const sent = await serveOthers(engine);
		const example = await startExample(dir);
		const guest = await bootQemu([], { args: deviceArguments(dir, packed) });
		t.after(async () => {
			await guest.kill();
			await example.kill();
			await engine.close();
			removeTempDir(dir);
		});

		await t.test("the guest sees them, and the rings asked for", async () => {
			const found = await guest.run(
				"cat /sys/class/misc/hw_random/rng_available; grep -l 0x0004 /sys/bus/virtio/devices/*/device | wc -l",
			);
			for (const i of SOURCES.keys()) assert(found.includes(`virtio_rng.${i}`));
			assert.match(found, /\n3\n$/);
			const bits = await guest.run(
				"cat /sys/bus/virtio/devices/virtio0/features",
			);
			assert.equal(bits[RING_PACKED], packed ? "1" : "0");
		});
		await t.test(
			"the example's bytes are random, and new each time",
			async () => {
				const first = await readFrom(guest, "rng0");
				const second = await readFrom(guest, "rng0");
				assertRandom(first);
				assertRandom(second);
				assertRandom(Buffer.concat([first, second]));
			},
		);
		await t.test(
			"the bytes of a known source come as they were sent",
			async () => {
				const data = await readFrom(guest, "known");
				assertSent(data, sent());
				assert.throws(() => assertRandom(data), "a counter is not random");
			},
		);
		await t.test("zeroes are told from entropy", async () => {
			const data = await readFrom(guest, "zeroes");
			assert.deepEqual(data, Buffer.alloc(READ_BYTES));
			assert.throws(() => assertRandom(data), /shrank/);
			assert.throws(() => assertSent(data, sent()), /bytes 0/);
		});
		await t.test("the driver goes, and comes back", async () => {
			const driver = "/sys/bus/virtio/drivers/virtio_rng";
			const before = example.stdout().length;
			await guest.run(
				`echo virtio0 >${driver}/unbind && echo virtio0 >${driver}/bind`,
			);
			await waitUntil(
				() => /stopped\n[\s\S]*started/.test(example.stdout().slice(before)),
				5000,
				() => `the queue stops and starts: ${example.stdout()}`,
			);
			assertRandom(await readFrom(guest, "rng0"));
		});
		await t.test(
			"the guest shuts down, and the example ends in good order",
			async () => {
				await guest.powerOff();
				process.kill(example.pid, "SIGTERM");
				assert.equal(await example.exited, 0, example.stderr());
			},
		);
	});
