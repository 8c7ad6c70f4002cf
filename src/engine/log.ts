// SPDX-License-Identifier: MIT
// What the engine's parts log with; log-output.ts and its neighbours make lines of it.

/** From the rarest to the most talkative. */
export const LOG_LEVELS = [
	"error",
	"warning",
	"notice",
	"info",
	"debug",
] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Parts of the engine whose debug lines can be had, or not, on their own. */
export const LOG_COMPONENTS = [
	"rpc",
	"takeover",
	"vhost",
	"vhost_ring",
] as const;
export type LogComponent = (typeof LOG_COMPONENTS)[number];

/** What a line is about. In JSON lines these are members of the same name. */
export interface LogFields {
	/** A controller, or a device of a program's own. */
	readonly controller?: string | undefined;
	/** A connection's number. */
	readonly session?: number | undefined;
	readonly ring?: number | undefined;
	readonly bdev?: string | undefined;
	readonly component?: LogComponent | undefined;
	/**
	 * What kind of thing happened. Lines of one kind about one controller are held back and
	 * counted when they come in numbers. Of a closed set: never made of what a peer sent.
	 */
	readonly kind?: string | undefined;
	/** An ErrorCode. */
	readonly code?: string | undefined;
}

/** Takes lines. What they are about is in the fields, and not in the text again. */
export type Logger = Readonly<
	Record<LogLevel, (text: string, fields?: LogFields) => void>
>;

/** A line, before it is one. */
export interface LogRecord {
	/** Milliseconds since the epoch. */
	readonly time: number;
	readonly level: LogLevel;
	readonly text: string;
	readonly fields: LogFields;
	/** How many more of its kind this line stands for. */
	readonly repeated?: number;
}

/** Makes a logger of what takes records, but for their time. */
export function makeLogger(
	take: (level: LogLevel, text: string, fields: LogFields) => void,
): Logger {
	const at =
		(level: LogLevel) =>
		(text: string, fields: LogFields = {}) =>
			take(level, text, fields);
	return {
		error: at("error"),
		warning: at("warning"),
		notice: at("notice"),
		info: at("info"),
		debug: at("debug"),
	};
}

/** A logger whose lines are about `about`, and whatever they say themselves. */
export function bind(log: Logger, about: LogFields): Logger {
	return makeLogger((level, text, fields) =>
		log[level](text, { ...about, ...fields }),
	);
}

/** A logger that says nothing. */
export const silent: Logger = makeLogger(() => {});
