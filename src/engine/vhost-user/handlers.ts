// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { messageOf } from "../errors.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import { openBackendChannel } from "./backend-channel.ts";
import { encodeConfig, encodeU64 } from "./codec.ts";
import type { HandlersOf } from "./handler.ts";
import { INFLIGHT_HANDLERS } from "./handlers-inflight.ts";
import { IOTLB_HANDLERS } from "./handlers-iotlb.ts";
import { LOG_HANDLERS } from "./handlers-log.ts";
import { MEMORY_HANDLERS } from "./handlers-memory.ts";
import { RING_HANDLERS } from "./handlers-rings.ts";
import { STATE_HANDLERS } from "./handlers-state.ts";
import {
	F_PROTOCOL_FEATURES,
	MAX_CONFIG,
	type MessageName,
	PROTOCOL_FEATURES,
} from "./messages.ts";
import {
	everyVring,
	refuse,
	renewIotlb,
	restartAll,
	type SessionState,
} from "./state.ts";
import {
	resetByStatus,
	resetVring,
	retire,
	type Vring,
	type VringHost,
} from "./vring.ts";

/** Virtio reset: all of the device's state; memory and log stay. */
async function reset(
	state: SessionState,
	resetRing: typeof resetVring,
): Promise<void> {
	state.device.abandoned?.(state.session);
	await everyVring(state, resetRing);
	state.device.reset?.(state.session);
	state.features = 0n;
	state.status = 0n;
	state.unlogged = false;
	state.inflight?.release();
	state.inflight = undefined;
	renewIotlb(state);
}

/** Features that say what the parts of a ring are. */
const FORMAT = VIRTIO_F.RING_PACKED | VIRTIO_F.ACCESS_PLATFORM;

/** A ring that runs is of no use in another format. */
async function unformat(vring: Vring, host: VringHost): Promise<void> {
	if (!vring.run) return;
	await retire(vring, host);
	vring.base = undefined;
}

/** Notifications in messages are told by the one and waited for by the other (vhost-user, "In-band notifications"). */
function isComplete(features: bigint): boolean {
	const { INBAND_NOTIFICATIONS, BACKEND_REQ, REPLY_ACK } = PROTOCOL_FEATURES;
	const needed = BACKEND_REQ | REPLY_ACK;
	return (
		(features & INBAND_NOTIFICATIONS) === 0n || (features & needed) === needed
	);
}

type Own =
	| "GET_FEATURES"
	| "SET_FEATURES"
	| "SET_OWNER"
	| "RESET_OWNER"
	| "GET_PROTOCOL_FEATURES"
	| "SET_PROTOCOL_FEATURES"
	| "GET_QUEUE_NUM"
	| "SET_BACKEND_REQ_FD"
	| "GET_CONFIG"
	| "SET_CONFIG"
	| "RESET_DEVICE"
	| "SET_STATUS"
	| "GET_STATUS";

const DEVICE_HANDLERS: HandlersOf<Own> = {
	GET_FEATURES: ({ device }) =>
		encodeU64(device.features | F_PROTOCOL_FEATURES),

	async SET_FEATURES(state, features) {
		const unknown = features & ~(state.device.features | F_PROTOCOL_FEATURES);
		if (unknown !== 0n)
			throw refuse(`features 0x${unknown.toString(16)} were not offered`);
		const changed = features ^ state.features;
		if (changed === 0n) return;
		if ((changed & FORMAT) !== 0n) await everyVring(state, unformat);
		await restartAll(state, () => {
			state.features = features;
			if ((changed & VIRTIO_F.ACCESS_PLATFORM) !== 0n) renewIotlb(state);
		});
	},

	SET_OWNER: () => undefined,
	RESET_OWNER: (state) => reset(state, resetVring),

	GET_PROTOCOL_FEATURES: ({ device }) => encodeU64(device.protocolFeatures),

	SET_PROTOCOL_FEATURES(state, features) {
		const unknown = features & ~state.device.protocolFeatures;
		if (unknown !== 0n)
			throw refuse(
				`protocol features 0x${unknown.toString(16)} were not offered`,
			);
		if (!isComplete(features)) {
			state.hangUp(); // no other answer is specified
			throw refuse(
				"INBAND_NOTIFICATIONS without both BACKEND_REQ and REPLY_ACK",
			);
		}
		state.protocolFeatures = features;
		state.negotiated = true;
		return undefined;
	},

	GET_QUEUE_NUM: ({ device }) => encodeU64(BigInt(device.maxQueues)),

	SET_BACKEND_REQ_FD(state, _, fds) {
		const channel = openBackendChannel(state.runtime, fds.peek(0));
		state.channel?.close();
		state.channel = channel;
		return undefined;
	},

	GET_CONFIG({ device, session }, { offset, size, flags }) {
		try {
			return encodeConfig(
				offset,
				device.readConfig(offset, size, session),
				flags,
			);
		} catch (error) {
			device.log.warning(`GET_CONFIG: ${messageOf(error)}`, {
				session: session.id,
				kind: "message-GET_CONFIG",
			});
			return Buffer.alloc(0); // how the specification says no
		}
	},

	SET_CONFIG({ device, session }, { offset, size, data }) {
		if (size > data.length || offset + size > MAX_CONFIG)
			throw refuse(`configuration bytes ${offset}..${offset + size}`);
		device.writeConfig(offset, data.subarray(0, size), session);
		return undefined;
	},

	RESET_DEVICE: (state) => reset(state, resetVring),

	async SET_STATUS(state, status) {
		if (status > 0xffn) throw refuse(`status 0x${status.toString(16)}`);
		if (status === 0n) await reset(state, resetByStatus);
		state.status = status;
	},

	GET_STATUS: ({ status }) => encodeU64(status),
};

export const HANDLERS: HandlersOf<MessageName> = {
	...DEVICE_HANDLERS,
	...MEMORY_HANDLERS,
	...LOG_HANDLERS,
	...INFLIGHT_HANDLERS,
	...IOTLB_HANDLERS,
	...RING_HANDLERS,
	...STATE_HANDLERS,
};
