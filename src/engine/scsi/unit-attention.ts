// SPDX-License-Identifier: MIT
import { ASC, type Asc, SENSE_KEY, type Sense } from "./sense.ts";
import type { Nexus } from "./task.ts";

/** Unit attention conditions of a logical unit, by nexus, in order of precedence (SAM-5 5.14). */
export interface UnitAttentions {
	/** Establishes a condition for nexuses; one that is pending already is not doubled. */
	establish(asc: Asc, nexuses: readonly Nexus[]): void;
	/** All that are pending, in the order of reporting. */
	list(nexus: Nexus): readonly Asc[];
	/** The next one to report, without clearing it. */
	pending(nexus: Nexus): Sense | undefined;
	/** Reports the next one and clears it. */
	take(nexus: Nexus): Sense | undefined;
	/** Clears one, as REPORT LUNS does with REPORTED LUNS DATA HAS CHANGED. */
	clear(asc: Asc, nexus: Nexus): void;
	/** Forgets a nexus. */
	forget(nexus: Nexus): void;
}

/** The conditions that have a precedence, highest first; each says all that those after it say. */
const RESETS: readonly Asc[] = [
	ASC.POWER_ON,
	ASC.POWER_ON_OR_RESET,
	ASC.BUS_DEVICE_RESET_FUNCTION,
	ASC.NEXUS_LOSS,
];

/** Place in the order of reporting; conditions with the same one keep the order they came in. */
function rank(asc: Asc): number {
	const place = RESETS.indexOf(asc);
	return place < 0 ? RESETS.length : place;
}

/** A queue with a condition more, which stays the same if that one says nothing new. */
function inserted(queue: readonly Asc[], asc: Asc): readonly Asc[] {
	const own = rank(asc);
	const isReset = own < RESETS.length;
	const first = queue[0];
	if (queue.includes(asc)) return queue;
	if (isReset && first !== undefined && rank(first) < own) return queue;
	// A reset makes lesser resets redundant, but not what has changed meanwhile.
	const kept = isReset
		? queue.filter((other) => rank(other) === RESETS.length)
		: queue;
	return [...kept, asc].sort((a, b) => rank(a) - rank(b));
}

function senseOf(asc: Asc | undefined): Sense | undefined {
	return asc === undefined ? undefined : { key: SENSE_KEY.UNIT_ATTENTION, asc };
}

/** Unit attentions of a logical unit; calls `changed` after each change. */
export function createUnitAttentions(changed: () => void): UnitAttentions {
	const queues = new Map<Nexus, readonly Asc[]>();

	function replace(nexus: Nexus, queue: readonly Asc[]): void {
		if (queue.length === 0) queues.delete(nexus);
		else queues.set(nexus, queue);
		changed();
	}
	const queueOf = (nexus: Nexus): readonly Asc[] => queues.get(nexus) ?? [];

	return {
		establish(asc, nexuses) {
			for (const nexus of nexuses) {
				const queue = queueOf(nexus);
				const next = inserted(queue, asc);
				if (next !== queue) replace(nexus, next);
			}
		},
		list: queueOf,
		pending: (nexus) => senseOf(queueOf(nexus)[0]),
		take(nexus) {
			const [first, ...rest] = queueOf(nexus);
			if (first !== undefined) replace(nexus, rest);
			return senseOf(first);
		},
		clear(asc, nexus) {
			const queue = queueOf(nexus);
			if (!queue.includes(asc)) return;
			replace(
				nexus,
				queue.filter((other) => other !== asc),
			);
		},
		forget(nexus) {
			if (queues.has(nexus)) replace(nexus, []);
		},
	};
}
