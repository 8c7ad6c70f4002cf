// SPDX-License-Identifier: MIT
/** How the command line reports what went wrong. */
import { ERRORS, type ErrorCode, VhostctlError } from "../engine/errors.ts";

/** What was given and what would have been known, for a suggestion. */
export interface Misspelling {
	readonly given: string;
	readonly known: readonly string[];
}

/** The command line itself is wrong: exit code of E_USAGE. */
export class UsageError extends VhostctlError {
	readonly misspelling: Misspelling | undefined;

	constructor(message: string, misspelling?: Misspelling) {
		super("E_USAGE", message);
		this.misspelling = misspelling;
	}
}

/**
 * The line for standard error, `vhostctl: …`, with the nearest known word after a misspelt one.
 * Errors that are none of ours are defects: their stack is shown.
 */
export async function describe(error: unknown): Promise<string> {
	if (error instanceof UsageError && error.misspelling)
		return `vhostctl: ${error.message}${await suggestion(error.misspelling)}`;
	if (error instanceof VhostctlError) return `vhostctl: ${error.message}`;
	if (error instanceof Error)
		return `vhostctl: internal error: ${error.stack ?? error.message}`;
	return `vhostctl: internal error: ${String(error)}`;
}

/** The exit code for `error`, from the table of error codes. */
export function exitCode(error: unknown): number {
	const code: ErrorCode =
		error instanceof VhostctlError ? error.code : "E_INTERNAL";
	return ERRORS[code].exit;
}

async function suggestion({ given, known }: Misspelling): Promise<string> {
	const { closest, distance } = await import("fastest-levenshtein");
	const bare = (word: string) => word.replace(/^-+/, "");
	const nearest = closest(given, [...known]);
	// Half the letters wrong is not a misspelling.
	const near = distance(bare(given), bare(nearest)) * 2 <= bare(nearest).length;
	if (near) return `; did you mean ${nearest}?`;
	return known.length > 12 ? "" : `; there is ${known.join(", ")}`;
}
