// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { HANDLERS } from "../../src/engine/vhost-user/handlers.ts";
import {
	canAck,
	describeRequest,
	MESSAGES,
	type MessageName,
	messageName,
	PROTOCOL_FEATURES,
	SUPPORTED_PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";

/** Numbers and answers as the specification's "Front-end message types" has them. */
const SPECIFIED: Record<MessageName, [number, "reply" | "ack"]> = {
	GET_FEATURES: [1, "reply"],
	SET_FEATURES: [2, "ack"],
	SET_OWNER: [3, "ack"],
	RESET_OWNER: [4, "ack"],
	SET_MEM_TABLE: [5, "ack"],
	SET_VRING_NUM: [8, "ack"],
	SET_VRING_ADDR: [9, "ack"],
	SET_VRING_BASE: [10, "ack"],
	GET_VRING_BASE: [11, "reply"],
	SET_VRING_KICK: [12, "ack"],
	SET_VRING_CALL: [13, "ack"],
	SET_VRING_ERR: [14, "ack"],
	GET_PROTOCOL_FEATURES: [15, "reply"],
	SET_PROTOCOL_FEATURES: [16, "ack"],
	GET_QUEUE_NUM: [17, "reply"],
	SET_VRING_ENABLE: [18, "ack"],
	SET_BACKEND_REQ_FD: [21, "ack"],
	GET_CONFIG: [24, "reply"],
	SET_CONFIG: [25, "ack"],
	RESET_DEVICE: [34, "ack"],
	SET_STATUS: [39, "ack"],
	GET_STATUS: [40, "reply"],
};

test("each message has its number, answer and handler", () => {
	assert.deepEqual(Object.keys(MESSAGES).sort(), Object.keys(SPECIFIED).sort());
	assert.deepEqual(Object.keys(HANDLERS).sort(), Object.keys(SPECIFIED).sort());
	for (const [name, [request, answer]] of Object.entries(SPECIFIED)) {
		const row = MESSAGES[name as MessageName];
		assert.deepEqual([row.request, row.answer], [request, answer], name);
		assert.equal(messageName(request), name);
		assert.equal(describeRequest(request), name);
		assert.equal(canAck(request), answer === "ack");
	}
});

test("every message of the specification has a name", () => {
	const names = Array.from({ length: 44 }, (_, i) => describeRequest(i + 1));
	for (const name of names) assert.match(name, /^[A-Z_]+$/);
	assert.equal(new Set(names).size, names.length);
	assert.equal(describeRequest(45), "request 45");
	assert.equal(describeRequest(0), "request 0");
});

test("what has an answer of its own cannot be refused by an ack", () => {
	for (const request of [6, 22, 26, 28, 30, 31, 36]) assert(!canAck(request));
	for (const request of [7, 19, 32, 38, 45, 0xffffffff])
		assert(canAck(request));
});

test("a feature is offered exactly if its messages are implemented", () => {
	assert.equal(SUPPORTED_PROTOCOL_FEATURES, 0x1_2229n);
	const needed = Object.values(MESSAGES).flatMap((row) =>
		"needs" in row ? [row.needs] : [],
	);
	const carried = [...needed, "REPLY_ACK"];
	assert.deepEqual(
		[...new Set(carried)].sort(),
		Object.keys(PROTOCOL_FEATURES).sort(),
	);
});
