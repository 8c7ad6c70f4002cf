// SPDX-License-Identifier: MIT
/** Ending on a signal. */
import process from "node:process";

const NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 };
type EndingSignal = keyof typeof NUMBERS;

export interface Ending {
	/** Resolves with the name of the first signal. */
	readonly asked: Promise<string>;
	/** Handles signals no more. */
	release(): void;
}

/** Waits for SIGINT, SIGTERM or one of `more`. A second one ends the process at once, should the clean end hang. */
export function onSignal(more: readonly EndingSignal[] = []): Ending {
	const signals: readonly EndingSignal[] = ["SIGINT", "SIGTERM", ...more];
	let first = true;
	let resolveAsked: (name: string) => void = () => {};
	const asked = new Promise<string>((resolve) => {
		resolveAsked = resolve;
	});
	const take = (name: EndingSignal) => {
		if (first) {
			first = false;
			resolveAsked(name);
			return;
		}
		process.exit(128 + NUMBERS[name]);
	};
	for (const name of signals) process.on(name, take);
	return {
		asked,
		release() {
			for (const name of signals) process.off(name, take);
		},
	};
}
