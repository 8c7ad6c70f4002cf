// SPDX-License-Identifier: MIT
/** What becomes of a load whose device goes away. */
import { setTimeout as sleep } from "node:timers/promises";
import { type ErrorCode, fromErrno, VhostctlError } from "./errors.ts";
import type { Frontend } from "./vhost-user/frontend.ts";

export interface Watch {
	/** Why the device is not there, if it is not. */
	away(): VhostctlError | undefined;
	/** The same, once it is not waited for any more. */
	gone(): VhostctlError | undefined;
	/** Ends the watching; resolves when nothing tries to reconnect any more. */
	end(): Promise<void>;
}

const RETRY_MS = 20;
/** Of a device that is not there yet. */
const NOT_YET: readonly ErrorCode[] = ["E_CONNECT", "E_NOT_FOUND"];

/**
 * Reconnects whenever the device went away, for `seconds` at most; if that fails, or without
 * seconds at once, calls onGone.
 */
export function watchDevice(
	frontend: Frontend,
	path: string,
	seconds: number,
	onGone: () => void,
): Watch {
	let reason: VhostctlError | undefined;
	let ended = false;
	let givenUp = false;
	let work: Promise<void> = Promise.resolve();

	const reconnect = async (): Promise<void> => {
		const until = performance.now() + seconds * 1000;
		while (!ended && performance.now() < until) {
			try {
				await frontend.reconnect();
				reason = undefined;
				watch();
				return;
			} catch (error) {
				reason = fromErrno(error, path);
				if (!NOT_YET.includes(reason.code)) break;
				await sleep(RETRY_MS);
			}
		}
		if (ended) return;
		givenUp = true;
		onGone();
	};
	const watch = (): void => {
		void frontend.closed.then(() => {
			if (ended) return;
			reason = new VhostctlError("E_CONNECT", `${path}: the device hung up`);
			work = reconnect();
		});
	};
	watch();
	return {
		away: () => reason,
		gone: () => (givenUp ? reason : undefined),
		async end() {
			ended = true;
			await work;
		},
	};
}
