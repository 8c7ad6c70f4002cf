// SPDX-License-Identifier: MIT
// What the service actions of PERSISTENT RESERVE OUT do to registrations and the reservation
// (SPC-4, persistent reservations): from one state to the next, with nothing done yet.
import type { BasicList, MoveList } from "./persistent-list.ts";
import {
	findRegistration,
	type Initiator,
	isHolder,
	MAX_REGISTRATIONS,
	type PersistentState,
	type Registration,
	released,
	sameInitiator,
	withHolder,
	withRegistrations,
} from "./persistent-state.ts";
import {
	isAllRegistrants,
	isRegistrantsOnly,
	type ReservationType,
	reservationType,
} from "./reservation-rules.ts";
import {
	ASC,
	type Asc,
	illegalRequest,
	invalidCdbField,
	invalidParameter,
} from "./sense.ts";

/** Who sends a service action, and what its CDB says. */
export interface Sender extends Initiator {
	readonly targetPort: number;
	/** Its registration. */
	readonly own: Registration | undefined;
	readonly scope: number;
	readonly type: number;
	/** Relative identifiers of all target ports. */
	readonly ports: readonly number[];
	/** The name of an initiator port that is here now. */
	nameOf(transportId: string): string | undefined;
}

export interface Change {
	readonly state: PersistentState;
	/** Unit attentions for registered nexuses other than the sender. */
	readonly notices: readonly {
		readonly asc: Asc;
		readonly registrations: readonly Registration[];
	}[];
	/** Whose tasks PREEMPT AND ABORT aborts. */
	readonly preempted: readonly Registration[];
}

/** "unchanged" ends in GOOD, and does not count for PRGENERATION. */
export type ActionResult = Change | "unchanged" | "conflict";

/** Increments PRGENERATION (SPC-4 6.16.2 has which service actions do). */
function counted(state: PersistentState): PersistentState {
	return { ...state, generation: (state.generation + 1) >>> 0 };
}

function quiet(state: PersistentState): Change {
	return { state, notices: [], preempted: [] };
}

/** Whether the sender is registered with the key it gives. */
function knows(
	own: Registration | undefined,
	{ key }: { readonly key: bigint },
): own is Registration {
	return own !== undefined && own.key === key;
}

/** The type that the CDB asks for. */
function askedType({ scope, type }: Sender): ReservationType {
	if (scope !== 0) throw invalidCdbField(2, 7);
	const asked = reservationType(type);
	if (asked === undefined) throw invalidCdbField(2, 3);
	return asked;
}

/** The list with a key for an initiator port at a target port, which may be registered. */
function withKey(
	registrations: readonly Registration[],
	added: Registration,
): readonly Registration[] {
	const index = registrations.findIndex(
		(each) =>
			each.targetPort === added.targetPort && sameInitiator(each, added),
	);
	if (index < 0) return [...registrations, added];
	return registrations.map((each, at) =>
		at === index
			? {
					...each,
					key: added.key,
					initiator: each.initiator ?? added.initiator,
					allPorts: each.allPorts || added.allPorts,
				}
			: each,
	);
}

function checkRoom(registrations: readonly Registration[]): void {
	if (registrations.length > MAX_REGISTRATIONS)
		throw illegalRequest(ASC.INSUFFICIENT_REGISTRATION_RESOURCES);
}

/** Ports that a registration is for. */
function portsOf(sender: Sender, list: BasicList): readonly number[] {
	return list.allPorts ? sender.ports : [sender.targetPort];
}

/** Initiator ports that SPEC_I_PT names; none of them may be registered yet. */
function specifiedInitiators(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): Initiator[] {
	return (list.specified ?? []).map(({ transportId, offset }) => {
		const initiator = { transportId, initiator: sender.nameOf(transportId) };
		for (const port of portsOf(sender, list))
			if (findRegistration(state, initiator, port))
				throw invalidParameter(offset);
		return initiator;
	});
}

function addKeys(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): Change {
	const { serviceActionKey: key, allPorts, aptpl } = list;
	const initiators = [sender, ...specifiedInitiators(state, sender, list)];
	let { registrations } = state;
	for (const { transportId, initiator } of initiators)
		for (const targetPort of portsOf(sender, list))
			registrations = withKey(registrations, {
				...{ transportId, initiator, targetPort },
				...{ key, allPorts, holds: false },
			});
	checkRoom(registrations);
	return quiet(counted({ ...state, registrations, aptpl }));
}

function unregister(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): Change {
	const ports = portsOf(sender, list);
	const kept = state.registrations.filter(
		(each) => !(ports.includes(each.targetPort) && sameInitiator(each, sender)),
	);
	const next = withRegistrations(state, kept);
	const ended = state.type !== undefined && next.type === undefined;
	const told = ended && state.type && isRegistrantsOnly(state.type);
	return {
		state: counted({ ...next, aptpl: list.aptpl }),
		notices: told
			? [{ asc: ASC.RESERVATIONS_RELEASED, registrations: kept }]
			: [],
		preempted: [],
	};
}

/** REGISTER AND IGNORE EXISTING KEY (SPC-4, registering). */
export function registerAndIgnore(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): ActionResult {
	if (list.serviceActionKey !== 0n) return addKeys(state, sender, list);
	return sender.own ? unregister(state, sender, list) : "unchanged";
}

