// SPDX-License-Identifier: MIT
/** Ending on a signal. */
import process from "node:process";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
const NUMBERS = { SIGINT: 2, SIGTERM: 15 };

export interface Ending {
	/** Resolves with the name of the first signal. */
	readonly asked: Promise<string>;
	/** Handles signals no more. */
	release(): void;
}

/** Waits for SIGINT or SIGTERM. A second one ends the process at once, should the clean end hang. */
export function onSignal(): Ending {
	let first = true;
	let resolveAsked: (name: string) => void = () => {};
	const asked = new Promise<string>((resolve) => {
		resolveAsked = resolve;
	});
	const take = (name: NodeJS.Signals) => {
		if (first) {
			first = false;
			resolveAsked(name);
			return;
		}
		process.exit(128 + (name === "SIGINT" ? NUMBERS.SIGINT : NUMBERS.SIGTERM));
	};
	for (const name of SIGNALS) process.on(name, take);
	return {
		asked,
		release() {
			for (const name of SIGNALS) process.off(name, take);
		},
	};
}
