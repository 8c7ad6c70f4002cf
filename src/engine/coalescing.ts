// SPDX-License-Identifier: MIT
// How often the driver of a busy ring is called.
import { VhostctlError } from "./errors.ts";

/**
 * Calls of a ring whose requests end at a rate above the threshold are kept
 * delayBase x (rate - threshold) / threshold apart, by 10 ms at most. SPDK's rule.
 */
export interface Coalescing {
	/** Microseconds; 0: each batch of completions is told at once. */
	readonly delayBaseUs: number;
	/** Requests a second, of one ring. */
	readonly iopsThreshold: number;
}

/** What every processor's SPDK takes. */
export const MAX_DELAY_BASE_US = 1_000_000;
/** One request in the 10 ms over which a rate is measured. */
export const MIN_IOPS_THRESHOLD = 100;
export const MAX_IOPS_THRESHOLD = 0xffffffff;

/** What a controller begins with. */
export const NOT_COALESCED: Coalescing = {
	delayBaseUs: 0,
	iopsThreshold: 60_000,
};

/** Throws E_INVALID. */
export function checkCoalescing(
	delayBaseUs: number,
	iopsThreshold: number,
): Coalescing {
	const check = (what: string, value: number, min: number, max: number) => {
		if (Number.isInteger(value) && value >= min && value <= max) return;
		throw new VhostctlError(
			"E_INVALID",
			`${what} ${value}: must be an integer from ${min} to ${max}`,
		);
	};
	check("delay base", delayBaseUs, 0, MAX_DELAY_BASE_US);
	check(
		"IOPS threshold",
		iopsThreshold,
		MIN_IOPS_THRESHOLD,
		MAX_IOPS_THRESHOLD,
	);
	return { delayBaseUs, iopsThreshold };
}
