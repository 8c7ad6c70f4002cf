// SPDX-License-Identifier: MIT
// docs/scsi.md, made from the tables that the command set works by.
import { LOG_PAGES } from "./log.ts";
import { modePagesOf } from "./mode-pages.ts";
import { OPERATIONS } from "./opcodes.ts";
import type { Operation } from "./operation.ts";
import type { Medium } from "./task.ts";
import { VPD_PAGES } from "./vpd.ts";

const INTRO = `<!-- Made from src/engine/scsi by \`npm run docs\`. -->
# SCSI commands

A disk of a SCSI controller is a direct access block device after SPC-4 and SBC-3, thin provisioned if its bdev can unmap. What is not listed here ends in ILLEGAL REQUEST, 20h/00h for an opcode and 24h/00h for a service action, a page or a bit; the field pointer says where.

REPORT SUPPORTED OPERATION CODES tells the same to a guest.

## Commands

*Usage* has a one for each bit of the CDB that is evaluated; any other must be zero. *Needs* is what a command needs of the medium: a stopped disk refuses all but those with "-", a write-protected one those that write. *Timeout* is the recommended one, in seconds; 0: none is. Commands with a star are there only if the bdev can do what they ask.
`;

const NEEDS: Record<Operation["access"], string> = {
	none: "-",
	medium: "ready",
	read: "read",
	write: "write",
};

/** As little as a bdev can do. */
const BARE = {
	supports: { flush: false, unmap: false, writeZeroes: false },
} as Medium;

const hex = (value: number): string =>
	value.toString(16).toUpperCase().padStart(2, "0");

function commandRow(one: Operation): string {
	const { opcode, serviceAction, usage, access, timeout } = one;
	const code =
		serviceAction === undefined
			? `${hex(opcode)}h`
			: `${hex(opcode)}h/${hex(serviceAction)}h`;
	const bytes = usage.map(hex).join(" ");
	const name = one.supported?.(BARE) === false ? `${one.name} \\*` : one.name;
	return `| ${code} | ${name} | ${NEEDS[access]} | ${timeout} | \`${bytes}\` | ${one.reference} |`;
}

function commandTable(): string {
	return [
		"| opcode | command | needs | timeout | usage | standard |",
		"|---|---|---|---|---|---|",
		...OPERATIONS.map(commandRow),
	].join("\n");
}

interface Page {
	readonly code: number;
	readonly subpage?: number;
	readonly name: string;
}

function pageRow({ code, subpage, name }: Page): string {
	const at = subpage ? `${hex(code)}h/${hex(subpage)}h` : `${hex(code)}h`;
	return `| ${at} | ${name} |`;
}

function pageTable(pages: readonly Page[]): string {
	return ["| page | name |", "|---|---|", ...pages.map(pageRow)].join("\n");
}

/** docs/scsi.md. */
export function renderScsiReference(): string {
	const parts = [
		`${INTRO}\n${commandTable()}`,
		"## Vital product data",
		pageTable(VPD_PAGES),
		"## Mode pages",
		"WCE of the Caching page can be changed if the bdev can be flushed; D_SENSE and SWP of the Control page always. Values can be saved where `serve` has a folder to keep them in.",
		pageTable(
			modePagesOf({
				supports: { flush: true, unmap: true, writeZeroes: true },
			}),
		),
		"## Log pages",
		pageTable(LOG_PAGES),
	];
	return `${parts.join("\n\n")}\n`;
}
