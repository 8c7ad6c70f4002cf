// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { fromErrno, messageOf, VhostctlError } from "../errors.ts";
import { type BackendChannel, openBackendChannel } from "./backend-channel.ts";
import {
	type DECODERS,
	encodeConfig,
	encodeState,
	encodeU64,
	type MemoryRegion,
} from "./codec.ts";
import { closeFd, type ReceivedFds } from "./fds.ts";
import {
	F_PROTOCOL_FEATURES,
	MAX_CONFIG,
	MAX_RING_SIZE,
	type MESSAGES,
	type MessageName,
} from "./messages.ts";
import {
	dropKick,
	halt,
	makeVring,
	resetVring,
	retire,
	settle,
	type Vring,
	type VringHost,
} from "./vring.ts";

/** The back end's side of one connection. */
export interface SessionState extends VringHost {
	protocolFeatures: bigint;
	/** Whether SET_PROTOCOL_FEATURES was heard. */
	negotiated: boolean;
	/** Device status (virtio 2.1), as SET_STATUS said it. */
	status: bigint;
	/** By index; made when first spoken of. */
	readonly vrings: Map<number, Vring>;
	channel: BackendChannel | undefined;
}

type Body<N extends MessageName> = ReturnType<
	(typeof DECODERS)[(typeof MESSAGES)[N]["payload"]]
>;

/** Carries a message out; returns the reply's payload for those that have one. */
export type Handler<B> = (
	state: SessionState,
	body: B,
	fds: ReceivedFds,
) => Promise<Buffer | undefined> | Buffer | undefined | Promise<void>;

type Handlers = {
	readonly [N in MessageName]: Handler<Body<N>>;
};

function refuse(what: string): VhostctlError {
	return new VhostctlError("E_PROTOCOL", what);
}

function vringAt(state: SessionState, index: number): Vring {
	const { maxQueues } = state.device;
	if (index >= maxQueues) throw refuse(`ring ${index} of ${maxQueues}`);
	const vring = state.vrings.get(index) ?? makeVring(index);
	state.vrings.set(index, vring);
	return vring;
}

/** Does the same to all rings at once. */
export function everyVring(
	state: SessionState,
	act: (vring: Vring, host: VringHost) => Promise<void>,
): Promise<unknown> {
	return Promise.all([...state.vrings.values()].map((v) => act(v, state)));
}

/** Changes what all rings stand on, with the rings stopped. */
async function restartAll(
	state: SessionState,
	change: () => void,
): Promise<void> {
	await everyVring(state, halt);
	change();
	await everyVring(state, settle);
}

/** Changes a ring's place or size; one that runs is retired, to start at its next kick. */
async function reshape(
	state: SessionState,
	vring: Vring,
	change: () => void,
): Promise<void> {
	if (vring.run) await retire(vring, state);
	change();
	await settle(vring, state);
}

/** Changes a descriptor of a ring, which goes on if it ran. */
async function rewire(
	state: SessionState,
	vring: Vring,
	change: () => void,
): Promise<void> {
	await halt(vring, state);
	change();
	await settle(vring, state);
}

/** Maps the regions of a memory table; the descriptors are needed no longer. */
function mapMemory(regions: readonly MemoryRegion[], fds: ReceivedFds): bigint {
	const mem = native.memCreate();
	try {
		for (const [i, region] of regions.entries())
			native.memAddRegion(mem, { ...region, fd: fds.peek(i) });
		return mem;
	} catch (error) {
		native.memRelease(mem);
		throw fromErrno(error, "memory table");
	}
}

/** Virtio reset: all of the device's state; the memory table stays. */
async function reset(state: SessionState): Promise<void> {
	state.device.abandoned?.(state.session);
	await everyVring(state, resetVring);
	state.device.reset?.(state.session);
	state.features = 0n;
	state.status = 0n;
}

