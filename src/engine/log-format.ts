// SPDX-License-Identifier: MIT
// A record as a line: for people, or for machines.
import { Buffer } from "node:buffer";
import type { LogFields, LogRecord } from "./log.ts";

export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** Bytes of a line, with its end. A pipe takes so many in one piece (PIPE_BUF). */
export const MAX_LINE = 4096;
/** Of a name in a line, UTF-16 units. */
const MAX_NAME = 256;

/** What moves a cursor, forges a line or turns the direction of what follows; half characters. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Bidi_Control}]/gu;
/** What a cut may leave of a character. */
const HALF = /[\uD800-\uDBFF]$/;
const SHORT: Readonly<Record<string, string>> = {
	"\n": "\\n",
	"\r": "\\r",
	"\t": "\\t",
};

/** What a peer or a file name put into a line must not do more than be read. */
function printable(text: string): string {
	return text.replace(
		UNPRINTABLE,
		(c) => SHORT[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}

function name(text: string): string {
	const safe = printable(text.slice(0, MAX_NAME));
	return text.length > MAX_NAME ? `${safe}…` : safe;
}

/** The line that `make` gives of a text, which is cut until the line fits. */
function fit(text: string, make: (text: string) => string): string {
	let rest = printable(text.slice(0, MAX_LINE));
	let line = make(text.length > MAX_LINE ? `${rest}…` : rest);
	for (;;) {
		const excess = Buffer.byteLength(line) + 1 - MAX_LINE;
		if (excess <= 0) return `${line}\n`;
		// A unit of text has at most 6 bytes in a line, and "…" has 3.
		rest = rest.slice(0, -Math.ceil(excess / 6) - 1).replace(HALF, "");
		line = make(`${rest}…`);
	}
}

/** Names what a line is about, the same way in all of them. */
function place({ controller, session, ring, bdev }: LogFields): string {
	let text = "";
	if (controller !== undefined) text += `controller ${name(controller)}: `;
	if (bdev !== undefined) text += `bdev ${name(bdev)}: `;
	if (session !== undefined) text += `connection ${session}: `;
	if (ring !== undefined) text += `ring ${ring}: `;
	return text;
}

/** A line for people. Without `timestamps` whoever reads it has the time. */
export function textLine(record: LogRecord, timestamps: boolean): string {
	const { time, level, fields, repeated } = record;
	const when = timestamps ? `${new Date(time).toISOString()} ` : "";
	const more = repeated ? ` (and ${repeated} more like it)` : "";
	const head = `${when}${level.padEnd(7)} ${place(fields)}`;
	return fit(record.text, (text) => `${head}${text}${more}`);
}

/** A line for machines: an object with members that keep their names. */
export function jsonLine(record: LogRecord): string {
	const { time, level, fields, repeated } = record;
	const { controller, session, ring, bdev, component, kind, code } = fields;
	return fit(record.text, (msg) =>
		JSON.stringify({
			time: new Date(time).toISOString(),
			level,
			msg,
			controller: controller === undefined ? undefined : name(controller),
			session,
			ring,
			bdev: bdev === undefined ? undefined : name(bdev),
			component,
			kind,
			code,
			repeated,
		}),
	);
}
