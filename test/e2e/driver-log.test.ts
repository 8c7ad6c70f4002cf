// SPDX-License-Identifier: MIT
// The dirty log against all of the memory, compared: what the device wrote is marked, and
// nothing that it may not write.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createRuntime, type Runtime } from "../../src/engine/runtime.ts";
import { FIRST_REQUEST_RING } from "../../src/engine/scsi-initiator.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import { VIRTIO_F, VIRTIO_SCSI_F } from "../../src/engine/virtio/features.ts";
import { encodeAddress } from "../../src/engine/virtio/scsi-address.ts";
import { type Iov, native } from "../../src/ffi/native.ts";
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
import { type Instance, startInstance } from "../support/instance.ts";
import { makeTempDir, removeTempDir, waitUntil } from "../support/processes.ts";

const MIB = 1024 * 1024;
const PAGE = 4096;
const PATIENCE_MS = 20_000;
const DISK = 8 * MIB;
const UNTOUCHED = 0xee;

let instance: Instance;
let runtime: Runtime;
let folder: string;
before(async () => {
	folder = makeTempDir();
	const image = join(folder, "disk.img");
	writeFileSync(image, randomFillSync(Buffer.alloc(DISK)));
	const file = (name: string) => ["--bdev", `file:name=${name},path=${image}`];
	instance = await startInstance([
		...["--bdev", `malloc:name=ram,size=${DISK}`, "--blk", "ram=ram"],
		...["--bdev", `malloc:name=ram2,size=${DISK}`, "--scsi", "scsi=ram2"],
		...[...file("file"), "--blk", "file=file"],
		...["--bdev", "null:name=spare,size=1M"],
	]);
	runtime = createRuntime();
});
after(async () => {
	await runtime.close();
	await instance.stop();
	removeTempDir(folder);
});

/** Memory for requests, one after the other, with what the device may write of it. */
interface Space {
	/** Pages (guest address divided by their size) that the device may write. */
	readonly writable: Set<number>;
	/** What the device reads. offset: in a page of its own; default: behind what was placed last. */
	out(data: Buffer, offset?: number): Iov;
	/** What the device writes. */
	into(bytes: number, offset?: number): Iov;
}

function makeSpace({ memory }: Frontend): Space {
	let at = 0;
	const place = (bytes: number, offset?: number): bigint => {
		if (offset !== undefined) at = Math.ceil(at / PAGE) * PAGE + offset;
		const addr = memory.addr + BigInt(at);
		at += bytes;
		assert(BigInt(at) <= memory.size, "room for the requests");
		return addr;
	};
	const writable = new Set<number>();
	return {
		writable,
		out(data, offset) {
			const addr = place(data.length, offset);
			native.copyIn(addr, data);
			return { addr, len: BigInt(data.length) };
		},
		into(bytes, offset) {
			const addr = place(bytes, offset);
			native.copyIn(addr, Buffer.alloc(bytes, UNTOUCHED));
			const gpa = Number(addr - memory.addr + memory.gpa);
			for (let i = Math.floor(gpa / PAGE); i * PAGE < gpa + bytes; i++)
				writable.add(i);
			return { addr, len: BigInt(bytes) };
		},
	};
}

/** A request, and the byte that the device writes last of what it writes for it. */
interface Request {
	readonly ring: number;
	readonly out: Iov[];
	readonly into: Iov[];
	readonly ends: bigint;
}

function readAll({ regions }: Frontend): Map<number, Buffer> {
	const pages = new Map<number, Buffer>();
	for (const { addr, gpa, size } of regions) {
		const bytes = native.copyOut(addr, Number(size));
		for (let at = 0; at < bytes.length; at += PAGE)
			pages.set(Number(gpa) / PAGE + at / PAGE, bytes.subarray(at, at + PAGE));
	}
	return pages;
}

function differing(
	one: ReadonlyMap<number, Buffer>,
	other: ReadonlyMap<number, Buffer>,
): number[] {
	return [...one]
		.filter(([page, bytes]) => !bytes.equals(other.get(page) ?? bytes))
		.map(([page]) => page);
}

