// SPDX-License-Identifier: MIT
import { decodeDocument, encodeDocument } from "./persistent-document.ts";
import { EMPTY, type PersistentState, standingOf } from "./persistent-state.ts";
import {
	isPersistent,
	isRegistrantsOnly,
	isRelease,
	isReserve,
	type Rule,
	refuses,
	refusesCommand,
	reservedRefuses,
	type Subject,
} from "./reservation-rules.ts";
import { ASC, type Asc, SENSE_KEY, SenseError } from "./sense.ts";
import type { Command, Gate, Host, Medium, Nexus } from "./task.ts";
import type { UnitAttentions } from "./unit-attention.ts";

/** Reservations of a logical unit: persistent ones (SPC-4) and those of SPC-2. */
export interface Reservations {
	/** Whether a command must end in RESERVATION CONFLICT (the tables of SPC-4, SBC-3 and SPC-2). */
	conflicts(command: Command, operation: Subject): boolean;
	/** The same for plain reads and writes, for the gates. */
	gates(nexus: Nexus): { read: Gate; write: Gate };
	/** A nexus is gone: its SPC-2 reservation goes, its registration stays. */
	nexusGone(nexus: Nexus): void;
	/** LOGICAL UNIT RESET: the SPC-2 reservation goes, persistent ones stay. */
	reset(): void;
	/**
	 * RESERVE of a nexus that `conflicts` let through. Does nothing where a
	 * persistent reservation gives it what it wants (SPC-4, exceptions to RESERVE and RELEASE).
	 */
	reserve(nexus: Nexus): void;
	/** RELEASE: does nothing if the nexus has no reservation of SPC-2. */
	release(nexus: Nexus): void;
	/** Registrations and the persistent reservation, as they are now. */
	readonly persistent: PersistentState;
	/** Who has a reservation by RESERVE, of SPC-2. */
	readonly reserver: Nexus | undefined;
	/** Whether APTPL is supported. */
	readonly persistsThroughPowerLoss: boolean;
	/** Why what the store had was ignored; undefined: it was not. */
	readonly restoreProblem: string | undefined;
	/**
	 * Takes another state, when the store has it if it has to. Throws SenseError, with
	 * nothing changed, if the store fails.
	 */
	change(next: PersistentState): void;
	/** What another process had of this logical unit. Throws as `change`. */
	restore(state: PersistentState, reserver: Nexus | undefined): void;
	/** Establishes a unit attention condition for the nexuses connected now that `who` picks. */
	attend(asc: Asc, who: (nexus: Nexus) => boolean): void;
}

export interface ReservationsOptions {
	readonly medium: Medium;
	readonly host: Host;
	readonly attentions: UnitAttentions;
	/** What an operator should know: why the store would not have a state. */
	readonly log?: ((message: string) => void) | undefined;
}

function messageOf(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}

interface Restored {
	readonly state: PersistentState;
	readonly problem: string | undefined;
}

/** What survived a restart; nothing, if the store has something that is not to be believed. */
function restore({ medium, host }: ReservationsOptions): Restored {
	try {
		const document = host.store?.load(medium.identity.uuid);
		return { state: decodeDocument(document), problem: undefined };
	} catch (error) {
		return { state: EMPTY, problem: messageOf(error) };
	}
}

/**
 * Whether a persistent reservation lets RESERVE and RELEASE succeed without effect:
 * compatible reservation handling (SPC-4, exceptions to RESERVE and RELEASE).
 */
function isCompatible(state: PersistentState, nexus: Nexus): boolean {
	if (state.type === undefined) return false;
	const standing = standingOf(state, nexus);
	return (
		standing === "holder" ||
		(standing === "registrant" && isRegistrantsOnly(state.type))
	);
}

/** Writes a state to the store when that changes what the store has. */
function createSaver(
	{ medium, host, log }: ReservationsOptions,
	restored: Restored,
) {
	let saved =
		restored.problem === undefined
			? JSON.stringify(encodeDocument(restored.state))
			: undefined;
	return (state: PersistentState): void => {
		const document = encodeDocument(state);
		const text = JSON.stringify(document);
		if (text === saved) return;
		try {
			host.store?.save(medium.identity.uuid, document);
		} catch (error) {
			log?.(`reservations could not be stored: ${messageOf(error)}`);
			throw new SenseError({
				key: SENSE_KEY.HARDWARE_ERROR,
				asc: ASC.INTERNAL_TARGET_FAILURE,
			});
		}
		saved = text;
	};
}

/**
 * Reservations of a logical unit. What survived a restart comes from host.store;
 * wrong contents are ignored, and restoreProblem tells why.
 */
export function createReservations(options: ReservationsOptions): Reservations {
	const { host, attentions } = options;
	const restored = restore(options);
	const save = createSaver(options, restored);
	let { state } = restored;
	let reserver: Nexus | undefined; // by RESERVE, of SPC-2

	const reservedByOther = (nexus: Nexus) =>
		reserver !== undefined && reserver !== nexus;

	const reserveConflicts = (nexus: Nexus, subject: Subject) =>
		state.registrations.length > 0
			? !isCompatible(state, nexus)
			: isReserve(subject) && reservedByOther(nexus);

	const setReserver = (nexus: Nexus | undefined) => {
		if (reserver === nexus) return;
		reserver = nexus;
		host.changed();
	};

	return {
		get persistent() {
			return state;
		},
		get reserver() {
			return reserver;
		},
		persistsThroughPowerLoss: host.store !== undefined,
		restoreProblem: restored.problem,
		conflicts({ nexus, cdb }, subject) {
			if (isReserve(subject) || isRelease(subject))
				return reserveConflicts(nexus, subject);
			// SPC-2 5.5.1: even of the initiator that has the reservation.
			if (reserver !== undefined && isPersistent(subject)) return true;
			if (reservedByOther(nexus)) return reservedRefuses(subject, cdb);
			if (state.type === undefined) return false;
			const standing = standingOf(state, nexus);
			return refusesCommand(state.type, standing, subject, cdb);
		},
		gates(nexus) {
			const gate = (rule: Rule): Gate => {
				if (reservedByOther(nexus)) return "conflict";
				if (state.type === undefined) return "run";
				const standing = standingOf(state, nexus);
				return refuses(state.type, standing, rule) ? "conflict" : "run";
			};
			return { read: gate("read"), write: gate("write") };
		},
		nexusGone(nexus) {
			if (reserver === nexus) setReserver(undefined);
		},
		reset() {
			setReserver(undefined);
		},
		reserve(nexus) {
			if (state.registrations.length === 0) setReserver(nexus);
		},
		release(nexus) {
			if (reserver === nexus) setReserver(undefined);
		},
		change(next) {
			save(next);
			state = next;
			host.changed();
		},
		restore(next, by) {
			save(next);
			state = next;
			reserver = by;
			host.changed();
		},
		attend(asc, who) {
			attentions.establish(asc, host.nexuses().filter(who));
		},
	};
}
