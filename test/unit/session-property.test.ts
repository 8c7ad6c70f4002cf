// SPDX-License-Identifier: MIT
// Every request ends in exactly one of: its reply, its ack, or the connection's close.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { after, test } from "node:test";
import fc from "fast-check";
import {
	decodeU64,
	encodeMessage,
	encodeU64,
} from "../../src/engine/vhost-user/codec.ts";
import {
	canAck,
	FLAG_NEED_REPLY,
	MESSAGES,
	type MessageName,
	messageName,
	SUPPORTED_PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";
import { native, PAGES_SHARED } from "../../src/ffi/native.ts";
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
	{ weight: 6, arbitrary: words([0, 2, 10, 18, 3, 67]) },
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
		peer.send("SET_PROTOCOL_FEATURES", encodeU64(SUPPORTED_PROTOCOL_FEATURES));
	if (attempt.failing) bench.device.failing.add(attempt.failing);
	const { answers, closed, status } = await answersTo(peer, attempt);
	const name = messageName(request);
	const replies = name !== undefined && MESSAGES[name].answer === "reply";
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
		peer.send("SET_PROTOCOL_FEATURES", encodeU64(SUPPORTED_PROTOCOL_FEATURES));
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
	peer.send("SET_PROTOCOL_FEATURES", encodeU64(SUPPORTED_PROTOCOL_FEATURES));
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
		assert.equal(answer && decodeU64(answer.payload), 1n);
	}
	assert.equal(countFds(), before);
	await peer.close();
	await session.close();
});
