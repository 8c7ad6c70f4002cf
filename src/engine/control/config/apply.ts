// SPDX-License-Identifier: MIT
// Carrying out the calls of a configuration.
import { type ErrorCode, fromErrno, VhostctlError } from "../../errors.ts";
import { checkParams, isMethod, METHODS } from "../schema.ts";
import type { Item } from "./document.ts";
import type { Maker } from "./maker.ts";
import { rememberConfig } from "./undo.ts";

/** Why an item cannot be carried out. */
export interface Failure {
	readonly item: Item;
	readonly code: ErrorCode;
	/** Without the item's name. */
	readonly reason: string;
}

export interface Report {
	/** Calls carried out. */
	readonly applied: number;
	/** Those without effect. */
	readonly ignored: readonly { item: string; method: string }[];
}

function failureOf(item: Item, error: unknown): Failure {
	const { code, message } = fromErrno(error, item.method);
	const prefix = `${item.method}: `;
	const reason = message.startsWith(prefix)
		? message.slice(prefix.length)
		: message;
	return { item, code, reason };
}

/** What can be told without carrying it out. Throws VhostctlError. */
function check({ method, params }: Item): void {
	if (!isMethod(method))
		throw new VhostctlError("E_UNSUPPORTED", "vhostctl has no such method");
	const { effect } = METHODS[method];
	if (effect === "ignored") return; // with whatever parameters that version of SPDK has
	if (effect === "none" || effect === "alters")
		throw new VhostctlError("E_INVALID", "has no place in a configuration");
	checkParams(method, params);
}

async function attempt(
	items: readonly Item[],
	work: (item: Item) => unknown,
): Promise<Failure[]> {
	const failures: Failure[] = [];
	for (const item of items)
		try {
			await work(item);
		} catch (error) {
			failures.push(failureOf(item, error));
		}
	return failures;
}

/** One line. */
export function describeFailure({ item, reason }: Failure): string {
	return `${item.item} ${item.method}: ${reason}`;
}

function refusal(
	failures: readonly Failure[],
	untried: number,
	source: string,
): VhostctlError {
	const codes = new Set(failures.map(({ code }) => code));
	const [only = "E_INVALID"] = codes;
	const code = codes.size === 1 ? only : "E_INVALID";
	const rest = untried > 0 ? `\n  (${untried} later ones were not tried)` : "";
	const lines = failures.map((one) => `\n  ${describeFailure(one)}`).join("");
	return new VhostctlError(
		code,
		`${source}: nothing was changed, as this cannot be carried out:${lines}${rest}`,
	);
}

function isIgnored({ method }: Item): boolean {
	return isMethod(method) && METHODS[method].effect === "ignored";
}

/** Guests come to controllers: these are made when all else is there, and started last. */
function stagesOf(items: readonly Item[]): Item[][] {
	const stage = ({ method }: Item) => {
		if (method === "vhost_start_scsi_controller") return 2;
		return method.startsWith("vhost_") ? 1 : 0;
	};
	return [0, 1, 2].map((n) => items.filter((item) => stage(item) === n));
}

/**
 * Carries out all items, or none: then it throws, with what cannot be, item by item, in
 * the message. Its code is theirs, or E_INVALID if they have several.
 */
export async function applyConfig(
	maker: Maker,
	items: readonly Item[],
	source: string,
): Promise<Report> {
	const wrong = await attempt(items, check);
	if (wrong.length > 0) throw refusal(wrong, 0, source);
	const calls = items.filter((item) => !isIgnored(item));
	const undo = rememberConfig(maker);
	const carried: Item[] = [];
	for (const stage of stagesOf(calls)) {
		carried.push(...stage);
		const failures = await attempt(stage, (item) => maker.call(item));
		if (failures.length === 0) continue;
		await undo(carried);
		throw refusal(failures, calls.length - carried.length, source);
	}
	return {
		applied: calls.length,
		ignored: items
			.filter(isIgnored)
			.map(({ item, method }) => ({ item, method })),
	};
}

/** Carries out what can be, in order, and tells what cannot. */
export function restoreConfig(
	maker: Maker,
	items: readonly Item[],
): Promise<Failure[]> {
	return attempt(items, (item) => {
		check(item);
		return maker.call(item);
	});
}