export const HANDLERS: Handlers = {
	GET_FEATURES: ({ device }) =>
		encodeU64(device.features | F_PROTOCOL_FEATURES),

	async SET_FEATURES(state, features) {
		const unknown = features & ~(state.device.features | F_PROTOCOL_FEATURES);
		if (unknown !== 0n)
			throw refuse(`features 0x${unknown.toString(16)} were not offered`);
		if (features === state.features) return;
		await restartAll(state, () => {
			state.features = features;
		});
	},

	SET_OWNER: () => undefined,
	RESET_OWNER: reset,

	async SET_MEM_TABLE(state, regions, fds) {
		const mem = mapMemory(regions, fds);
		await restartAll(state, () => {
			if (state.mem !== undefined) native.memRelease(state.mem);
			state.mem = mem;
		});
	},

	async SET_VRING_NUM(state, { index, num }) {
		const vring = vringAt(state, index);
		if (num < 1 || num > MAX_RING_SIZE || (num & (num - 1)) !== 0)
			throw refuse(`ring ${index}: ${num} entries`);
		if (num === vring.size) return;
		await reshape(state, vring, () => {
			vring.size = num;
		});
	},

	async SET_VRING_ADDR(state, address) {
		const vring = vringAt(state, address.index);
		if (address.flags !== 0)
			throw refuse(`ring ${address.index}: logging was not negotiated`);
		const { desc, used, avail } = vring.address ?? {};
		if (
			desc === address.desc &&
			used === address.used &&
			avail === address.avail
		)
			return;
		await reshape(state, vring, () => {
			vring.address = address;
		});
	},

	async SET_VRING_BASE(state, { index, num }) {
		const vring = vringAt(state, index);
		if (num > 0xffff) throw refuse(`ring ${index}: base ${num}`);
		await reshape(state, vring, () => {
			vring.base = num;
		});
	},

	async GET_VRING_BASE(state, { index }) {
		const vring = vringAt(state, index);
		await retire(vring, state);
		return encodeState({ index, num: vring.base });
	},

	async SET_VRING_KICK(state, { index, hasFd }, fds) {
		const vring = vringAt(state, index);
		await rewire(state, vring, () => {
			dropKick(vring);
			vring.kick = hasFd ? fds.take() : "poll";
			vring.broken = false;
		});
	},

	async SET_VRING_CALL(state, { index, hasFd }, fds) {
		const vring = vringAt(state, index);
		await rewire(state, vring, () => {
			closeFd(vring.call);
			vring.call = hasFd ? fds.take() : -1;
		});
	},

	async SET_VRING_ERR(state, { index, hasFd }, fds) {
		const vring = vringAt(state, index);
		await rewire(state, vring, () => {
			closeFd(vring.err);
			vring.err = hasFd ? fds.take() : -1;
		});
	},

	GET_PROTOCOL_FEATURES: ({ device }) => encodeU64(device.protocolFeatures),

	SET_PROTOCOL_FEATURES(state, features) {
		const unknown = features & ~state.device.protocolFeatures;
		if (unknown !== 0n)
			throw refuse(
				`protocol features 0x${unknown.toString(16)} were not offered`,
			);
		state.protocolFeatures = features;
		state.negotiated = true;
		return undefined;
	},

	GET_QUEUE_NUM: ({ device }) => encodeU64(BigInt(device.maxQueues)),

	async SET_VRING_ENABLE(state, { index, num }) {
		const vring = vringAt(state, index);
		if (!state.negotiated && (state.features & F_PROTOCOL_FEATURES) === 0n)
			throw refuse("PROTOCOL_FEATURES was not negotiated");
		if (num > 1) throw refuse(`ring ${index}: enable ${num}`);
		vring.enabled = num === 1;
		await settle(vring, state);
	},

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
			const text = `GET_CONFIG: ${messageOf(error)}`;
			device.log("warn", `connection ${session.id}: ${text}`);
			return Buffer.alloc(0); // how the specification says no
		}
	},

	SET_CONFIG({ device, session }, { offset, size, data }) {
		if (size > data.length || offset + size > MAX_CONFIG)
			throw refuse(`configuration bytes ${offset}..${offset + size}`);
		device.writeConfig(offset, data.subarray(0, size), session);
		return undefined;
	},

	RESET_DEVICE: reset,

	async SET_STATUS(state, status) {
		if (status > 0xffn) throw refuse(`status 0x${status.toString(16)}`);
		if (status === 0n) await reset(state);
		state.status = status;
	},

	GET_STATUS: ({ status }) => encodeU64(status),
};