/** Pages of all rings, their indirect tables aside. */
function ringPages(frontend: Frontend): Set<number> {
	const { rings, gpaDelta } = frontend;
	const pages = new Set<number>();
	for (const { desc, used } of rings) {
		const first = Number((desc + gpaDelta) / BigInt(PAGE));
		const last = Number((used + gpaDelta) / BigInt(PAGE));
		for (let page = first; page <= last; page++) pages.add(page);
	}
	return pages;
}

/**
 * Has the device carry requests out while the driver writes nothing. Fails unless each page
 * that changed is marked, and each page that is marked is one that it may have written.
 */
async function expectLogged(
	frontend: Frontend,
	{ writable }: Space,
	requests: readonly Request[],
	meanwhile: () => Promise<void> = async () => {},
): Promise<void> {
	const indices = [...frontend.rings.keys()];
	const bases: number[] = [];
	for (const index of indices) bases.push(await frontend.stopRing(index));
	for (const [i, { ring, out, into }] of requests.entries()) {
		const handle = frontend.rings[ring]?.handle ?? assert.fail("no ring");
		native.driverRingAdd(handle, out, into, BigInt(i));
	}
	for (const { handle } of frontend.rings) native.driverRingKick(handle);
	const before = readAll(frontend);
	await frontend.startLogging();
	for (const index of indices)
		await frontend.startRing(index, bases[index] ?? assert.fail());
	await meanwhile();
	const ended = ({ ends }: Request) => native.copyOut(ends, 1)[0] !== UNTOUCHED;
	await waitUntil(
		() => requests.every(ended),
		PATIENCE_MS,
		() => `requests end, not ${requests.findIndex((one) => !ended(one))}`,
	);
	for (const index of indices) bases[index] = await frontend.stopRing(index);
	const marked = await frontend.stopLogging();
	const changed = differing(before, readAll(frontend));

	const isMarked = new Set(marked);
	const isRing = ringPages(frontend);
	const missed = changed.filter((page) => !isMarked.has(page));
	assert.deepEqual(missed, [], "pages that changed and are not marked");
	const wrong = marked.filter(
		(page) => !writable.has(page) && !isRing.has(page),
	);
	assert.deepEqual(wrong, [], "pages marked that the device may not write");
	const written = [...writable].filter((page) => changed.includes(page));
	assert(written.length > 0 && marked.length < before.size / 2);

	for (const index of indices)
		await frontend.startRing(index, bases[index] ?? assert.fail());
	for (const { ring } of requests) {
		const handle = frontend.rings[ring]?.handle ?? assert.fail("no ring");
		assert(native.driverRingGet(handle), "a request that was not put back");
	}
	for (const index of indices) {
		const base = await stopIdle(frontend, index);
		await frontend.startRing(index, base);
	}
}

interface Variant {
	readonly format: Format;
	/** Virtio features to leave out. */
	readonly without: bigint;
	readonly name: string;
}

const VARIANTS: readonly Variant[] = FORMATS.flatMap((format) => [
	{ format, without: 0n, name: `${format} rings` },
	{
		format,
		without: VIRTIO_F.RING_INDIRECT_DESC | VIRTIO_F.RING_EVENT_IDX,
		name: `${format} rings without indirect descriptors and event indexes`,
	},
]);

async function onFrontend(
	controller: string,
	{ format, without }: Variant,
	options: { queues: number; features: bigint; configSize?: number },
	work: (frontend: Frontend) => Promise<void>,
): Promise<void> {
	const frontend = await connectFrontend(runtime, instance.socket(controller), {
		...options,
		queueSize: 256,
		memoryBytes: 4 * MIB,
		features: options.features & ~without,
		mode: "interrupt",
		pageSize: 4096n,
	});
	try {
		expectFormat(frontend, format);
		await work(frontend);
	} finally {
		await frontend.close();
	}
}

/* ---- virtio-blk ------------------------------------------------------------------ */

