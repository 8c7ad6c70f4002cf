// SPDX-License-Identifier: MIT
/** Sizes and times as people write them. */
import { UsageError } from "./errors.ts";

const POWERS = ["", "K", "M", "G", "T"];

/**
 * Bytes in `text`: a whole number, with K, M, G or T (or KiB, MiB, GiB, TiB, in either case) for powers of 1024.
 * KB and the like are refused: half the world reads them as 1000. `name` is whose value it is.
 */
export function parseSize(text: string, name: string): number {
	const [, digits, letter = ""] =
		/^(\d{1,16})(?:([KMGT])(?:iB)?)?$/i.exec(text) ?? [];
	const bytes = Number(digits) * 1024 ** POWERS.indexOf(letter.toUpperCase());
	if (digits === undefined || !Number.isSafeInteger(bytes))
		throw new UsageError(
			`${name} is ${quoted(text)}: want bytes, as 4096, 4K, 512M, 10G or 1T (powers of 1024)`,
		);
	return bytes;
}

/** `4 KiB`, `1.5 GiB`: the largest unit that leaves at least 1, with at most one decimal. */
export function formatSize(bytes: number): string {
	let power = 0;
	let value = bytes;
	while (value >= 1024 && power < POWERS.length - 1) {
		value /= 1024;
		power++;
	}
	const unit = power === 0 ? "B" : `${POWERS[power]}iB`;
	return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
}

/** Seconds in `text`: `10`, `10s`, `500ms`, `2m`. */
export function parseSeconds(text: string, name: string): number {
	const [, digits, unit = "s"] = /^(\d{1,9})(ms|s|m)?$/.exec(text) ?? [];
	const seconds =
		Number(digits) * (unit === "ms" ? 0.001 : unit === "m" ? 60 : 1);
	if (digits === undefined || seconds === 0)
		throw new UsageError(
			`${name} is ${quoted(text)}: want a time, as 10, 10s, 500ms or 2m`,
		);
	return seconds;
}

/** A whole number from `min` to `max`. */
export function parseCount(
	text: string,
	name: string,
	min: number,
	max: number = Number.MAX_SAFE_INTEGER,
): number {
	const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
	if (value >= min && value <= max && Number.isSafeInteger(value)) return value;
	const range =
		max === Number.MAX_SAFE_INTEGER
			? `of ${min} or more`
			: `from ${min} to ${max}`;
	throw new UsageError(
		`${name} is ${quoted(text)}: want a whole number ${range}`,
	);
}

/** parseCount with its range, for Given's parsed(). */
export function count(min: number, max?: number) {
	return (text: string, name: string) => parseCount(text, name, min, max);
}

/** One of `choices`. */
export function parseChoice<T extends string>(
	text: string,
	name: string,
	choices: readonly T[],
): T {
	const found = choices.find((choice) => choice === text);
	if (found === undefined)
		throw new UsageError(`${name} is ${quoted(text)}`, {
			given: text,
			known: choices,
		});
	return found;
}

/** `text` in quotes, with what could disturb a terminal escaped. */
export function quoted(text: string): string {
	return JSON.stringify(text);
}

/** Nanoseconds with the unit that suits: `850 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`. */
export function formatNs(ns: number): string {
	if (ns < 1000) return `${Math.round(ns)} ns`;
	if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`;
	if (ns < 1e9) return `${(ns / 1e6).toFixed(2)} ms`;
	return `${(ns / 1e9).toFixed(2)} s`;
}

/** A rate a second in at most five figures: `950`, `48.2k`, `4.85M`. */
export function formatRate(rate: number): string {
	if (rate < 1000) return String(Math.round(rate));
	if (rate < 1e6) return `${(rate / 1e3).toFixed(1)}k`;
	return `${(rate / 1e6).toFixed(2)}M`;
}

/** Microseconds of a time as `100us`, `5ms` or `2s`. */
export function parseMicroseconds(text: string, name: string): number {
	const [, digits, unit = ""] = /^(\d{1,9})(us|ms|s)$/.exec(text) ?? [];
	if (digits === undefined)
		throw new UsageError(
			`${name} is ${quoted(text)}: want a time, as 100us, 5ms or 2s`,
		);
	return Number(digits) * (unit === "us" ? 1 : unit === "ms" ? 1e3 : 1e6);
}
