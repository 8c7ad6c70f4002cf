// SPDX-License-Identifier: MIT
// The form of an entry of the opcode table, and what is checked for all of them alike.
import type { Buffer } from "node:buffer";
import type { LogicalUnit } from "./logical-unit.ts";
import { invalidCdbField } from "./sense.ts";
import type { Command, Medium, Outcome } from "./task.ts";

/** What an operation does with the medium, for reservations and readiness. */
export type Access =
	/** Nothing: answered whatever state the logical unit is in. */
	| "none"
	/** Not the data, but it needs a ready medium. */
	| "medium"
	| "read"
	| "write";

/** How a persistent reservation of another initiator bears on it (SPC-4, table 69). */
export type ReservationRule = "allowed" | "read" | "write" | "conflict";

export interface OperationOptions<T> {
	readonly opcode: number;
	readonly serviceAction?: number;
	/** As in the standard: "READ CAPACITY (16)". */
	readonly name: string;
	/** SPC-4 or SBC-3, with the section. */
	readonly reference: string;
	/**
	 * CDB USAGE DATA: a one for each bit that is evaluated, as long as the CDB. A
	 * set bit that is zero here is refused. The opcode and the service action have
	 * their own values in it, as REPORT SUPPORTED OPERATION CODES reports them.
	 */
	readonly usage: readonly number[];
	readonly access: Access;
	readonly reservation: ReservationRule;
	/** RECOMMENDED COMMAND TIMEOUT, seconds. */
	readonly timeout: number;
	/** Performed without reporting a pending unit attention (SPC-4 5.14). */
	readonly ignoresUnitAttention?: true;
	/** Whether a logical unit on this medium has it; without it, all have. Its execute refuses then. */
	supported?(medium: Medium): boolean;
	/** Refused while background work goes on, although its access is "none". */
	readonly needsIdle?: true;
	/** Reads the fields of a CDB that passed the usage check. Throws SenseError. */
	parse(cdb: Buffer): T;
	/** Throws SenseError, rejects with it or with MediumError. */
	execute(
		lu: LogicalUnit,
		command: Command,
		fields: T,
	): Outcome | Promise<Outcome>;
}

/** An entry of the opcode table. */
export interface Operation
	extends Omit<OperationOptions<never>, "parse" | "execute"> {
	/** Checks and parses the CDB, then executes it. */
	run(lu: LogicalUnit, command: Command): Outcome | Promise<Outcome>;
}

/** Makes an entry of the opcode table; the type of the parsed CDB stays inside. */
export function operation<T>(options: OperationOptions<T>): Operation {
	const { parse, execute, ...rest } = options;
	return {
		...rest,
		run(lu, command) {
			checkUsage(options, command.cdb);
			return execute(lu, command, parse(command.cdb));
		},
	};
}

/** Refuses set bits that the operation does not evaluate, pointing at the first. */
export function checkUsage(
	{
		usage,
		serviceAction,
	}: { usage: readonly number[]; serviceAction?: number },
	cdb: Buffer,
): void {
	for (const [byte, mask] of usage.entries()) {
		if (byte === 0) continue;
		// Bits 4..0 of byte 1, or bytes 8 and 9 of opcode 7Fh, are how the entry was found.
		const known =
			byte === 1 && serviceAction !== undefined ? mask | 0x1f : mask;
		const wrong = (cdb[byte] ?? 0) & ~known & 0xff;
		if (wrong) throw invalidCdbField(byte, 31 - Math.clz32(wrong));
	}
}

/** Cuts data-in to an allocation length. */
export function allocated(data: Buffer, length: number): Outcome {
	return { kind: "good", data: data.subarray(0, length) };
}
