// SPDX-License-Identifier: MIT
// Keeping what an instance has in its state file.
import { Buffer } from "node:buffer";
import type { Engine } from "../../engine.ts";
import { messageOf, VhostctlError } from "../../errors.ts";
import { createLock } from "../../lock.ts";
import { describeRunning } from "../describe.ts";
import { type AnyCall, toDocument } from "./document.ts";
import { withoutDeleted } from "./pending.ts";
import type { StateFile } from "./state-file.ts";

/** Of what is written. A file of a later format is not read. */
export const STATE_FORMAT = 1;

/** Bytes that a change may add beside its parameters. */
const SLACK = 16 * 1024;

export interface Keeper {
	/**
	 * Carries out a change, and resolves when the file has it. Throws what `work` does;
	 * or, before anything was changed, why it could not be kept; or, after it, that it
	 * is made but not kept.
	 */
	change<T>(call: AnyCall, work: () => Promise<T>): Promise<T | true>;
	/**
	 * Writes what there is, and from then on keeps changes. pending: calls that could not be
	 * carried out, which are kept. Throws if it cannot be written.
	 */
	start(file: StateFile, pending: readonly AnyCall[]): Promise<void>;
	/** Has every change fail: there will be no file. */
	fail(reason: unknown): void;
}

/** A text as a state file has it. */
function textOf(engine: Engine, pending: readonly AnyCall[]): string {
	const calls = [...describeRunning(engine), ...pending];
	const state = { vhostctl: { state: STATE_FORMAT }, ...toDocument(calls) };
	return `${JSON.stringify(state, undefined, 2)}\n`;
}

/** Changes wait for `start`. */
export function createKeeper(engine: Engine): Keeper {
	let settle: (file: StateFile) => void = () => {};
	let fail: (reason: unknown) => void = () => {};
	const opened = new Promise<StateFile>((resolve, reject) => {
		settle = resolve;
		fail = reject;
	});
	opened.catch(() => {}); // told by each change
	const lock = createLock();
	let pending: readonly AnyCall[] = [];
	let written = "";
	let underWay = 0;

	/** What another change has written meanwhile is not written again. */
	const save = (to: StateFile) =>
		lock(async () => {
			const text = textOf(engine, pending);
			if (text === written) return;
			await to.write(text);
			written = text;
			// Others that were given room have lost it with the draft.
			if (underWay > 1) await to.reserve(roomFor({})).catch(() => {});
		});
	const roomFor = (added: unknown) =>
		Buffer.byteLength(written) +
		2 * Buffer.byteLength(JSON.stringify(added)) +
		SLACK;
	const saveAfter = async ({ method }: AnyCall, to: StateFile) => {
		try {
			await save(to);
		} catch (error) {
			throw new VhostctlError(
				"E_IO",
				`${method} is carried out, but not kept: ${messageOf(error)}; the next change that can be kept keeps it too`,
			);
		}
	};
	const forget = (deletion: AnyCall, error: unknown): boolean => {
		if (!(error instanceof VhostctlError && error.code === "E_NOT_FOUND"))
			return false;
		const rest = withoutDeleted(pending, deletion);
		if (rest) pending = rest;
		return rest !== undefined;
	};
	const carryOut = async <T>(
		call: AnyCall,
		to: StateFile,
		work: () => Promise<T>,
	) => {
		try {
			return await work();
		} catch (error) {
			if (forget(call, error)) return true;
			// What failed may have changed something all the same.
			await save(to).catch(() => {});
			throw error;
		}
	};

	return {
		async change(call, work) {
			const to = await opened;
			underWay++;
			try {
				await to.reserve(roomFor(call.params));
				const result = await carryOut(call, to, work);
				await saveAfter(call, to);
				return result;
			} finally {
				underWay--;
				if (underWay === 0) await to.release();
			}
		},
		async start(opening, kept) {
			pending = kept;
			await save(opening);
			settle(opening);
		},
		fail: (reason) => fail(reason),
	};
}
