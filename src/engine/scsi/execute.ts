// SPDX-License-Identifier: MIT
// The way of a command through a logical unit, and which commands may go past it.
import { outcomeOfError } from "./failure.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { findOperation } from "./opcodes.ts";
import type { Operation } from "./operation.ts";
import { notReady, writeProtected } from "./readiness.ts";
import { type Sense, STATUS } from "./sense.ts";
import type { Command, Gate, Nexus, Outcome } from "./task.ts";

/** What keeps a command from being executed, in the order that it is to be reported. */
function obstacle(
	unit: LogicalUnit,
	command: Command,
	operation: Operation,
): Outcome | undefined {
	if (!operation.ignoresUnitAttention) {
		const attention = unit.attentions.take(command.nexus);
		if (attention) return { kind: "check", sense: attention };
	}
	if (unit.reservations.conflicts(command, operation))
		return { kind: "status", status: STATUS.RESERVATION_CONFLICT };
	const sense = notReadyFor(unit, operation);
	return sense && { kind: "check", sense };
}

/** Why the medium cannot be used as an operation uses it. */
function notReadyFor(
	unit: LogicalUnit,
	{ access, needsIdle }: Operation,
): Sense | undefined {
	if (access === "none") return needsIdle && unit.background?.sense();
	return (
		notReady(unit) ?? (access === "write" ? writeProtected(unit) : undefined)
	);
}

/** Executes a command; never rejects. `log` is told of mistakes of ours. */
export async function execute(
	unit: LogicalUnit,
	command: Command,
	log?: (message: string) => void,
): Promise<Outcome> {
	try {
		const operation = findOperation(unit.operations, command.cdb);
		return (
			obstacle(unit, command, operation) ?? (await operation.run(unit, command))
		);
	} catch (error) {
		return outcomeOfError(command, error, log);
	}
}

/** Whether plain reads and writes of a nexus need not be asked for. */
export function gates(
	unit: LogicalUnit,
	nexus: Nexus,
): ReturnType<LogicalUnit["gates"]> {
	// In the order of obstacle(): what comes before a reservation conflict asks.
	if (unit.attentions.pending(nexus)) return { read: "ask", write: "ask" };
	const reserved = unit.reservations.gates(nexus);
	const after = (gate: Gate, open: boolean): Gate =>
		gate === "run" && !open ? "ask" : gate;
	const ready = notReady(unit) === undefined;
	return {
		read: after(reserved.read, ready),
		write: after(reserved.write, ready && !writeProtected(unit)),
	};
}
