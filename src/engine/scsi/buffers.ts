// SPDX-License-Identifier: MIT
// The buffers of a command against the lengths in its CDB.
import type { Buffer } from "node:buffer";
import { allocated } from "./operation.ts";
import type { Command, Outcome } from "./task.ts";

/** What a command throws, before it did anything, to end as {kind: "overrun"}. */
export class OverrunError extends Error {
	override readonly name = "OverrunError";
	constructor() {
		super("the data buffer is shorter than the CDB says");
	}
}

/** Whether data-in has room for an allocation length, in bytes. */
export function allocationFits(command: Command, length: number): boolean {
	return length <= command.dataInLength;
}

/** GOOD with data-in, cut to the allocation length; an overrun if the buffer is shorter than that. */
export function dataIn(
	command: Command,
	data: Buffer,
	length: number,
): Outcome {
	if (!allocationFits(command, length)) return { kind: "overrun" };
	return allocated(data, length);
}

/** The parameter list, of `length` bytes. Throws OverrunError if data-out is shorter. */
export function readParameterList(command: Command, length: number): Buffer {
	if (length > command.dataOutLength) throw new OverrunError();
	return command.readDataOut(0, length);
}