const BLK = { in: 0, out: 1, flush: 4, id: 8, discard: 11, zeroes: 13 };

/** A request with its status in a page of its own, or where offset says in one. */
function blkRequest(
	space: Space,
	type: number,
	sector: number,
	rest: { out?: Iov[]; into?: Iov[]; statusAt?: number } = {},
): Request {
	const header = Buffer.alloc(16);
	header.writeUInt32LE(type, 0);
	header.writeBigUInt64LE(BigInt(sector), 8);
	const out = [space.out(header, 0), ...(rest.out ?? [])];
	const status = space.into(1, rest.statusAt ?? 0);
	const into = [...(rest.into ?? []), status];
	return { ring: 0, out, into, ends: status.addr };
}

function blkRequests(space: Space): Request[] {
	const range = Buffer.alloc(16);
	range.writeBigUInt64LE(800n, 0);
	range.writeUInt32LE(8, 8);
	const data = randomFillSync(Buffer.alloc(8192));
	const request = (
		type: number,
		sector: number,
		rest?: Parameters<typeof blkRequest>[3],
	) => blkRequest(space, type, sector, rest);
	return [
		request(BLK.in, 0, { into: [space.into(4096, 0)] }),
		// Data that begins and ends within pages, in pieces of any length, and a status at an end.
		request(BLK.in, 8, {
			into: [space.into(100, 4000), space.into(5000, 17), space.into(1044, 1)],
			statusAt: 4095,
		}),
		request(BLK.in, 64, { into: [space.into(65536, 2048)] }),
		...Array.from({ length: 40 }, (_, i) =>
			request(BLK.in, 200 + i, { into: [space.into(512, 512 * (i % 8))] }),
		),
		request(BLK.in, DISK / 512, { into: [space.into(512, 0)] }), // not there
		request(BLK.out, 600, { out: [space.out(data, 0)] }),
		request(BLK.flush, 0),
		request(BLK.id, 0, { into: [space.into(20, 4090)] }),
		request(BLK.discard, 0, { out: [space.out(range, 0)] }),
		request(BLK.zeroes, 0, { out: [space.out(range, 0)] }),
		request(99, 0), // not known
	];
}

for (const disk of ["ram", "file"])
	for (const variant of VARIANTS)
		test(`blk, ${disk}, ${variant.name}: each page written is in the log`, async () => {
			const features = featuresFor(variant.format);
			const options = { queues: 2, features };
			await onFrontend(disk, variant, options, async (frontend) => {
				for (let round = 0; round < 2; round++) {
					const space = makeSpace(frontend);
					await expectLogged(frontend, space, blkRequests(space));
				}
			});
		});

/* ---- virtio-scsi ----------------------------------------------------------------- */

const REQUEST_BYTES = 51;
const RESPONSE_BYTES = 108;
const RESPONSE_CODE_AT = 11n;

function scsiRequest(
	space: Space,
	cdb: readonly number[],
	rest: { out?: Iov; into?: Iov } = {},
): Request {
	const header = Buffer.alloc(REQUEST_BYTES);
	encodeAddress(0, 0).copy(header);
	header.set(cdb, 19);
	const out = [space.out(header, 0), ...(rest.out ? [rest.out] : [])];
	const response = space.into(RESPONSE_BYTES, 4040);
	return {
		ring: FIRST_REQUEST_RING,
		out,
		into: [response, ...(rest.into ? [rest.into] : [])],
		ends: response.addr + RESPONSE_CODE_AT,
	};
}

/** LOGICAL UNIT RESET on the control ring. */
function resetRequest(space: Space): Request {
	const body = Buffer.alloc(24);
	body.writeUInt32LE(5, 4);
	encodeAddress(0, 0).copy(body, 8);
	const response = space.into(1, 1000);
	const out = [space.out(body, 0)];
	return { ring: 0, out, into: [response], ends: response.addr };
}

function eventBuffer(space: Space): Request {
	const buffer = space.into(16, 2000);
	return { ring: 1, out: [], into: [buffer], ends: buffer.addr };
}

