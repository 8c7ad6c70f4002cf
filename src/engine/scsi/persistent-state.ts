// SPDX-License-Identifier: MIT
// Registrations and the persistent reservation of a logical unit (SPC-4, persistent reservations), as values that
// are never changed: what a service action does is a new state.
import {
	isAllRegistrants,
	type ReservationType,
	type Standing,
} from "./reservation-rules.ts";
import type { Nexus } from "./task.ts";

/** Most registrations of a logical unit. */
export const MAX_REGISTRATIONS = 256;

/** An initiator port, known by its TransportID or, if it was here, by its name too. */
export interface Initiator {
	/** TransportID: 48 hexadecimal digits. */
	readonly transportId: string;
	/** Nexus.initiator; undefined: others spoke for it, and it was not there. */
	readonly initiator: string | undefined;
}

/** A registered I_T nexus. */
export interface Registration extends Initiator {
	/** Relative target port identifier. */
	readonly targetPort: number;
	/** Not zero. */
	readonly key: bigint;
	/** Made by ALL_TG_PT, together with those for the other ports. */
	readonly allPorts: boolean;
	/** Holds the reservation, which is not of a type for all registrants. */
	readonly holds: boolean;
}

export interface PersistentState {
	/** In the order of their making; up to MAX_REGISTRATIONS. */
	readonly registrations: readonly Registration[];
	/** The reservation; undefined: there is none. */
	readonly type: ReservationType | undefined;
	/** APTPL as it was last given: survives a restart. */
	readonly aptpl: boolean;
	/** PRGENERATION: 32 bits. */
	readonly generation: number;
}

export const EMPTY: PersistentState = {
	registrations: [],
	type: undefined,
	aptpl: false,
	generation: 0,
};

/** The initiator port of a nexus. */
export function initiatorOf(nexus: Nexus): Initiator {
	return {
		transportId: nexus.transportId.toString("hex"),
		initiator: nexus.initiator,
	};
}

/** Whether two are one initiator port. A name that is not known is no difference. */
export function sameInitiator(one: Initiator, other: Initiator): boolean {
	return (
		one.transportId === other.transportId &&
		(one.initiator === undefined ||
			other.initiator === undefined ||
			one.initiator === other.initiator)
	);
}

/** The registration of an initiator port at a target port. */
export function findRegistration(
	state: PersistentState,
	initiator: Initiator,
	targetPort: number,
): Registration | undefined {
	return state.registrations.find(
		(each) => each.targetPort === targetPort && sameInitiator(each, initiator),
	);
}

/** The registration of a nexus. */
export function registrationOf(
	state: PersistentState,
	nexus: Nexus,
): Registration | undefined {
	return findRegistration(state, initiatorOf(nexus), nexus.targetPort);
}

/** Whether a registration is (one of) the persistent reservation holder(s). */
export function isHolder(
	state: PersistentState,
	registration: Registration,
): boolean {
	if (state.type === undefined) return false;
	return isAllRegistrants(state.type) || registration.holds;
}

export function standingOf(state: PersistentState, nexus: Nexus): Standing {
	const registration = registrationOf(state, nexus);
	if (!registration) return "stranger";
	return isHolder(state, registration) ? "holder" : "registrant";
}

/** The state with other registrations; the reservation ends if its last holder is not among them. */
export function withRegistrations(
	state: PersistentState,
	registrations: readonly Registration[],
): PersistentState {
	const next = { ...state, registrations };
	const held = registrations.some((each) => isHolder(next, each));
	return held ? next : { ...next, type: undefined };
}

/** The state with a reservation of one registration, or of all for such types. */
export function withHolder(
	state: PersistentState,
	holder: Registration,
	type: ReservationType,
): PersistentState {
	const registrations = state.registrations.map((each) => ({
		...each,
		holds: each === holder && !isAllRegistrants(type),
	}));
	return { ...state, registrations, type };
}

/** The state without a reservation. */
export function released(state: PersistentState): PersistentState {
	const registrations = state.registrations.map((each) => ({
		...each,
		holds: false,
	}));
	return { ...state, registrations, type: undefined };
}
