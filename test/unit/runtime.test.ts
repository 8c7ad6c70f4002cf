// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { existsSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { setImmediate } from "node:timers";
import {
	type Connection,
	createRuntime,
	type Delivery,
	type Runtime,
} from "../../src/engine/runtime.ts";
import { encodeMessage } from "../../src/engine/vhost-user/codec.ts";
import {
	MODE_INTERRUPT,
	native,
	OP_FLUSH,
	OP_UNMAP,
	OP_WRITE_ZEROES,
} from "../../src/ffi/native.ts";
import { makeTempDir, removeTempDir, within } from "../support/processes.ts";
import { countFds } from "../support/vhost-user.ts";

const folder = makeTempDir();
after(() => removeTempDir(folder));

/** A value that a callback gives later. */
function later<T>(): { give: (value: T) => void; wait: Promise<T> } {
	let give: (value: T) => void = () => {};
	const promise = new Promise<T>((resolve) => {
		give = resolve;
	});
	return { give, wait: within(promise, 5000, () => "the event") };
}

function connectTo(runtime: Runtime, path: string): Connection {
	const fd = native.socketConnect(path);
	const connection = runtime.adopt(fd);
	native.fdClose(fd);
	return connection;
}

test("a listener accepts, and messages come whole, one for each next()", async () => {
	const before = countFds();
	const runtime = createRuntime();
	const path = join(folder, "listen");
	const accepted = later<Connection>();
	const listener = runtime.listen(path, 0o600, accepted.give);
	assert.equal(statSync(path).mode & 0o777, 0o600);
	const client = connectTo(runtime, path);
	const server = await accepted.wait;
	assert.notEqual(server.id, client.id);

	const deliveries: Delivery[] = [];
	const first = later<void>();
	const second = later<void>();
	server.onMessage((delivery) => {
		deliveries.push(delivery);
		if (deliveries.length === 1) first.give();
		else second.give();
	});
	const event = native.eventfd();
	const large = encodeMessage(7, 0, Buffer.alloc(4096, 0xab));
	client.send(large, [event, event]);
	client.send(encodeMessage(8, 0), []);
	server.next();
	await first.wait;
	assert.deepEqual(deliveries[0]?.data, large);
	assert.equal(deliveries[0]?.fds.length, 2);
	assert.equal(deliveries.length, 1);
	server.next();
	await second.wait;
	assert.deepEqual(deliveries[1]?.data, encodeMessage(8, 0));

	const gone = later<number>();
	server.onClose(gone.give);
	client.close();
	assert.equal(await gone.wait, 0);
	assert.throws(() => server.send(large), { code: "E_CONNECT" });
	server.next();
	server.close();
	for (const fd of [event, ...(deliveries[0]?.fds ?? [])]) native.fdClose(fd);
	listener.close();
	listener.close();
	await runtime.close();
	assert.equal(countFds(), before);
});

test("closing a listener removes its socket, but not one put in its place", async () => {
	const runtime = createRuntime();
	const path = join(folder, "mine");
	runtime.listen(path, 0o600, () => {}).close();
	assert(!existsSync(path));
	const listener = runtime.listen(path, 0o600, () => {});
	assert.throws(() => runtime.listen(path, 0o600, () => {}), {
		code: "EADDRINUSE",
	});
	renameSync(path, `${path}.old`);
	writeFileSync(path, "another's");
	listener.close();
	assert(existsSync(path));
	await runtime.close();
});

test("what arrives and is not taken is closed", async () => {
	const before = countFds();
	const runtime = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	native.fdClose(ours);
	native.fdClose(theirs);
	const event = native.eventfd();
	const message = encodeMessage(1, 0);
	const seen = later<void>();
	// Nobody takes the first message; the second waits for a next() that never comes.
	sender.send(message, [event, event]);
	sender.send(message, [event, event]);
	receiver.next();
	receiver.onClose(() => seen.give());
	native.fdClose(event);
	await runtime.close();
	await seen.wait;
	assert.equal(countFds(), before);
});

test("bytes that are no message close the connection with a reason", async () => {
	const runtime = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	const closed = later<number>();
	receiver.onClose(closed.give);
	receiver.next();
	const oversized = Buffer.alloc(12);
	oversized.writeUInt32LE(4097, 8);
	sender.send(oversized);
	assert.notEqual(await closed.wait, 0);
	native.fdClose(ours);
	native.fdClose(theirs);
	await runtime.close();
});

test("closing is safe from within a callback", async () => {
	const before = countFds();
	const runtime = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	native.fdClose(ours);
	native.fdClose(theirs);
	const closed = later<void>();
	receiver.onMessage(() => void runtime.close().then(closed.give));
	sender.send(encodeMessage(1, 0));
	receiver.next();
	await closed.wait;
	assert.equal(countFds(), before);
});

