// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { VhostctlError } from "../errors.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import { decodeConfig, decodeU64, encodeConfig, encodeU64 } from "./codec.ts";
import {
	F_PROTOCOL_FEATURES,
	FLAG_NEED_REPLY,
	MESSAGES,
	type MessageName,
	PROTOCOL_FEATURES,
	type ProtocolFeature,
} from "./messages.ts";
import { type Answer, closeFds, type Requester } from "./requester.ts";

/** A connection to a back end and what was agreed on with it. */
export interface Link {
	readonly requester: Requester;
	/** Virtio features that the device offers. */
	readonly offered: bigint;
	/** Virtio features to acknowledge, bit 30 included. */
	readonly features: bigint;
	readonly protocolFeatures: bigint;
}

const NOTHING = Buffer.alloc(0);

/** Protocol features that are taken if they are offered. */
const TAKEN: readonly ProtocolFeature[] = [
	"MQ",
	"LOG_SHMFD",
	"REPLY_ACK",
	"BACKEND_REQ",
	"CONFIG",
	"INFLIGHT_SHMFD",
	"RESET_DEVICE",
	"CONFIGURE_MEM_SLOTS",
	"STATUS",
];
const TAKEN_BITS = TAKEN.reduce((all, f) => all | PROTOCOL_FEATURES[f], 0n);

/** What is not for the asking: there is no IOMMU here, and logging is turned on by itself. */
const NEVER_TAKEN = VIRTIO_F.ACCESS_PLATFORM | VIRTIO_F.LOG_ALL;

export function has(link: Link, feature: ProtocolFeature): boolean {
	return (link.protocolFeatures & PROTOCOL_FEATURES[feature]) !== 0n;
}

/**
 * Sends a message as its row says. Resolves with the reply's payload; or, empty,
 * when the ack came, or at once if acks were not negotiated.
 */
export async function call(
	link: Link,
	name: MessageName,
	payload: Uint8Array = NOTHING,
	fds: readonly number[] = [],
): Promise<Buffer> {
	const { request, answer } = MESSAGES[name];
	const { requester } = link;
	if (answer === "reply") {
		const reply = await requester.exchange(request, 0, payload, fds);
		closeFds(reply.fds);
		return reply.payload;
	}
	if (!has(link, "REPLY_ACK")) {
		requester.post(request, 0, payload, fds);
		return NOTHING;
	}
	const flags = FLAG_NEED_REPLY;
	const ack = await requester.exchange(request, flags, payload, fds);
	closeFds(ack.fds);
	const status = decodeU64(ack.payload);
	if (status !== 0n)
		throw new VhostctlError("E_PROTOCOL", `${name} was refused (${status})`);
	return NOTHING;
}

/**
 * Sends a message whose reply brings a descriptor, which is the caller's. Throws
 * E_PROTOCOL without one.
 */
export async function callForFd(
	{ requester }: Link,
	name: MessageName,
	payload: Uint8Array,
): Promise<{ payload: Buffer; fd: number }> {
	const { request } = MESSAGES[name];
	const reply: Answer = await requester.exchange(request, 0, payload, []);
	const [fd, ...more] = reply.fds;
	if (fd !== undefined && more.length === 0)
		return { payload: reply.payload, fd };
	closeFds(reply.fds);
	throw new VhostctlError(
		"E_PROTOCOL",
		`${name} was answered with ${reply.fds.length} descriptors`,
	);
}

/** Agrees on features, in the order that QEMU does. */
export async function negotiate(
	requester: Requester,
	wanted: bigint,
): Promise<Link> {
	const nothing = { features: 0n, protocolFeatures: 0n };
	const plain: Link = { requester, offered: 0n, ...nothing };
	const offered = decodeU64(await call(plain, "GET_FEATURES"));
	const link = {
		requester,
		offered,
		features: offered & ((wanted & ~NEVER_TAKEN) | F_PROTOCOL_FEATURES),
		protocolFeatures: 0n,
	};
	if ((offered & F_PROTOCOL_FEATURES) !== 0n) {
		const protocol =
			decodeU64(await call(link, "GET_PROTOCOL_FEATURES")) & TAKEN_BITS;
		await call(link, "SET_PROTOCOL_FEATURES", encodeU64(protocol));
		link.protocolFeatures = protocol;
	}
	await call(link, "SET_OWNER");
	return link;
}

/** Throws E_UNSUPPORTED, E_INVALID (the device has not that many bytes), E_PROTOCOL. */
export async function readConfig(
	link: Link,
	offset: number,
	length: number,
): Promise<Buffer> {
	if (!has(link, "CONFIG"))
		throw new VhostctlError(
			"E_UNSUPPORTED",
			"the device does not show its configuration",
		);
	const wanted = encodeConfig(offset, Buffer.alloc(length));
	const reply = await call(link, "GET_CONFIG", wanted);
	if (reply.length === 0)
		throw new VhostctlError(
			"E_INVALID",
			`configuration bytes ${offset}..${offset + length} were refused`,
		);
	const { size, data } = decodeConfig(reply);
	if (size !== length || data.length < length)
		throw new VhostctlError(
			"E_PROTOCOL",
			`${size} bytes of configuration, not ${length}`,
		);
	return data.subarray(0, length);
}

/** Queues that the device has to give: 1 if it does not say. */
export async function readMaxQueues(link: Link): Promise<number> {
	if (!has(link, "MQ")) return 1;
	return Number(decodeU64(await call(link, "GET_QUEUE_NUM")));
}
