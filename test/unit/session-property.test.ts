// SPDX-License-Identifier: MIT
// Every request ends in exactly one of: its reply, its ack, or the connection's close.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { after, test } from "node:test";
import fc from "fast-check";
import { VhostctlError } from "../../src/engine/errors.ts";
import {
	decodeU64,
	encodeAddress,
	encodeFdIndex,
	encodeInflight,
	encodeIotlb,
	encodeLog,
	encodeMemory,
	encodeMessage,
	encodeRegion,
	encodeState,
	encodeTransfer,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	canAck,
	DEFAULT_PROTOCOL_FEATURES,
	F_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	MESSAGES,
	type MessageName,
	messageName,
	PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { VIRTIO_F } from "../../src/engine/virtio/features.ts";
import { native, PAGES_SHARED } from "../../src/ffi/native.ts";
import { waitUntil } from "../support/processes.ts";
import { countFds, makeBench, type RawPeer } from "../support/vhost-user.ts";

const bench = makeBench();
const pages = native.pagesAlloc({
	size: 65536n,
	pageSize: 4096n,
	flags: PAGES_SHARED,
});
const eventfd = native.eventfd();

after(async () => {
	native.fdClose(eventfd);
	native.pagesFree(pages);
	await bench.close();
});

interface Attempt {
	request: number;
	payload: Uint8Array;
	fds: number;
	flags: number;
	acks: boolean;
	failing: "readConfig" | "writeConfig" | "startRing" | undefined;
}

const rows = Object.values(MESSAGES);

const requests = fc.oneof(
	{ weight: 8, arbitrary: fc.constantFrom(...rows.map((r) => r.request)) },
	{ weight: 1, arbitrary: fc.nat({ max: 60 }) },
	{ weight: 1, arbitrary: fc.nat({ max: 2 ** 32 - 1 }) },
);

const words = (counts: number[]) =>
	fc.constantFrom(...counts).chain((count) =>
		fc
			.array(fc.constantFrom(0, 1, 2, 8, 32, 256, 4096, 0xffffffff), {
				minLength: count,
				maxLength: count,
			})
			.map((values) => new Uint8Array(Uint32Array.from(values).buffer)),
	);

/** Payloads that are right in size more often than chance would have it. */
const payloads = fc.oneof(
	{ weight: 6, arbitrary: words([0, 2, 10, 18, 3, 67, 4, 5, 6, 8]) },
	{ weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }) },
	{ weight: 1, arbitrary: fc.constant(new Uint8Array(4096)) },
);

const attempts: fc.Arbitrary<Attempt> = fc.record({
	request: requests,
	payload: payloads,
	fds: fc.constantFrom(0, 0, 0, 1, 1, 2, 8, 9, 32),
	flags: fc.constantFrom(0, 0, FLAG_NEED_REPLY, FLAG_NEED_REPLY, 4, 16, 2),
	acks: fc.boolean(),
	failing: fc.constantFrom(undefined, "readConfig", "writeConfig", "startRing"),
});

function fdsFor({ request, fds }: Attempt): number[] {
	const table = messageName(request) === "SET_MEM_TABLE";
	return Array.from({ length: fds }, () => (table ? pages.fd : eventfd));
}

/** Answers to one message, told by a GET_FEATURES sent behind it; then the close, if it came. */
async function answersTo(
	peer: RawPeer,
	attempt: Attempt,
): Promise<{ answers: number; closed: boolean; status: bigint | undefined }> {
	const message = encodeMessage(
		attempt.request,
		attempt.flags,
		attempt.payload,
	);
	try {
		peer.sendBytes(message, fdsFor(attempt));
		peer.send("GET_FEATURES");
	} catch {
		// It has closed already.
	}
	const barrier = MESSAGES.GET_FEATURES.request;
	let answers = 0;
	let status: bigint | undefined;
	for (;;) {
		const answer = await peer.receive();
		if (!answer) return { answers, closed: true, status };
		const own = attempt.request !== barrier || answers === 0;
		if (answer.request === barrier && !(own && attempt.request === barrier))
			return { answers, closed: false, status };
		assert.equal(answer.request, attempt.request);
		if (answer.payload.length === 8) status = decodeU64(answer.payload);
		answers++;
	}
}

