// SPDX-License-Identifier: MIT
/**
 * Brings the words of a command line into the one form that cac reads without guessing.
 *
 * Left alone, cac turns every value that looks like a number into one (the name `0123` becomes 83,
 * `1e3` becomes 1000), lets a flag such as `--in-process` swallow the word after it, and takes the
 * next word for an empty `--name=`. Here each option becomes `--camelName=MARK value`, each
 * argument `MARK argument`; unmark() takes the mark off again. No word of a command line can hold
 * the mark, as it is NUL.
 */
import { UsageError } from "./errors.ts";

const MARK = "\0";

/** What the reader must know of an option. */
export interface OptionShape {
	/** Without dashes, long name last: `["r", "rpc-socket"]`. */
	readonly names: readonly string[];
	/** Takes a value; without one it is a flag. */
	readonly takesValue: boolean;
	/** May be given more than once. */
	readonly repeats: boolean;
}

/** An option or an argument, as found. */
type Word =
	| { readonly argument: string }
	| { readonly option: OptionShape; readonly value: string };

/**
 * `block-size` to `blockSize`, the key under which cac stores it. `no-packed` is stored as
 * `packed`, and as true if it was not given.
 */
export function keyOf(name: string): string {
	return name
		.replace(/^no-/, "")
		.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Whether a flag was given, by what cac stored. */
export function isGiven(name: string, stored: unknown): boolean {
	return stored !== undefined && (stored !== true || !name.startsWith("no-"));
}

/**
 * Rewrites `words` for cac. With `hasCommand` the first argument is the name of a sub-command and
 * stays as it is. Throws UsageError for an unknown option, a missing value, a value given to a flag
 * and an option given twice.
 */
export function canonical(
	words: readonly string[],
	options: readonly OptionShape[],
	hasCommand: boolean,
): string[] {
	const seen = new Set<OptionShape>();
	let atCommand = hasCommand;
	return [...scan(words, options)].map((word) => {
		if ("argument" in word) {
			const plain = atCommand;
			atCommand = false;
			return plain ? word.argument : MARK + word.argument;
		}
		const { option, value } = word;
		if (seen.has(option) && !option.repeats && option.takesValue)
			throw new UsageError(`${spelled(longName(option))} is given twice`);
		seen.add(option);
		const name = longName(option);
		if (option.takesValue) return `--${keyOf(name)}=${MARK}${value}`;
		return `--${keyOf(name)}=${!name.startsWith("no-")}`;
	});
}

/** Takes the marks off what cac made of an option's values or an argument. */
export function unmark(value: unknown): string[] {
	const values: unknown[] = Array.isArray(value) ? value : [value];
	return values.map((one) => String(one).replace(MARK, ""));
}

/** The first argument among `words`: the sub-command, if there is one. */
export function firstArgument(
	words: readonly string[],
	options: readonly OptionShape[],
): string | undefined {
	for (const word of scan(words, options))
		if ("argument" in word) return word.argument;
	return undefined;
}

/** `-r` or `--rpc-socket`. */
export function spelled(name: string): string {
	return name.length === 1 ? `-${name}` : `--${name}`;
}

function* scan(
	words: readonly string[],
	options: readonly OptionShape[],
): Generator<Word> {
	for (let i = 0; i < words.length; i++) {
		const word = words[i] ?? "";
		if (word === "--") {
			for (const argument of words.slice(i + 1)) yield { argument };
			return;
		}
		if (!word.startsWith("-") || word === "-") {
			yield { argument: word };
			continue;
		}
		const { option, attached } = find(word, options);
		if (!option.takesValue) {
			if (attached !== undefined)
				throw new UsageError(`${spelled(longName(option))} takes no value`);
			yield { option, value: "" };
			continue;
		}
		const value = attached ?? words[++i];
		if (value === undefined)
			throw new UsageError(`${spelled(longName(option))} needs a value`);
		yield { option, value };
	}
}

/** Reads `--name`, `--name=value`, `-n` or `-nvalue`. */
function find(word: string, options: readonly OptionShape[]) {
	const long = word.startsWith("--");
	const equals = word.indexOf("=");
	const end = long ? (equals < 0 ? word.length : equals) : 2;
	const name = word.slice(long ? 2 : 1, end);
	const option = options.find(
		({ names }) => names.includes(name) && name.length > 1 === long,
	);
	if (!option)
		throw new UsageError(`unknown option ${word.slice(0, end)}`, {
			given: word.slice(0, end),
			known: options.flatMap(({ names }) => names.map(spelled)),
		});
	const rest = word.slice(end).replace(/^=/, "");
	return { option, attached: end < word.length ? rest : undefined };
}

function longName(option: OptionShape): string {
	return option.names.at(-1) ?? "";
}
