// SPDX-License-Identifier: MIT
// What becomes of a command that came up for a logical unit: when it is executed, and how it ends.
import { errnoName } from "../../ffi/native.ts";
import { messageOf } from "../errors.ts";
import { ASC, SENSE_KEY, STATUS } from "../scsi/sense.ts";
import type { Outcome, Transfer } from "../scsi/task.ts";
import { TASK_ATTRIBUTE } from "../virtio/scsi-codes.ts";
import { AbortedError, runFor, unlessAborted } from "./hold.ts";
import type { ScsiLun, Seat, Task } from "./lun.ts";
import { mediumErrno } from "./medium.ts";
import type { ScsiRequest } from "./request.ts";

/** Answers a command whose logical unit went while it waited. */
export type Absent = (request: ScsiRequest) => void;

/** There is never an auto contingent allegiance that a command could belong to (SAM-5 8.6). */
const BAD_ATTRIBUTE: Outcome = {
	kind: "check",
	sense: { key: SENSE_KEY.ILLEGAL_REQUEST, asc: ASC.INVALID_MESSAGE_ERROR },
};

/** Nothing is wrong with the command: the initiator is to try again. */
const BUSY = { kind: "status", status: STATUS.BUSY } as const;

/**
 * Executes a command and answers it, or gives it to C to be executed. An ORDERED
 * one waits for all that its session sent before, those after it wait for it,
 * and while it is executed nothing else is, whoever sent it. Never rejects.
 */
export function perform(
	lun: ScsiLun,
	request: ScsiRequest,
	absent: Absent,
): Promise<void> {
	const seat = lun.seat(request.command.nexus);
	// One that was executed and failed had its turn.
	const ordered =
		request.attribute === TASK_ATTRIBUTE.ORDERED && request.errno === 0;
	const before =
		request.errno === 0
			? [...seat.tasks].filter((task) => ordered || task.ordered)
			: [];
	const lane = request.held ? seat.lanes.get(request.ring) : undefined;
	const held = lane?.held();
	const work = async (): Promise<void> => {
		try {
			const turn = [held, ...before.map((task) => task.done)];
			await unlessAborted(Promise.all(turn));
			if (ordered) await executeAlone(lun, seat, request, absent);
			else await execute(lun, seat, request, absent);
		} finally {
			if (held) lane?.release();
		}
	};
	const done = runFor(request.command.signal, work).catch((error: unknown) => {
		if (!(error instanceof AbortedError)) lun.report(messageOf(error));
		if (!request.answered) finish(lun, request, BUSY);
	});
	const task: Task = { request, ordered, done };
	seat.tasks.add(task);
	return done.finally(() => seat.tasks.delete(task));
}

/** Executes an ORDERED command. */
async function executeAlone(
	lun: ScsiLun,
	seat: Seat,
	request: ScsiRequest,
	absent: Absent,
): Promise<void> {
	while (lun.hold.closed) await lun.hold.opened();
	if (!lun.gone) lun.attach(seat, request.ring);
	await lun.hold.exclusive(async () => {
		// A pause in between may have detached it.
		const lane = lun.gone ? undefined : lun.attach(seat, request.ring);
		await execute(lun, seat, request, absent);
		// It may be with C: then its lane is idle when it has ended.
		await lane?.hold();
		lane?.release();
	});
}

async function execute(
	lun: ScsiLun,
	seat: Seat,
	request: ScsiRequest,
	absent: Absent,
): Promise<void> {
	if (lun.gone) return absent(request);
	// From now on what C can execute need not come up.
	if (!lun.hold.closed) lun.attach(seat, request.ring);
	const outcome = await outcomeOf(lun, request);
	if (outcome.kind === "transfer")
		await transfer(lun, seat, request, absent, outcome.transfer);
	else finish(lun, request, outcome);
}

async function outcomeOf(
	{ unit }: ScsiLun,
	{ aborted, errno, attribute, command }: ScsiRequest,
): Promise<Outcome> {
	if (aborted !== undefined) return BUSY; // which nobody gets to see
	if (errno !== 0)
		return unit.outcomeOfFailure(command, mediumErrno(errnoName(errno)));
	if (attribute > TASK_ATTRIBUTE.HEAD) return BAD_ATTRIBUTE;
	return unit.execute(command);
}

/** Has C move the data, when the hold lets it. */
async function transfer(
	lun: ScsiLun,
	seat: Seat,
	request: ScsiRequest,
	absent: Absent,
	range: Transfer,
): Promise<void> {
	while (lun.hold.closed) await lun.hold.opened();
	// Nothing is awaited from here on: the hold is to see this, or this the hold.
	if (lun.gone) return absent(request);
	lun.attach(seat, request.ring);
	request.execute(range, lun.unit.medium.blockSize);
}

function finish(
	{ unit }: ScsiLun,
	request: ScsiRequest,
	outcome: Exclude<Outcome, { kind: "transfer" }>,
): void {
	request.complete(outcome, unit.descriptorSense);
}
