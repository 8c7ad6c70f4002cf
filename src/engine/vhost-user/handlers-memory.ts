// SPDX-License-Identifier: MIT
// Messages about guest memory, and about memory that is not there yet (postcopy).
import { Buffer } from "node:buffer";
import { NativeError, native } from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";
import {
	encodeMemory,
	encodeRegion,
	encodeU64,
	type MemoryRegion,
} from "./codec.ts";
import { closeFd } from "./fds.ts";
import type { HandlersOf } from "./handler.ts";
import {
	type GuestMemory,
	mapMemory,
	type OwnedRegion,
	releaseMemory,
	withoutRegion,
	withRegion,
} from "./memory.ts";
import { MAX_MEM_SLOTS, MESSAGES } from "./messages.ts";
import {
	everyVring,
	refuse,
	renewIotlb,
	restartAll,
	type SessionState,
	unpause,
} from "./state.ts";
import { halt, settle, type Vring } from "./vring.ts";

/** Another table takes the place of the present one, with the rings stopped. */
function replaceMemory(state: SessionState, memory: GuestMemory): void {
	const old = state.memory;
	state.memory = memory;
	renewIotlb(state);
	releaseMemory(old, memory.regions);
}

/** Where a region is in this process, for the front end to know what a fault is about. */
function mapped(memory: GuestMemory, region: OwnedRegion): MemoryRegion {
	const { userAddr, size } = region;
	return {
		...region,
		userAddr: native.memTranslateUser(memory.handle, userAddr, size),
	};
}

/**
 * After POSTCOPY_LISTEN the front end hears where memory was mapped, and confirms that
 * it serves faults there; until then nothing may touch it.
 */
async function awaitConfirmation(
	state: SessionState,
	request: number,
	memory: GuestMemory,
): Promise<void> {
	await everyVring(state, halt);
	replaceMemory(state, memory);
	if (state.postcopy.confirming === undefined) state.paused++;
	state.postcopy.confirming = request;
}

/** QEMU adds region after region and confirms all of them at once. */
export function isAnotherRegion(
	{ postcopy }: SessionState,
	request: number,
	payload: Buffer,
): boolean {
	const adds = MESSAGES.ADD_MEM_REG.request;
	const isAdd = request === adds && postcopy.confirming === adds;
	return isAdd && payload.length > CONFIRMATION_BYTES;
}

const CONFIRMATION_BYTES = 8;

/** The front end confirmed: with nothing, as specified, or with the 0 that QEMU sends. */
export async function confirm(
	state: SessionState,
	request: number,
	payload: Buffer,
): Promise<void> {
	const { postcopy, memory } = state;
	const fits =
		payload.length === 0 || payload.equals(Buffer.alloc(CONFIRMATION_BYTES));
	if (request !== postcopy.confirming || !fits) {
		state.hangUp();
		throw refuse("the addresses for postcopy were not confirmed");
	}
	postcopy.confirming = undefined;
	if (memory) catchFaults(state, memory);
	await unpause(state);
}

function catchFaults({ postcopy }: SessionState, memory: GuestMemory): void {
	try {
		native.memCatchFaults(memory.handle, postcopy.fd);
	} catch (error) {
		throw fromErrno(error, "userfaultfd");
	}
}

/** Has a running ring use the table from its next request on. */
async function handOver(vring: Vring, state: SessionState): Promise<void> {
	const { run } = vring;
	if (!run || !state.memory) return;
	run.view = state.memory.handle;
	try {
		run.running.setMem(run.view, false);
	} catch (error) {
		if (!(error instanceof NativeError)) throw error;
		await halt(vring, state);
		await settle(vring, state);
	}
}

/** Starts a ring that waited for its memory; it may not be there yet. */
async function settleIfThere(vring: Vring, state: SessionState) {
	const { address, run } = vring;
	if (run || !address || !state.memory) return;
	try {
		if (!state.iotlb)
			native.memTranslateUser(state.memory.handle, address.desc, 1n);
	} catch {
		return;
	}
	await settle(vring, state);
}

/** Rings need not stop for more memory, unless what they see of it is another thing. */
async function grow(state: SessionState, memory: GuestMemory): Promise<void> {
	if (state.iotlb) return restartAll(state, () => replaceMemory(state, memory));
	replaceMemory(state, memory);
	for (const vring of state.vrings.values()) await handOver(vring, state);
	for (const vring of state.vrings.values()) await settleIfThere(vring, state);
}

export const MEMORY_HANDLERS: HandlersOf<
	| "SET_MEM_TABLE"
	| "GET_MAX_MEM_SLOTS"
	| "ADD_MEM_REG"
	| "REM_MEM_REG"
	| "POSTCOPY_ADVISE"
	| "POSTCOPY_LISTEN"
	| "POSTCOPY_END"
> = {
	async SET_MEM_TABLE(state, regions, fds) {
		const owned = regions.map((region, i) => ({ ...region, fd: fds.peek(i) }));
		const memory = mapMemory(owned);
		for (const i of owned.keys()) fds.take(i);
		if (!state.postcopy.listening) {
			await restartAll(state, () => replaceMemory(state, memory));
			return undefined;
		}
		await awaitConfirmation(state, MESSAGES.SET_MEM_TABLE.request, memory);
		return encodeMemory(owned.map((region) => mapped(memory, region)));
	},

	GET_MAX_MEM_SLOTS: () => encodeU64(BigInt(MAX_MEM_SLOTS)),

	async ADD_MEM_REG(state, region, fds) {
		const count = state.memory?.regions.length ?? 0;
		if (count >= MAX_MEM_SLOTS) throw refuse(`more than ${count} regions`);
		const owned = { ...region, fd: fds.peek(0) };
		const memory = withRegion(state.memory, owned);
		fds.take();
		if (!state.postcopy.listening) {
			await grow(state, memory);
			return undefined;
		}
		await awaitConfirmation(state, MESSAGES.ADD_MEM_REG.request, memory);
		return encodeRegion(mapped(memory, owned));
	},

	async REM_MEM_REG(state, region) {
		const { memory } = withoutRegion(state.memory, region);
		await restartAll(state, () => replaceMemory(state, memory));
	},

	POSTCOPY_ADVISE({ postcopy }) {
		let fd: number;
		try {
			fd = native.userfaultOpen();
		} catch (error) {
			throw fromErrno(error, "userfaultfd");
		}
		closeFd(postcopy.fd);
		postcopy.fd = fd;
		return { payload: Buffer.alloc(0), fds: [fd] };
	},

	POSTCOPY_LISTEN(state) {
		const { postcopy, memory } = state;
		if (postcopy.fd < 0) throw refuse("without POSTCOPY_ADVISE");
		if (memory) catchFaults(state, memory);
		postcopy.listening = true;
		return undefined;
	},

	POSTCOPY_END({ postcopy }) {
		if (!postcopy.listening) throw refuse("without POSTCOPY_LISTEN");
		closeFd(postcopy.fd); // with the front end's copy gone too, pages are as ever
		postcopy.fd = -1;
		postcopy.listening = false;
		return undefined;
	},
};
