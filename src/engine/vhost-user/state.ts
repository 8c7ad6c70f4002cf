// SPDX-License-Identifier: MIT
import { VhostctlError } from "../errors.ts";
import { bind, type Logger } from "../log.ts";
import type { Connection, Delivery } from "../runtime.ts";
import { VIRTIO_F } from "../virtio/features.ts";
import type { StateTransfer } from "./device-state.ts";
import { createIotlb } from "./iotlb.ts";
import { NO_LOG } from "./log.ts";
import {
	halt,
	makeVring,
	settle,
	type Vring,
	type VringHost,
} from "./vring.ts";

/** How far a migration by postcopy has come. */
export interface Postcopy {
	/** Userfaultfd that the front end has as well; -1: none. */
	fd: number;
	listening: boolean;
	/** The message whose addresses we told, and whose confirmation must come next. */
	confirming: number | undefined;
}

/** What a session gives its parts. */
export interface SessionCore
	extends Pick<VringHost, "runtime" | "device" | "session" | "onMiss"> {
	/** Runs pieces of work one at a time, messages among them. */
	serially<T>(work: () => Promise<T>): Promise<T>;
	/** Begins the end. */
	hangUp(): void;
	/** Serves a connection, from its next message on. */
	listen(connection: Connection): void;
	/** Answers a message of the inbox. */
	next(): Promise<void>;
}

/** The back end's side of one connection. */
export interface SessionState extends VringHost, SessionCore {
	/** None while frozen. */
	connection: Connection | undefined;
	/** Descriptors of a frozen session: of its connection, and back-end channel. */
	frozen: Frozen | undefined;
	/** Messages that were delivered and not yet looked at. */
	readonly inbox: Delivery[];
	/** Whether SET_PROTOCOL_FEATURES was heard. */
	negotiated: boolean;
	/** Device status (virtio 2.1), as SET_STATUS said it. */
	status: bigint;
	/** By index; made when first spoken of. */
	readonly vrings: Map<number, Vring>;
	readonly postcopy: Postcopy;
	/** A device state on its way; loads: to us. */
	transfer: { transfer: StateTransfer; loads: boolean } | undefined;
}

export interface Frozen {
	readonly connection: number;
	/** owed: answers that are still to come. */
	readonly channel: { readonly fd: number; readonly owed: number } | null;
}

export function makeState(core: SessionCore): SessionState {
	return {
		...core,
		connection: undefined,
		frozen: undefined,
		inbox: [],
		features: 0n,
		protocolFeatures: 0n,
		negotiated: false,
		status: 0n,
		paused: 0,
		memory: undefined,
		iotlb: undefined,
		log: NO_LOG,
		unlogged: false,
		inflight: undefined,
		channel: undefined,
		vrings: new Map(),
		postcopy: { fd: -1, listening: false, confirming: undefined },
		transfer: undefined,
	};
}

export function refuse(what: string): VhostctlError {
	return new VhostctlError("E_PROTOCOL", what);
}

export function vringAt(state: SessionState, index: number): Vring {
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
export async function restartAll(
	state: SessionState,
	change: () => void,
): Promise<void> {
	await everyVring(state, halt);
	change();
	await everyVring(state, settle);
}

/** Takes back what stopped the rings. */
export async function unpause(state: SessionState): Promise<void> {
	state.paused--;
	await everyVring(state, settle);
}

/** Begins what the IOMMU shows anew, for other memory or features; with the rings stopped. */
export function renewIotlb(state: SessionState): void {
	state.iotlb?.release();
	const wanted = (state.features & VIRTIO_F.ACCESS_PLATFORM) !== 0n;
	state.iotlb =
		wanted && state.memory ? createIotlb(state.memory.handle) : undefined;
}

/** What a session logs with: each line names the device and the connection. */
export function logOf({ device, session }: VringHost): Logger {
	return bind(device.log, { session: session.id });
}
