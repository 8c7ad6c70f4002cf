// SPDX-License-Identifier: MIT
// Repeated lines are held back and counted.
import { clearTimeout, setTimeout } from "node:timers";
import type { LogLevel, LogRecord } from "./log.ts";

/** How long lines of a kind are held back; doubled while more come, up to the last; ms. */
export const FIRST_HOLD_MS = 5000;
export const LAST_HOLD_MS = 60_000;
/** What went wrong is said once; what merely happens may happen a few times. */
const AT_ONCE: Readonly<Record<LogLevel, number>> = {
	error: 1,
	warning: 1,
	notice: 10,
	info: 10,
	debug: 100,
};
/** Kinds that are followed at once. Beyond that, new ones are taken for one. */
const MAX_KINDS = 1024;

/** Time, as a limiter sees it. */
export interface Clock {
	/** Milliseconds since the epoch. */
	now(): number;
	/** Calls `then` in `ms`, without keeping the process alive. Returns what prevents it. */
	later(ms: number, then: () => void): () => void;
}

export const systemClock: Clock = {
	now: () => Date.now(),
	later(ms, then) {
		const timer = setTimeout(then, ms);
		timer.unref();
		return () => clearTimeout(timer);
	},
};

export interface Limiter {
	/** Passes a record on, now, later, or in the count of another one. */
	take(record: LogRecord): void;
	/** Passes on what is held back. */
	flush(): void;
}

interface Kind {
	/** How many may yet pass. */
	left: number;
	held: number;
	last: LogRecord | undefined;
	wait: number;
	cancel: () => void;
}

function keyOf({ level, fields }: LogRecord): string {
	const { controller, bdev, kind } = fields;
	return JSON.stringify([level, kind, controller, bdev]);
}

/**
 * Makes a limiter in front of `pass`. The first record of a kind passes at once. Then the kind
 * is held back for a while, at the end of which the last of those held passes, with how many
 * others there were. Nothing is lost but by its text.
 */
export function createLimiter(
	pass: (record: LogRecord) => void,
	clock: Clock,
): Limiter {
	const kinds = new Map<string, Kind>();

	const tell = (kind: Kind): void => {
		const { last, held } = kind;
		kind.last = undefined;
		kind.held = 0;
		if (last) pass(held > 1 ? { ...last, repeated: held - 1 } : last);
	};
	const expire = (key: string, kind: Kind): void => {
		if (kind.held === 0) {
			kinds.delete(key);
			return;
		}
		tell(kind);
		kind.wait = Math.min(2 * kind.wait, LAST_HOLD_MS);
		kind.cancel = clock.later(kind.wait, () => expire(key, kind));
	};
	const open = (key: string, level: LogLevel): Kind => {
		const kind: Kind = {
			left: AT_ONCE[level],
			held: 0,
			last: undefined,
			wait: FIRST_HOLD_MS,
			cancel: clock.later(FIRST_HOLD_MS, () => expire(key, kind)),
		};
		kinds.set(key, kind);
		return kind;
	};
	const find = (record: LogRecord): Kind => {
		const own = keyOf(record);
		const found = kinds.get(own);
		if (found) return found;
		const key = kinds.size < MAX_KINDS ? own : "";
		return kinds.get(key) ?? open(key, record.level);
	};
	return {
		take(record) {
			if (record.fields.kind === undefined) {
				pass(record);
				return;
			}
			const kind = find(record);
			if (kind.left > 0) {
				kind.left--;
				pass(record);
			} else {
				kind.held++;
				kind.last = record;
			}
		},
		flush() {
			for (const kind of kinds.values()) {
				kind.cancel();
				tell(kind);
			}
			kinds.clear();
		},
	};
}
