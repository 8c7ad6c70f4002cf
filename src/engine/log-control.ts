// SPDX-License-Identifier: MIT
// A logger that writes lines, and whose levels change while it runs.
import { VhostctlError } from "./errors.ts";
import {
	LOG_COMPONENTS,
	LOG_LEVELS,
	type LogComponent,
	type Logger,
	type LogLevel,
	type LogRecord,
	makeLogger,
} from "./log.ts";
import { jsonLine, type LogFormat, textLine } from "./log-format.ts";
import { type Clock, createLimiter, systemClock } from "./log-limit.ts";
import { createOutput, STDERR, writerOf } from "./log-output.ts";

/** What can be changed of a logger. */
export interface LogSettings {
	/** Lines of this level and of rarer ones are written. */
	level: LogLevel;
	/** Whose debug lines are written, at level debug. */
	readonly components: Set<LogComponent>;
	/** Whether lines for people begin with the time. Those for machines always have it. */
	timestamps: boolean;
}

/** A logger that createLogger made. */
export interface LineLogger extends Logger {
	readonly settings: LogSettings;
	/** Writes what is held back: at the end. */
	flush(): void;
}

export interface LoggerOptions {
	/** Default: info. */
	readonly level?: LogLevel | undefined;
	/** Lines for people, or JSON lines. Default: text. */
	readonly format?: LogFormat | undefined;
	/** Takes a line with its end. Default: it goes to standard error, which nothing waits for. */
	readonly write?: ((line: string) => void) | undefined;
	readonly clock?: Clock | undefined;
}

/**
 * Makes a logger of lines, one for a record, of at most 4096 bytes, in which whatever came from
 * outside is printable. Those of one kind are held back when they come in numbers.
 */
export function createLogger(options: LoggerOptions = {}): LineLogger {
	const { level = "info", format = "text", clock = systemClock } = options;
	const settings: LogSettings = {
		level,
		components: new Set(LOG_COMPONENTS),
		timestamps: true,
	};
	const render = (record: LogRecord): string =>
		format === "json"
			? jsonLine(record)
			: textLine(record, settings.timestamps);
	const lossNote = (lost: number): string =>
		render({
			time: clock.now(),
			level: "warning",
			text: `${lost} lines were lost: standard error did not take them`,
			fields: { kind: "lines-lost" },
		});
	const write = options.write ?? createOutput(writerOf(STDERR), lossNote);
	const limiter = createLimiter((record) => write(render(record)), clock);
	const logger = makeLogger((level, text, fields) => {
		const { component } = fields;
		if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(settings.level)) return;
		if (level === "debug" && component && !settings.components.has(component))
			return;
		limiter.take({ time: clock.now(), level, text, fields });
	});
	return { ...logger, settings, flush: limiter.flush };
}

function isLineLogger(log: Logger): log is LineLogger {
	return "settings" in log;
}

/** The settings of a logger; undefined: it is a program's own, of which we know none. */
export function lineSettings(log: Logger): LogSettings | undefined {
	return isLineLogger(log) ? log.settings : undefined;
}

/** The settings of a logger. Throws E_UNSUPPORTED: a program's own, of which we know none. */
export function settingsOf(log: Logger): LogSettings {
	if (isLineLogger(log)) return log.settings;
	throw new VhostctlError(
		"E_UNSUPPORTED",
		"the program that runs this engine has a logger of its own",
	);
}

/** Has a logger say what it holds back, if it is one that does. */
export function flushLog(log: Logger): void {
	if (isLineLogger(log)) log.flush();
}
