// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { HANDLERS } from "../../src/engine/vhost-user/handlers.ts";
import {
	canAck,
	DEFAULT_PROTOCOL_FEATURES,
	describeRequest,
	MESSAGES,
	type MessageName,
	messageName,
	PROTOCOL_FEATURES,
	refusalOf,
	SUPPORTED_PROTOCOL_FEATURES,
} from "../../src/engine/vhost-user/messages.ts";

/** Numbers and answers as the specification's "Front-end message types" has them. */
const SPECIFIED: Record<MessageName, [number, "reply" | "ack" | "status"]> = {
	GET_FEATURES: [1, "reply"],
	SET_FEATURES: [2, "ack"],
	SET_OWNER: [3, "ack"],
	RESET_OWNER: [4, "ack"],
	SET_MEM_TABLE: [5, "ack"],
	SET_LOG_BASE: [6, "reply"],
	SET_LOG_FD: [7, "ack"],
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
	IOTLB_MSG: [22, "status"],
	GET_CONFIG: [24, "reply"],
	SET_CONFIG: [25, "ack"],
	POSTCOPY_ADVISE: [28, "reply"],
	POSTCOPY_LISTEN: [29, "ack"],
	POSTCOPY_END: [30, "status"],
	GET_INFLIGHT_FD: [31, "reply"],
	SET_INFLIGHT_FD: [32, "ack"],
	RESET_DEVICE: [34, "ack"],
	VRING_KICK: [35, "ack"],
	GET_MAX_MEM_SLOTS: [36, "reply"],
	ADD_MEM_REG: [37, "ack"],
	REM_MEM_REG: [38, "ack"],
	SET_STATUS: [39, "ack"],
	GET_STATUS: [40, "reply"],
	SET_DEVICE_STATE_FD: [42, "status"],
	CHECK_DEVICE_STATE: [43, "status"],
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
	for (const request of [6, 22, 26, 28, 30, 31, 36, 41, 42, 43, 44])
		assert(!canAck(request), String(request));
	for (const request of [7, 19, 20, 23, 27, 32, 33, 35, 38, 45, 0xffffffff])
		assert(canAck(request), String(request));
});

test("what is refused is refused with its reason", () => {
	for (const request of [19, 20, 23, 26, 27, 33, 41, 44])
		assert.match(refusalOf(request), /^not supported: (this|there|rings)/);
	assert.match(refusalOf(45), /unknown/);
});

test("a feature is offered exactly if its messages are implemented", () => {
	assert.equal(SUPPORTED_PROTOCOL_FEATURES, 0x9_f32bn);
	// PAGEFAULT (8) and INBAND_NOTIFICATIONS (14) only for those who ask.
	assert.equal(DEFAULT_PROTOCOL_FEATURES, 0x9_b22bn);
	const needed = Object.values(MESSAGES).flatMap((row) =>
		"needs" in row ? [row.needs] : [],
	);
	const carried = [...needed, "REPLY_ACK"];
	assert.deepEqual(
		[...new Set(carried)].sort(),
		Object.keys(PROTOCOL_FEATURES).sort(),
	);
});
