// SPDX-License-Identifier: MIT
// Ending the commands that sessions have in a logical unit, wherever they are.
import type { Command, Nexus } from "../scsi/task.ts";
import type { ScsiResponse } from "../virtio/scsi-codes.ts";
import type { ScsiLun, Seat, Task } from "./lun.ts";

export interface Abortion {
	/** Only the command with this tag. */
	readonly tag?: bigint | undefined;
	/** What they end with. */
	readonly response: ScsiResponse;
	/** Not this one. */
	readonly except?: Command | undefined;
}

function tasksOf(
	seat: Seat,
	{ tag, except }: Pick<Abortion, "tag" | "except">,
): Task[] {
	return [...seat.tasks].filter(
		({ request }) =>
			request.command !== except && (tag === undefined || request.tag === tag),
	);
}

/** How many commands a session has, with a tag or at all. */
export async function countTasks(
	{ address, rings }: ScsiLun,
	seat: Seat,
	tag: bigint | undefined,
): Promise<number> {
	// A command may go from here to C or come back meanwhile: it is to be seen once at least.
	const before = tasksOf(seat, { tag }).length;
	const counts = await Promise.all(
		rings(seat.nexus).map((ring) =>
			ring.abort({ address, tag, response: undefined }),
		),
	);
	const there = counts.reduce((sum, count) => sum + count, 0);
	return there + Math.max(before, tasksOf(seat, { tag }).length);
}

/** Ends a session's commands; resolves when they have ended, with how many that were. */
async function abortSeat(
	{ address, rings }: ScsiLun,
	seat: Seat,
	abortion: Abortion,
): Promise<number> {
	const ended = new Set<Task>();
	const abortHere = () => {
		for (const task of tasksOf(seat, abortion)) {
			task.request.abort(abortion.response);
			ended.add(task);
		}
	};
	abortHere();
	const { tag, response } = abortion;
	const counts = await Promise.all(
		rings(seat.nexus).map((ring) => ring.abort({ address, tag, response })),
	);
	// What came up before the rings heard of it has been seen by now.
	abortHere();
	await Promise.all([...ended].map((task) => task.done));
	return counts.reduce((sum, count) => sum + count, ended.size);
}

/**
 * Ends the commands of sessions; resolves when they have ended, with those of the
 * sessions that had any.
 */
export async function abortTasks(
	lun: ScsiLun,
	nexuses: readonly Nexus[],
	abortion: Abortion,
): Promise<Nexus[]> {
	const seats = lun.seats().filter(({ nexus }) => nexuses.includes(nexus));
	const counts = await Promise.all(
		seats.map((seat) => abortSeat(lun, seat, abortion)),
	);
	return seats.filter((_, i) => counts[i]).map(({ nexus }) => nexus);
}

/** The same for a command that ends others, unless it is aborted itself: two that end each other. */
export async function abortFor(
	lun: ScsiLun,
	nexuses: readonly Nexus[],
	abortion: Abortion & { readonly except: Command },
): Promise<void> {
	const { signal } = abortion.except;
	let stop: () => void = () => {};
	const stopped = new Promise<void>((resolve) => {
		stop = resolve;
		if (signal.aborted) stop();
		else signal.addEventListener("abort", stop);
	});
	try {
		await Promise.race([abortTasks(lun, nexuses, abortion), stopped]);
	} finally {
		signal.removeEventListener("abort", stop);
	}
}
