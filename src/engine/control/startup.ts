// SPDX-License-Identifier: MIT
// The time before framework_start_init, of an instance that was told to wait for it.
import { VhostctlError } from "../errors.ts";
import type { Method } from "./schema/types.ts";

export interface Startup {
	/** Until framework_start_init has succeeded. */
	readonly waiting: boolean;
	/** Resolves when it has. */
	readonly done: Promise<void>;
	/** framework_start_init. Rejects with what `init` does; then it may be tried again. Throws E_BUSY. */
	init(): Promise<void>;
}

/** init: makes what the instance is to have. */
export function createStartup(init: () => Promise<void>): Startup {
	let waiting = true;
	let running = false;
	let finish: () => void = () => {};
	const done = new Promise<void>((resolve) => {
		finish = resolve;
	});
	return {
		done,
		get waiting() {
			return waiting;
		},
		async init() {
			if (running)
				throw new VhostctlError("E_BUSY", "the framework is being initialized");
			running = true;
			try {
				await init();
			} finally {
				running = false;
			}
			waiting = false;
			finish();
		},
	};
}

/** Whether a method may be called now. */
export function isCallable(
	{ when }: Method,
	startup: Startup | undefined,
): boolean {
	return startup?.waiting ? when !== undefined : when !== "startup";
}

/** In SPDK's words and with its code. Throws E_PERMISSION. */
export function checkCallable(
	method: Method,
	startup: Startup | undefined,
): void {
	if (isCallable(method, startup)) return;
	throw new VhostctlError(
		"E_PERMISSION",
		method.when === "startup"
			? "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter and then issue this RPC before the framework_start_init RPC."
			: "Method may only be called after framework is initialized using framework_start_init RPC.",
	);
}
