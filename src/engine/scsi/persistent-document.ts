// SPDX-License-Identifier: MIT
// What survives a restart (APTPL), as a document of the store. Anybody may have
// edited it: nothing in it is believed before it is checked.
import {
	EMPTY,
	MAX_REGISTRATIONS,
	type PersistentState,
	type Registration,
	sameInitiator,
} from "./persistent-state.ts";
import { isAllRegistrants, reservationType } from "./reservation-rules.ts";

const VERSION = 1;
/** Longest name of an initiator, in UTF-16 units. */
const MAX_NAME = 1024;

/** The document of a state, or null if nothing of it is to survive. */
export function encodeDocument(state: PersistentState): object | null {
	if (!state.aptpl || state.registrations.length === 0) return null;
	return {
		version: VERSION,
		type: state.type ?? null,
		registrations: state.registrations.map((each) => ({
			key: each.key.toString(16).padStart(16, "0"),
			transportId: each.transportId,
			initiator: each.initiator ?? null,
			targetPort: each.targetPort,
			allPorts: each.allPorts,
			holds: each.holds,
		})),
	};
}

function fail(reason: string): never {
	throw new Error(reason);
}

function fieldsOf(value: unknown, what: string): Map<string, unknown> {
	if (typeof value !== "object" || value === null || Array.isArray(value))
		fail(`${what} is not an object`);
	return new Map(Object.entries(value));
}

function decodeName(value: unknown): string | undefined {
	if (value === null) return undefined;
	if (typeof value !== "string" || value.length > MAX_NAME)
		fail("an initiator is not a name");
	return value;
}

function decodeHex(value: unknown, digits: number, what: string): string {
	if (typeof value !== "string" || value.length !== digits)
		fail(`${what} has not ${digits} hexadecimal digits`);
	if (!/^[0-9a-f]*$/.test(value)) fail(`${what} is not hexadecimal`);
	return value;
}

function decodeFlag(value: unknown, what: string): boolean {
	if (typeof value !== "boolean") fail(`${what} is not a boolean`);
	return value;
}

function decodePort(value: unknown): number {
	if (!Number.isInteger(value)) fail("a target port is not an integer");
	const port = Number(value);
	if (port < 1 || port > 0xffff) fail("a target port is not from 1 to 65535");
	return port;
}

function decodeRegistration(value: unknown): Registration {
	const fields = fieldsOf(value, "a registration");
	const key = BigInt(`0x${decodeHex(fields.get("key"), 16, "a key")}`);
	if (key === 0n) fail("a key is zero");
	return {
		key,
		transportId: decodeHex(fields.get("transportId"), 48, "a TransportID"),
		initiator: decodeName(fields.get("initiator")),
		targetPort: decodePort(fields.get("targetPort")),
		allPorts: decodeFlag(fields.get("allPorts"), "allPorts"),
		holds: decodeFlag(fields.get("holds"), "holds"),
	};
}

function checkDistinct(registrations: readonly Registration[]): void {
	for (const [index, one] of registrations.entries())
		for (const other of registrations.slice(0, index))
			if (one.targetPort === other.targetPort && sameInitiator(one, other))
				fail("an initiator is registered twice");
}

function checkHolder({ registrations, type }: PersistentState): void {
	const holders = registrations.filter((each) => each.holds).length;
	const needed = type === undefined || isAllRegistrants(type) ? 0 : 1;
	if (holders !== needed)
		fail(`the reservation has ${holders} holders instead of ${needed}`);
}

/**
 * The state that a document stands for; PRGENERATION begins at zero, as after every
 * power on. Throws Error with the reason if it is not one that encodeDocument made.
 */
export function decodeDocument(document: unknown): PersistentState {
	if (document === undefined || document === null) return EMPTY;
	const fields = fieldsOf(document, "the document");
	if (fields.get("version") !== VERSION) fail("its version is not known");
	const list: unknown = fields.get("registrations");
	if (!Array.isArray(list)) fail("the registrations are not a list");
	if (list.length === 0 || list.length > MAX_REGISTRATIONS)
		fail(`there are not from 1 to ${MAX_REGISTRATIONS} registrations`);
	const registrations = list.map(decodeRegistration);
	const code = fields.get("type");
	const type = reservationType(code);
	if (code !== null && type === undefined) fail("the type is not known");
	const state = { ...EMPTY, registrations, type, aptpl: true };
	checkDistinct(registrations);
	checkHolder(state);
	return state;
}