/** REGISTER (SPC-4, registering). */
export function register(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): ActionResult {
	if (list.key !== (sender.own?.key ?? 0n)) return "conflict";
	// Only a nexus that is not registered yet may speak for others.
	if (sender.own && list.specified) throw invalidParameter(20, 3);
	return registerAndIgnore(state, sender, list);
}

/** RESERVE (SPC-4, reserving). */
export function reserve(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): ActionResult {
	const { own } = sender;
	if (!knows(own, list)) return "conflict";
	const type = askedType(sender);
	if (state.type === undefined) return quiet(withHolder(state, own, type));
	return isHolder(state, own) && state.type === type ? "unchanged" : "conflict";
}

/** RELEASE (SPC-4, releasing). */
export function release(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): ActionResult {
	const { own, scope, type } = sender;
	if (!knows(own, list)) return "conflict";
	if (state.type === undefined || !isHolder(state, own)) return "unchanged";
	if (scope !== 0 || type !== state.type)
		throw illegalRequest(ASC.INVALID_RELEASE_OF_RESERVATION);
	const told = isRegistrantsOnly(state.type) || isAllRegistrants(state.type);
	return {
		state: released(state),
		notices: told
			? [
					{
						asc: ASC.RESERVATIONS_RELEASED,
						registrations: state.registrations,
					},
				]
			: [],
		preempted: [],
	};
}

/** CLEAR (SPC-4, clearing). */
export function clear(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): ActionResult {
	if (!knows(sender.own, list)) return "conflict";
	const { registrations } = state;
	return {
		state: counted(withRegistrations(state, [])),
		notices: [{ asc: ASC.RESERVATIONS_PREEMPTED, registrations }],
		preempted: [],
	};
}

/** Takes the reservation, and the registrations of those named. */
function preemptReservation(
	state: PersistentState,
	sender: Sender,
	own: Registration,
	named: readonly Registration[],
): Change {
	const type = askedType(sender);
	const lost = named.filter((each) => each !== own);
	const kept = state.registrations.filter((each) => !lost.includes(each));
	const preempted = { asc: ASC.REGISTRATIONS_PREEMPTED, registrations: lost };
	const changed = { asc: ASC.RESERVATIONS_RELEASED, registrations: kept };
	return {
		state: counted(withHolder({ ...state, registrations: kept }, own, type)),
		notices: type === state.type ? [preempted] : [preempted, changed],
		preempted: named,
	};
}

/** Removes registrations, of the sender too if it names its own key; scope and type say nothing. */
function removeRegistrations(
	state: PersistentState,
	named: readonly Registration[],
): Change {
	const kept = state.registrations.filter((each) => !named.includes(each));
	return {
		state: counted(withRegistrations(state, kept)),
		notices: [{ asc: ASC.REGISTRATIONS_PREEMPTED, registrations: named }],
		preempted: named,
	};
}

/** PREEMPT and PREEMPT AND ABORT (SPC-4, preempting). */
export function preempt(
	state: PersistentState,
	sender: Sender,
	list: BasicList,
): ActionResult {
	const { own } = sender;
	if (!knows(own, list)) return "conflict";
	const { registrations, type } = state;
	const victim = list.serviceActionKey;
	if (victim === 0n) {
		// Zero stands for everybody else, where everybody holds the reservation.
		if (type === undefined || !isAllRegistrants(type))
			throw invalidParameter(8);
		const others = registrations.filter((each) => each !== own);
		return preemptReservation(state, sender, own, others);
	}
	const named = registrations.filter((each) => each.key === victim);
	if (named.length === 0) return "conflict";
	return named.some((each) => each.holds)
		? preemptReservation(state, sender, own, named)
		: removeRegistrations(state, named);
}

/** REGISTER AND MOVE (SPC-4, registering and moving). */
export function registerAndMove(
	state: PersistentState,
	sender: Sender,
	list: MoveList,
): ActionResult {
	const { own } = sender;
	if (!knows(own, list)) return "conflict";
	if (state.type === undefined) throw invalidCdbField(1, 4);
	if (!own.holds) return "conflict"; // not the holder, or one of all registrants
	const destination = destinationOf(sender, list);
	const registrations = withKey(state.registrations, destination);
	checkRoom(registrations);
	const added = { ...state, registrations };
	const holder = findRegistration(added, destination, destination.targetPort);
	if (!holder) throw invalidParameter(24);
	const moved = withHolder(added, holder, state.type);
	const kept = list.unregister
		? moved.registrations.filter((each) => !isOf(each, sender))
		: moved.registrations;
	return quiet(
		counted({ ...withRegistrations(moved, kept), aptpl: list.aptpl }),
	);
}

/** Whether a registration is that of the sender. */
function isOf(registration: Registration, sender: Sender): boolean {
	return (
		registration.targetPort === sender.targetPort &&
		sameInitiator(registration, sender)
	);
}

/** The registration that the reservation is to move to. */
function destinationOf(sender: Sender, list: MoveList): Registration {
	const { transportId, offset } = list.destination;
	if (list.serviceActionKey === 0n) throw invalidParameter(8);
	if (!sender.ports.includes(list.targetPort)) throw invalidParameter(18);
	const destination = {
		...{ transportId, initiator: sender.nameOf(transportId) },
		...{ targetPort: list.targetPort, key: list.serviceActionKey },
		...{ allPorts: false, holds: false },
	};
	if (isOf(destination, sender)) throw invalidParameter(offset);
	return destination;
}
