// SPDX-License-Identifier: MIT
// What an instance has when it begins to serve.
import { VhostctlError } from "../../errors.ts";
import {
	applyConfig,
	describeFailure,
	type Failure,
	restoreConfig,
} from "./apply.ts";
import {
	type AnyCall,
	type Item,
	itemsOf,
	parseConfigText,
} from "./document.ts";
import { type Keeper, STATE_FORMAT } from "./keeper.ts";
import type { Maker } from "./maker.ts";
import type { StateFile } from "./state-file.ts";

/** What its command line asks for. */
export interface Wanted {
	/** Calls of a configuration file. */
	readonly config?:
		| { readonly items: readonly Item[]; readonly source: string }
		| undefined;
	/** Calls that follow them. */
	readonly calls: readonly AnyCall[];
}

/** Makes what is wanted, the configuration all or not at all. Throws VhostctlError. */
export async function makeWanted(
	maker: Maker,
	{ config, calls }: Wanted,
): Promise<void> {
	const { log } = maker.engine;
	if (config) {
		const { ignored } = await applyConfig(maker, config.items, config.source);
		for (const { item, method } of ignored)
			log.info(`${config.source}: ${item} ${method} has no effect here`);
	}
	for (const call of calls) await maker.call(call);
}

/** The calls that a state file has. Throws E_INVALID, E_UNSUPPORTED (of a later version). */
export function readState({ path, text }: StateFile): Item[] {
	const source = `state file ${path}`;
	try {
		const found = parseConfigText(text ?? "", source);
		const { vhostctl } = Object(found) as { vhostctl?: unknown };
		const format = (Object(vhostctl) as { state?: unknown }).state;
		if (typeof format === "number" && format > STATE_FORMAT)
			throw new VhostctlError(
				"E_UNSUPPORTED",
				`${source} is of a later version: it has format ${format}, this version knows ${STATE_FORMAT}`,
			);
		return itemsOf(found, source);
	} catch (error) {
		if (!(error instanceof VhostctlError)) throw error;
		const advice = "restore it, or move it away to start without it";
		throw new VhostctlError(error.code, `${error.message}; ${advice}`);
	}
}

/** Makes what a state file has; what cannot be made is told, and is the result. */
async function restore(maker: Maker, file: StateFile): Promise<Failure[]> {
	const { log, bdevs } = maker.engine;
	const items = readState(file);
	const failures = await restoreConfig(maker, items);
	log.info(
		`state file ${file.path}: ${items.length - failures.length} of ${items.length} calls carried out`,
	);
	for (const { name, backend } of bdevs.list())
		if (backend.kind === "malloc")
			log.warning(`bdev ${name}: comes back empty, as it is a RAM disk`);
	// What is there all the same was made anew under its name.
	const pending = failures.filter(({ code }) => code !== "E_EXISTS");
	for (const one of pending)
		log.error(
			`state file: ${describeFailure(one)}; kept for the next start, unless it is deleted`,
		);
	return pending;
}

/**
 * Makes what an instance has at its start: what its state file has, or, without a file or
 * when it has yet to be, what is wanted. From then on the file is kept. Throws VhostctlError.
 */
export async function begin(
	maker: Maker,
	wanted: Wanted,
	kept?: { readonly keeper: Keeper; readonly file: StateFile },
): Promise<void> {
	if (kept?.file.text === undefined) {
		await makeWanted(maker, wanted);
		return kept?.keeper.start(kept.file, []);
	}
	const { keeper, file } = kept;
	if (wanted.config || wanted.calls.length > 0)
		maker.engine.log.info(
			`state file ${file.path} is there: what else the command line asks to make is not looked at`,
		);
	const failures = await restore(maker, file);
	await keeper.start(
		file,
		failures.map(({ item: { method, params } }) => ({ method, params })),
	);
}
