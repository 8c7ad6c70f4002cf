// SPDX-License-Identifier: MIT
/** Answers, on standard output. */
import process from "node:process";
import kleur from "kleur";

/** Prints one line. */
export function printLine(text: string): void {
	process.stdout.write(`${text}\n`);
}

/** Prints `value` as JSON: indented for a person, on one line for a program. */
export function printJson(value: unknown): void {
	printLine(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined));
}

export interface Column {
	readonly title: string;
	readonly right?: boolean;
}

/** Lays rows out under titles, without lines, columns two blanks apart. */
export async function table(
	columns: readonly Column[],
	rows: readonly (readonly string[])[],
): Promise<string> {
	const { default: Table } = await import("cli-table3");
	const none = "";
	const made = new Table({
		head: columns.map(({ title }) => kleur.bold(title)),
		colAligns: columns.map(({ right }) => (right ? "right" : "left")),
		style: { head: [], border: [], "padding-left": 0, "padding-right": 2 },
		chars: {
			top: none,
			"top-mid": none,
			"top-left": none,
			"top-right": none,
			bottom: none,
			"bottom-mid": none,
			"bottom-left": none,
			"bottom-right": none,
			left: none,
			"left-mid": none,
			mid: none,
			"mid-mid": none,
			right: none,
			"right-mid": none,
			middle: none,
		},
	});
	made.push(...rows.map((row) => [...row]));
	return made.toString().replace(/[ \t]+$/gm, "");
}

/**
 * A reader that stops reading (`vhostctl … | head`) ends the program quietly, as it would end any
 * filter.
 */
export function endWithReader(): void {
	process.stdout.on("error", (error: NodeJS.ErrnoException) => {
		// EIO: a terminal that hung up.
		if (error.code === "EPIPE" || error.code === "EIO") process.exit(0);
		throw error;
	});
}
