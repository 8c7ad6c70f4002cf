// SPDX-License-Identifier: MIT
// Why the data plane took a ring out of service, in words.
import {
	BREAK_AVAIL_INDEX,
	BREAK_CALL,
	BREAK_CHAIN_LONG,
	BREAK_HEAD_RANGE,
	BREAK_HEAD_TWICE,
	BREAK_LOG,
	BREAK_MEMORY,
	BREAK_USED_FULL,
	errnoName,
} from "../../ffi/native.ts";

/** By enum vhc_break_reason: a name for programs, and what the driver or the front end did. */
const BREAKS: Readonly<Record<number, readonly [name: string, text: string]>> =
	{
		[BREAK_AVAIL_INDEX]: [
			"avail-index",
			"the available index is further ahead than the ring has entries",
		],
		[BREAK_HEAD_RANGE]: [
			"head-range",
			"an available chain begins beyond the descriptor table",
		],
		[BREAK_HEAD_TWICE]: [
			"head-twice",
			"a chain is made available that the device has already",
		],
		[BREAK_CHAIN_LONG]: [
			"chain-long",
			"a chain has more descriptors than the driver has left",
		],
		[BREAK_USED_FULL]: [
			"used-full",
			"more chains are returned than the driver can have offered",
		],
		[BREAK_MEMORY]: ["memory", "the shared memory behind it has been cut"],
		[BREAK_LOG]: ["log", "the dirty log does not reach what it writes"],
		[BREAK_CALL]: ["call", "the descriptor for its calls was made to block"],
	};

/** The kind of a log line about a broken ring, and its text. errno: positive. */
export function describeBreak(
	reason: number,
	errno: number,
): { readonly kind: string; readonly text: string } {
	const [name, text] = BREAKS[reason] ?? ["unknown", "for no known reason"];
	return {
		kind: `ring-broken-${name}`,
		text: `broken: ${text} (${errnoName(errno)})`,
	};
}
