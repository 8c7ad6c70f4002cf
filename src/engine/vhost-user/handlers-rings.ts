// SPDX-License-Identifier: MIT
// Messages about one ring.
import { native } from "../../ffi/native.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import { encodeState, type VringAddress } from "./codec.ts";
import { closeFd } from "./fds.ts";
import type { HandlersOf } from "./handler.ts";
import { F_PROTOCOL_FEATURES, MAX_RING_SIZE, VRING_F_LOG } from "./messages.ts";
import { refuse, type SessionState, vringAt } from "./state.ts";
import {
	baseOf,
	dropKick,
	halt,
	isPacked,
	retire,
	settle,
	type Vring,
} from "./vring.ts";

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

/** Changes something else about a ring, which goes on if it ran. */
async function rewire(
	state: SessionState,
	vring: Vring,
	change: () => void,
): Promise<void> {
	await halt(vring, state);
	change();
	await settle(vring, state);
}

function isMoved(old: VringAddress | undefined, next: VringAddress): boolean {
	return (
		old?.desc !== next.desc ||
		old.used !== next.used ||
		old.avail !== next.avail
	);
}

function isRelogged(old: VringAddress | undefined, next: VringAddress) {
	return (
		old?.flags !== next.flags ||
		((next.flags & VRING_F_LOG) !== 0 && old.log !== next.log)
	);
}

export const RING_HANDLERS: HandlersOf<
	| "SET_VRING_NUM"
	| "SET_VRING_ADDR"
	| "SET_VRING_BASE"
	| "GET_VRING_BASE"
	| "SET_VRING_KICK"
	| "SET_VRING_CALL"
	| "SET_VRING_ERR"
	| "SET_VRING_ENABLE"
	| "VRING_KICK"
> = {
	async SET_VRING_NUM(state, { index, num }) {
		const vring = vringAt(state, index);
		const fits = isPacked(state) || (num & (num - 1)) === 0;
		if (num < 1 || num > MAX_RING_SIZE || !fits)
			throw refuse(`ring ${index}: ${num} entries`);
		if (num === vring.size) return;
		await reshape(state, vring, () => {
			vring.size = num;
		});
	},

	async SET_VRING_ADDR(state, address) {
		const vring = vringAt(state, address.index);
		const logs = (state.device.features & VIRTIO_F.LOG_ALL) !== 0n;
		if (address.flags & VRING_F_LOG && !logs)
			throw refuse(`ring ${address.index}: logging was not offered`);
		const change = () => {
			vring.address = address;
		};
		if (isMoved(vring.address, address)) await reshape(state, vring, change);
		// Migration begins and ends with this, and no kick follows.
		else if (isRelogged(vring.address, address))
			await rewire(state, vring, change);
	},

	async SET_VRING_BASE(state, { index, num }) {
		const vring = vringAt(state, index);
		if (num > 0xffff && !isPacked(state))
			throw refuse(`ring ${index}: base ${num}`);
		await reshape(state, vring, () => {
			vring.base = num;
		});
	},

	async GET_VRING_BASE(state, { index }) {
		const vring = vringAt(state, index);
		await retire(vring, state);
		const base = vring.base ?? vring.left ?? baseOf(vring, state);
		return encodeState({ index, num: base });
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

	async SET_VRING_ENABLE(state, { index, num }) {
		const vring = vringAt(state, index);
		if (!state.negotiated && (state.features & F_PROTOCOL_FEATURES) === 0n)
			throw refuse("PROTOCOL_FEATURES was not negotiated");
		if (num > 1) throw refuse(`ring ${index}: enable ${num}`);
		vring.enabled = num === 1;
		await settle(vring, state);
	},

	async VRING_KICK(state, { index, num }) {
		const vring = vringAt(state, index);
		if (num !== 0) throw refuse(`ring ${index}: reserved bits`);
		if (vring.kick === undefined) {
			vring.kick = native.eventfd();
			vring.broken = false;
		}
		if (typeof vring.kick === "number") native.eventfdSignal(vring.kick);
		await settle(vring, state);
	},
};
