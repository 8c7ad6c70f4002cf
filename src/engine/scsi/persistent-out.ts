// SPDX-License-Identifier: MIT
// PERSISTENT RESERVE OUT (SPC-4 6.16).
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import {
	type ActionResult,
	clear,
	preempt,
	register,
	registerAndIgnore,
	registerAndMove,
	release,
	reserve,
	type Sender,
} from "./persistent-actions.ts";
import {
	type BasicList,
	readBasicList,
	readMoveList,
} from "./persistent-list.ts";
import {
	initiatorOf,
	type PersistentState,
	type Registration,
	registrationOf,
	sameInitiator,
} from "./persistent-state.ts";
import { OPCODE, PR_OUT } from "./reservation-rules.ts";
import { STATUS } from "./sense.ts";
import { type Command, GOOD, type Nexus, type Outcome } from "./task.ts";

/** The fields of the CDB. */
interface Fields {
	readonly scope: number;
	readonly type: number;
	/** PARAMETER LIST LENGTH, bytes. */
	readonly length: number;
}

/** Finds out what the service action is to do. */
type Decide = (
	state: PersistentState,
	sender: Sender,
	lu: LogicalUnit,
	command: Command,
	length: number,
) => ActionResult;

function senderOf(lu: LogicalUnit, { nexus }: Command, fields: Fields): Sender {
	return {
		...initiatorOf(nexus),
		targetPort: nexus.targetPort,
		own: registrationOf(lu.reservations.persistent, nexus),
		scope: fields.scope,
		type: fields.type,
		ports: lu.host.targetPorts(),
		nameOf: (transportId) =>
			lu.host
				.nexuses()
				.map(initiatorOf)
				.find((each) => each.transportId === transportId)?.initiator,
	};
}

/** Whether a nexus is one of those registered, or that were. */
function isAmong(nexus: Nexus, registrations: readonly Registration[]) {
	const initiator = initiatorOf(nexus);
	return registrations.some(
		(each) =>
			each.targetPort === nexus.targetPort && sameInitiator(each, initiator),
	);
}

function isSender(nexus: Nexus, { nexus: sender }: Command): boolean {
	return (
		nexus.targetPort === sender.targetPort &&
		sameInitiator(initiatorOf(nexus), initiatorOf(sender))
	);
}

/** Ends the tasks of preempted nexuses, and their wish that the medium stays (SPC-4, preempt and abort). */
async function abortPreempted(
	lu: LogicalUnit,
	command: Command,
	preempted: readonly Registration[],
): Promise<void> {
	const nexuses = lu.host
		.nexuses()
		.filter((nexus) => isAmong(nexus, preempted));
	for (const nexus of nexuses) lu.preventers.delete(nexus);
	await lu.host.abort(nexuses, command);
}

async function perform(
	lu: LogicalUnit,
	command: Command,
	result: ActionResult,
	aborts: boolean,
): Promise<Outcome> {
	if (result === "conflict")
		return { kind: "status", status: STATUS.RESERVATION_CONFLICT };
	if (result === "unchanged") return GOOD;
	lu.reservations.change(result.state);
	for (const { asc, registrations } of result.notices)
		lu.reservations.attend(
			asc,
			(nexus) => isAmong(nexus, registrations) && !isSender(nexus, command),
		);
	if (aborts) await abortPreempted(lu, command, result.preempted);
	return GOOD;
}

function outOperation(
	serviceAction: number,
	name: string,
	decide: Decide,
): Operation {
	const aborts = serviceAction === PR_OUT.PREEMPT_AND_ABORT;
	return operation<Fields>({
		opcode: OPCODE.PERSISTENT_RESERVE_OUT,
		serviceAction,
		name: `PERSISTENT RESERVE OUT: ${name}`,
		reference: "SPC-4 6.16",
		usage: [
			...[OPCODE.PERSISTENT_RESERVE_OUT, serviceAction, 0xff, 0, 0],
			...[0xff, 0xff, 0xff, 0xff, 0],
		],
		access: "none",
		reservation: "allowed",
		timeout: aborts ? 60 : 10,
		parse: (cdb) => ({
			scope: cdb.readUInt8(2) >> 4,
			type: cdb.readUInt8(2) & 0x0f,
			length: cdb.readUInt32BE(5),
		}),
		execute(lu, command, fields) {
			const sender = senderOf(lu, command, fields);
			const state = lu.reservations.persistent;
			const result = decide(state, sender, lu, command, fields.length);
			return perform(lu, command, result, aborts);
		},
	});
}

function basic(
	serviceAction: number,
	name: string,
	act: (
		state: PersistentState,
		sender: Sender,
		list: BasicList,
	) => ActionResult,
): Operation {
	return outOperation(
		serviceAction,
		name,
		(state, sender, lu, command, length) => {
			const capable = lu.reservations.persistsThroughPowerLoss;
			const list = readBasicList(command, serviceAction, length, capable);
			return act(state, sender, list);
		},
	);
}

export const persistentOutOperations: readonly Operation[] = [
	basic(PR_OUT.REGISTER, "REGISTER", register),
	basic(PR_OUT.RESERVE, "RESERVE", reserve),
	basic(PR_OUT.RELEASE, "RELEASE", release),
	basic(PR_OUT.CLEAR, "CLEAR", clear),
	basic(PR_OUT.PREEMPT, "PREEMPT", preempt),
	basic(PR_OUT.PREEMPT_AND_ABORT, "PREEMPT AND ABORT", preempt),
	basic(
		PR_OUT.REGISTER_AND_IGNORE_EXISTING_KEY,
		"REGISTER AND IGNORE EXISTING KEY",
		registerAndIgnore,
	),
	outOperation(
		PR_OUT.REGISTER_AND_MOVE,
		"REGISTER AND MOVE",
		(state, sender, lu, command, length) => {
			const capable = lu.reservations.persistsThroughPowerLoss;
			return registerAndMove(
				state,
				sender,
				readMoveList(command, length, capable),
			);
		},
	),
];