test("the end of an I/O comes once, to who submitted it", async () => {
	const runtime = createRuntime();
	const { handle: reactor } = native.reactorCreate(runtime.upcalls, {
		cpu: -1,
		mode: MODE_INTERRUPT,
		spin_ns: 0n,
		index: 0,
		reserved: 0,
	});
	const bdev = native.bdevNullCreate(512, 8n);
	const ends: string[] = [];
	const submit = (name: string, op: number, length: number) =>
		new Promise<void>((resolve) => {
			const id = runtime.registerIo((errno) => {
				ends.push(`${name} ${errno}`);
				resolve();
			});
			const io = { bdev, op, id, offset: 0n, len: BigInt(length) };
			native.ioSubmit(reactor, io);
		});
	await submit("flush", OP_FLUSH, 0);
	await Promise.all([
		submit("zeroes", OP_WRITE_ZEROES, 4096),
		submit("unmap", OP_UNMAP, 512),
	]);
	assert.deepEqual(ends.sort(), ["flush 0", "unmap 0", "zeroes 0"]);
	const id = runtime.registerIo(() => assert.fail("it was never submitted"));
	const beyond = { bdev, op: OP_UNMAP, id, offset: 4096n, len: 512n };
	assert.throws(() => native.ioSubmit(reactor, beyond), { code: "ERANGE" });
	runtime.unregisterIo(id);
	native.reactorRelease(reactor);
	native.bdevRelease(bdev);
	await runtime.close();
});

test("a flood of messages lets the rest of the program have its turns", async () => {
	const runtime = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	let received = 0;
	let turns = 0;
	const COUNT = 200;
	const all = later<void>();
	receiver.onMessage(() => {
		if (++received === COUNT) all.give();
		else receiver.next();
	});
	const tick = () => {
		turns++;
		if (received < COUNT) setImmediate(tick);
	};
	for (let i = 0; i < COUNT; i++) sender.send(encodeMessage(1, 0));
	receiver.next();
	setImmediate(tick);
	await all.wait;
	assert(turns > 1);
	native.fdClose(ours);
	native.fdClose(theirs);
	await runtime.close();
});

test("a connection is taken out between two messages, and goes on elsewhere", async () => {
	const before = countFds();
	const runtime = createRuntime();
	const elsewhere = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	native.fdClose(ours);
	native.fdClose(theirs);
	const seen: number[] = [];
	receiver.onMessage(({ data }) => seen.push(data.readUInt32LE()));
	receiver.onClose(() => assert.fail("nothing is called any more"));
	receiver.next();
	sender.send(encodeMessage(1, 0));
	sender.send(encodeMessage(2, 0));
	while (seen.length === 0) await runtime.flush();
	const fd = await receiver.take();
	assert.deepEqual(seen, [1]);
	assert.throws(() => receiver.send(encodeMessage(9, 0)), {
		code: "E_CONNECT",
	});
	await assert.rejects(receiver.take(), { code: "E_CONNECT" });
	receiver.next();
	receiver.close();
	const second = later<Delivery>();
	const next = elsewhere.adopt(fd);
	native.fdClose(fd);
	next.onMessage(second.give);
	next.next();
	assert.equal((await second.wait).data.readUInt32LE(), 2);
	next.send(encodeMessage(3, 0));
	const back = later<Delivery>();
	sender.onMessage(back.give);
	sender.next();
	assert.equal((await back.wait).data.readUInt32LE(), 3);
	await elsewhere.close();
	await runtime.close();
	assert.equal(countFds(), before);
});

test("a message that was read comes before the connection is taken out", async () => {
	const runtime = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	let seen = 0;
	receiver.onMessage(() => seen++);
	receiver.next();
	sender.send(encodeMessage(1, 0));
	const fd = await receiver.take();
	// Either it was read, and has come, or it waits in the socket.
	const next = runtime.adopt(fd);
	const received = seen;
	next.onMessage(() => seen++);
	next.next();
	while (seen === 0) await runtime.flush();
	await runtime.flush();
	assert.equal(seen, 1, `${received} before`);
	for (const one of [fd, ours, theirs]) native.fdClose(one);
	await runtime.close();
});

test("a connection in the middle of a message is not taken out; one that has ended is not", async () => {
	const runtime = createRuntime();
	const [ours, theirs] = native.socketPair();
	const receiver = runtime.adopt(ours);
	const sender = runtime.adopt(theirs);
	native.fdClose(ours);
	native.fdClose(theirs);
	const whole = later<void>();
	receiver.onMessage(() => whole.give());
	const closed = later<number>();
	receiver.onClose(closed.give);
	receiver.next();
	const message = encodeMessage(1, 0, Buffer.alloc(100));
	sender.send(message.subarray(0, 50));
	await new Promise((resolve) => setTimeout(resolve, 50)); // it is read
	await assert.rejects(receiver.take(), { code: "E_BUSY" });
	sender.send(message.subarray(50));
	await whole.wait;
	receiver.next();
	sender.close();
	await closed.wait;
	await assert.rejects(receiver.take(), { code: "E_CONNECT" });
	await runtime.close();
});

test("a listener is taken out with its file, and who connects waits for the next", async () => {
	const before = countFds();
	const runtime = createRuntime();
	const path = join(folder, "taken");
	const first = runtime.listen(path, 0o600, () => assert.fail("too late"));
	const socket = await first.take();
	first.close();
	assert(existsSync(path));
	const client = connectTo(runtime, path);
	const accepted = later<Connection>();
	const second = runtime.listenOn(socket, accepted.give);
	native.fdClose(socket.fd);
	await accepted.wait;
	client.close();
	second.close();
	assert(!existsSync(path));
	await runtime.close();
	assert.equal(countFds(), before);
});
