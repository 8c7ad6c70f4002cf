// SPDX-License-Identifier: MIT
// What a logical unit is beside its medium, for another process to go on with it: initiators
// find nothing changed. Unit attentions go with those who are to hear of them.
import { Buffer } from "node:buffer";
import type { LogicalUnit } from "./logical-unit.ts";
import type { ModeValues } from "./mode-pages.ts";
import { decodeDocument, encodeDocument } from "./persistent-document.ts";
import type { PersistentState } from "./persistent-state.ts";
import type { Nexus } from "./task.ts";

/** A nexus, by Nexus.initiator. */
type NexusName = string;

/** JSON. */
export interface UnitImage {
	readonly persistent: {
		/** As the store has it; null: there are no registrations. */
		readonly document: unknown;
		readonly aptpl: boolean;
		readonly generation: number;
	};
	/** Who has a reservation of SPC-2. */
	readonly reserver: NexusName | null;
	readonly modes: ModeValues;
	readonly started: boolean;
	readonly preventers: readonly NexusName[];
	/** By what they are kept under, in base64. */
	readonly copyResults: readonly (readonly [string, string])[];
}

/** Throws Error while work goes on in the background, which cannot be handed over. */
export function exportUnit(unit: LogicalUnit): UnitImage {
	const { reservations, modes, preventers, copyResults } = unit;
	if (unit.background)
		throw new Error("work goes on in the background of a logical unit");
	const { persistent } = reservations;
	return {
		persistent: {
			document: encodeDocument({ ...persistent, aptpl: true }),
			aptpl: persistent.aptpl,
			generation: persistent.generation,
		},
		reserver: reservations.reserver?.initiator ?? null,
		modes: modes.export(),
		started: unit.started,
		preventers: [...preventers].map(({ initiator }) => initiator),
		copyResults: [...copyResults].map(([key, data]) => [
			key,
			data.toString("base64"),
		]),
	};
}

function stateOf({ persistent }: UnitImage): PersistentState {
	const { document, aptpl, generation } = persistent;
	return { ...decodeDocument(document), aptpl, generation };
}

/**
 * Gives a logical unit what exportUnit told of it, with the nexuses that there are
 * now. Throws Error if that cannot be.
 */
export function importUnit(unit: LogicalUnit, image: UnitImage): void {
	const nexuses = new Map(
		unit.host.nexuses().map((nexus) => [nexus.initiator, nexus]),
	);
	const find = (name: NexusName | null): Nexus | undefined =>
		name === null ? undefined : nexuses.get(name);
	unit.reservations.restore(stateOf(image), find(image.reserver));
	unit.modes.import(image.modes);
	unit.started = image.started;
	unit.preventers.clear();
	for (const name of image.preventers) {
		const nexus = find(name);
		if (nexus) unit.preventers.add(nexus);
	}
	for (const [key, data] of image.copyResults)
		unit.copyResults.set(key, Buffer.from(data, "base64"));
}
