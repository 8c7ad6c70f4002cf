// SPDX-License-Identifier: MIT
import type { Engine } from "../../engine.ts";
import type { AnyCall } from "./document.ts";

/** Carries calls out, without more ado: neither kept, handed over nor held back one by one. */
export interface Maker {
	readonly engine: Engine;
	/** Throws VhostctlError. */
	call(call: AnyCall): Promise<unknown>;
}
