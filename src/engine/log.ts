// SPDX-License-Identifier: MIT
import process from "node:process";

/** From the rarest to the most talkative. */
export const LOG_LEVELS = ["error", "warning", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Takes lines for people; what each level means is the usual. */
export type Logger = Record<LogLevel, (text: string) => void>;

/** What a peer or a file name put into a line must not move the cursor or forge another line. */
function printable(text: string): string {
	return text.replace(/\p{Cc}/gu, (c) => JSON.stringify(c).slice(1, -1));
}

/**
 * Makes a logger that hands on lines of `level` and above.
 * Each is a time (UTC), the level and the text. `write` defaults to standard error.
 */
export function createLogger(
	level: LogLevel,
	write: (line: string) => void = (line) => process.stderr.write(line),
): Logger {
	const at = (own: LogLevel) => (text: string) => {
		if (LOG_LEVELS.indexOf(own) <= LOG_LEVELS.indexOf(level)) {
			const time = new Date().toISOString();
			write(`${time} ${own.padEnd(7)} ${printable(text)}\n`);
		}
	};
	return {
		error: at("error"),
		warning: at("warning"),
		info: at("info"),
		debug: at("debug"),
	};
}

/** A logger that says nothing. */
export const silent: Logger = {
	error() {},
	warning() {},
	info() {},
	debug() {},
};