async function check(attempt: Attempt): Promise<void> {
	const { request, flags, acks } = attempt;
	bench.device.failing.clear();
	const { peer, session } = bench.connect();
	if (acks)
		peer.send("SET_PROTOCOL_FEATURES", encodeU64(DEFAULT_PROTOCOL_FEATURES));
	if (attempt.failing) bench.device.failing.add(attempt.failing);
	const { answers, closed, status } = await answersTo(peer, attempt);
	const name = messageName(request);
	const replies = name !== undefined && MESSAGES[name].answer !== "ack";
	// SET_PROTOCOL_FEATURES may itself agree on acks.
	const negotiates = name === "SET_PROTOCOL_FEATURES";
	const wellFormed = (flags & ~FLAG_NEED_REPLY) === 0;
	const asked =
		(flags & FLAG_NEED_REPLY) !== 0 && wellFormed && canAck(request);
	if (closed) {
		assert.equal(answers, 0, "an answer and the close");
		assert(!(asked && acks), "a close where an ack was possible");
	} else if (negotiates && asked) assert(answers <= 1);
	else assert.equal(answers, replies || (asked && acks) ? 1 : 0);
	// What cannot have succeeded is not passed over in silence.
	if (!wellFormed || name === undefined) assert(closed || status === 1n);
	if (asked && acks && !negotiates) assert(status === 0n || status === 1n);
	await peer.close();
	await session.close();
}

test("one message, however bad, has exactly one end", async () => {
	const before = countFds();
	await fc.assert(fc.asyncProperty(attempts, check), { numRuns: 600 });
	bench.device.failing.clear();
	assert.equal(bench.device.sessions.size, 0);
	assert.equal(bench.device.started.size, 0);
	assert.equal(countFds(), before);
});

/** A device that offers all but what can make a reactor wait for ever. */
function offerAll(): void {
	const { device } = bench;
	device.features |=
		VIRTIO_F.LOG_ALL | VIRTIO_F.RING_PACKED | VIRTIO_F.ACCESS_PLATFORM;
	device.protocolFeatures |= PROTOCOL_FEATURES.INBAND_NOTIFICATIONS;
}

const state = (index: number, num: number) => encodeState({ index, num });
const index = fc.nat({ max: 3 });
const small = fc.nat({ max: 16 });
const page = fc.bigInt({ min: 0n, max: 17n }).map((i) => 4096n * i);
const user = page.map((offset) => pages.addr + offset);
const fds = (count: number) => Array.from({ length: count }, () => eventfd);
type Sent = readonly [MessageName, Buffer, readonly number[]];

const bits = fc.subarray([
	VIRTIO_F.LOG_ALL,
	VIRTIO_F.RING_PACKED,
	VIRTIO_F.ACCESS_PLATFORM,
	VIRTIO_F.RING_EVENT_IDX,
	F_PROTOCOL_FEATURES,
]);
const regions = fc
	.record({ gpa: page, userAddr: user, size: page, offset: page })
	.filter(({ size }) => size > 0n);
const places = fc.record({
	index,
	flags: fc.nat({ max: 1 }),
	desc: user,
	used: user.map((addr) => addr + 2048n),
	avail: user.map((addr) => addr + 1024n),
	log: page,
});

/** Messages as a front end may send them, with values that now and then fit together. */
const plausible: fc.Arbitrary<Sent> = fc.oneof(
	bits.map((list): Sent => {
		const all = list.reduce((sum, bit) => sum | bit, VIRTIO_F.VERSION_1);
		return ["SET_FEATURES", encodeU64(all), []];
	}),
	fc.constant<Sent>(["RESET_DEVICE", Buffer.alloc(0), []]),
	fc
		.tuple(index, small)
		.map(([i, num]): Sent => ["SET_VRING_NUM", state(i, num), []]),
	fc
		.tuple(index, fc.constantFrom(0, 1, 8, 0x80008000, 0xffffffff))
		.map(([i, num]): Sent => ["SET_VRING_BASE", state(i, num), []]),
	places.map((place): Sent => ["SET_VRING_ADDR", encodeAddress(place), []]),
	fc
		.tuple(
			fc.constantFrom(
				"SET_VRING_KICK" as const,
				"SET_VRING_CALL" as const,
				"SET_VRING_ERR" as const,
			),
			index,
			fc.boolean(),
		)
		.map(
			([name, i, has]): Sent => [name, encodeFdIndex(i, has), fds(has ? 1 : 0)],
		),
	index.map((i): Sent => ["VRING_KICK", state(i, 0), []]),
	index.map((i): Sent => ["GET_VRING_BASE", state(i, 0), []]),
	fc
		.tuple(index, fc.nat({ max: 1 }))
		.map(([i, on]): Sent => ["SET_VRING_ENABLE", state(i, on), []]),
	fc.constant<Sent>([
		"SET_MEM_TABLE",
		encodeMemory([
			{ gpa: 0n, userAddr: pages.addr, size: pages.size, offset: 0n },
		]),
		[pages.fd],
	]),
	regions.map((r): Sent => ["ADD_MEM_REG", encodeRegion(r), [pages.fd]]),
	regions.map((r): Sent => ["REM_MEM_REG", encodeRegion(r), []]),
	page.map(
		(size): Sent => [
			"SET_LOG_BASE",
			encodeLog({ size, offset: 0n }),
			[pages.fd],
		],
	),
	fc.constant<Sent>(["SET_LOG_FD", Buffer.alloc(0), [eventfd]]),
	fc.tuple(small, small).map(([numQueues, queueSize]): Sent => {
		const area = { size: 0n, offset: 0n, numQueues, queueSize };
		return ["GET_INFLIGHT_FD", encodeInflight(area), []];
	}),
	fc.tuple(small, small).map(([numQueues, queueSize]): Sent => {
		const area = { size: pages.size, offset: 0n, numQueues, queueSize };
		return ["SET_INFLIGHT_FD", encodeInflight(area), [pages.fd]];
	}),
	fc
		.tuple(user, page, user, fc.nat({ max: 3 }), fc.constantFrom(2, 2, 3))
		.map(([iova, size, userAddr, access, type]): Sent => {
			const message = { iova, size, userAddr, access, type };
			return ["IOTLB_MSG", encodeIotlb(message), []];
		}),
	fc.constant<Sent>([
		"SET_DEVICE_STATE_FD",
		encodeTransfer({ direction: 0, phase: 0 }),
		[eventfd],
	]),
);