function scsiRequests(space: Space): Request[] {
	const data = randomFillSync(Buffer.alloc(4096));
	return [
		scsiRequest(space, [0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], {
			into: space.into(4096, 100),
		}),
		scsiRequest(space, [0x2a, 0, 0, 0, 0, 16, 0, 0, 8, 0], {
			out: space.out(data, 0),
		}),
		scsiRequest(space, [0x12, 0, 0, 0, 96, 0], { into: space.into(96, 4090) }),
		scsiRequest(space, [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], {
			into: space.into(8, 0),
		}),
		scsiRequest(space, [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], {
			into: space.into(256, 3900),
		}),
		scsiRequest(space, [0xff, 0, 0, 0, 0, 0]), // sense data
		scsiRequest(space, [0x28, 0, 0xff, 0, 0, 0, 0, 0, 8, 0], {
			into: space.into(4096, 0), // not there
		}),
		resetRequest(space),
	];
}

const SCSI_FEATURES = Object.values(VIRTIO_SCSI_F).reduce((a, b) => a | b, 0n);

for (const variant of VARIANTS)
	test(`scsi, ${variant.name}: each page written is in the log`, async () => {
		const features = featuresFor(variant.format) | SCSI_FEATURES;
		const options = { queues: FIRST_REQUEST_RING + 1, features, configSize: 0 };
		await onFrontend("scsi", variant, options, async (frontend) => {
			const space = makeSpace(frontend);
			await expectLogged(frontend, space, scsiRequests(space));
			const events = makeSpace(frontend);
			const target = { ctrlr: "scsi", scsi_target_num: 3 };
			await expectLogged(frontend, events, [eventBuffer(events)], async () => {
				const params = { ...target, bdev_name: "spare" };
				await instance.rpc("vhost_scsi_controller_add_target", params);
			});
			await instance.rpc("vhost_scsi_controller_remove_target", target);
		});
	});

/* ---- While it runs --------------------------------------------------------------- */

const SHAPE: LoadShape = {
	rw: "randread",
	size: DISK,
	blockSize: 4096,
	iodepth: 32,
	ios: 0,
	verify: false,
	rings: 2,
};

/** Where the load has data: of it, the driver writes nothing. */
function dataPages({ memory }: Frontend): number[] {
	const { rings, iodepth, blockSize } = SHAPE;
	const data = (iodepth * blockSize) / PAGE;
	const each = loadBytes(SHAPE) / rings / PAGE;
	const first = Number(memory.gpa) / PAGE;
	return Array.from({ length: rings }, (_, ring) =>
		Array.from(
			{ length: data },
			(_, i) => first + (ring + 1) * each - data + i,
		),
	).flat();
}

for (const format of FORMATS)
	test(`${format} rings: memory copied by the log while a load runs is the same in the end`, async () => {
		const variant = { format, without: 0n, name: format };
		const options = { queues: SHAPE.rings, features: featuresFor(format) };
		await onFrontend("file", variant, options, async (frontend) => {
			await assert.doesNotReject(frontend.startLogging());
			const load = startLoad(runtime, frontend, SHAPE);
			try {
				const copy = readAll(frontend);
				const take = (pages: readonly number[]) => {
					const now = readAll(frontend);
					for (const page of pages)
						copy.set(page, now.get(page) ?? assert.fail(`page ${page}`));
				};
				for (let round = 0; round < 20; round++) {
					await load.progress(200);
					take(frontend.takeDirty());
				}
				// More memory, whose pages are behind the end of the log until now.
				const more = await frontend.addMemory(64 * MIB);
				await load.progress(200);
				take(frontend.takeDirty());
				await frontend.removeMemory(more);
				load.stop();
				await load.succeed(PATIENCE_MS);
				const marked = await frontend.stopLogging();
				assert(marked.length > 0);
				take(marked);
				const changed = new Set(differing(copy, readAll(frontend)));
				const missed = dataPages(frontend).filter((page) => changed.has(page));
				assert.deepEqual(missed, []);
			} finally {
				load.release();
			}
		});
	});
