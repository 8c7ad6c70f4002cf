// SPDX-License-Identifier: MIT
/** Processors as users write them. */
import { parseCpumask } from "../engine/cpumask.ts";

/**
 * Checks processors given as 0x3, [0,1-3] or 0,1-3 and gives them in the form the control socket
 * takes. `3` alone is hexadecimal bits, as with SPDK.
 */
export function cpumask(text: string): string {
	const list = /^\d[\d,-]*[,-]\d+$/.test(text);
	const mask = list ? `[${text}]` : text;
	parseCpumask(mask);
	return mask;
}