/** Sends all, answered or not; the end of the connection is one of the ends. */
async function sendAll(list: readonly Sent[]): Promise<void> {
	const { peer, session } = bench.connect();
	const all =
		DEFAULT_PROTOCOL_FEATURES | PROTOCOL_FEATURES.INBAND_NOTIFICATIONS;
	peer.send("SET_PROTOCOL_FEATURES", encodeU64(all));
	for (const [name, payload, descriptors] of list) {
		const answer = await peer
			.ask(name, payload, descriptors, FLAG_NEED_REPLY)
			.catch((error: unknown) => {
				if (!(error instanceof VhostctlError)) throw error; // no answer, but open
				return undefined;
			});
		if (!answer) break;
	}
	await peer.close();
	await session.close();
}

test("messages in any order end each, and leave nothing behind", async () => {
	offerAll();
	const before = countFds();
	const lists = fc.array(plausible, { minLength: 20, maxLength: 60 });
	await fc.assert(fc.asyncProperty(lists, sendAll), { numRuns: 60 });
	assert.equal(bench.device.sessions.size, 0);
	assert.equal(bench.device.started.size, 0);
	await waitUntil(
		() => countFds() <= before,
		2000,
		() => `${countFds()} descriptors, not ${before}`,
	);
});

test("a handler's failure is told, message by message", async () => {
	const cases: [MessageName, Buffer, Attempt["failing"]][] = [
		[
			"SET_CONFIG",
			Buffer.from("20000000010000000000000001", "hex"),
			"writeConfig",
		],
		["GET_CONFIG", Buffer.alloc(12), "readConfig"],
	];
	for (const [name, payload, failing] of cases) {
		const { peer, session } = bench.connect();
		peer.send("SET_PROTOCOL_FEATURES", encodeU64(DEFAULT_PROTOCOL_FEATURES));
		if (failing) bench.device.failing.add(failing);
		const answer = await peer.ask(name, payload, [], FLAG_NEED_REPLY);
		const reply = MESSAGES[name].answer === "reply";
		assert.equal(answer?.payload.length, reply ? 0 : 8);
		if (!reply && answer) assert.equal(decodeU64(answer.payload), 1n);
		bench.device.failing.clear();
		await peer.close();
		await session.close();
	}
});

test("thousands of bad messages leave the connection and its descriptors as they were", async () => {
	const { peer, session } = bench.connect();
	peer.send("SET_PROTOCOL_FEATURES", encodeU64(DEFAULT_PROTOCOL_FEATURES));
	await peer.ask("GET_FEATURES");
	const before = countFds();
	for (let i = 0; i < 2000; i++) {
		const row = rows[i % rows.length];
		if (!row || row.answer === "reply") continue;
		const fds = Array.from({ length: 9 }, () => eventfd);
		const answer = await peer.ask(
			row.request,
			Buffer.alloc(13),
			fds,
			FLAG_NEED_REPLY,
		);
		const failure = "failure" in row ? row.failure : 1n;
		assert.equal(answer && decodeU64(answer.payload), failure);
	}
	assert.equal(countFds(), before);
	await peer.close();
	await session.close();
});
