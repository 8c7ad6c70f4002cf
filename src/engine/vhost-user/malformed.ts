// SPDX-License-Identifier: MIT
// Requests of which the device can make nothing, in words and numbers.
import { constants } from "node:os";
import { LAYOUTS } from "../../ffi/layout.ts";
import { errnoName, native } from "../../ffi/native.ts";

/** By errno, as VHC_UPCALL_MALFORMED has it: a name for programs, and what is wrong. */
const REASONS: Readonly<Record<number, readonly [name: string, text: string]>> =
	{
		[constants.errno.EFAULT]: [
			"address",
			"its chain is about memory that is not the guest's",
		],
		[constants.errno.E2BIG]: ["long", "its chain has too many pieces"],
		[constants.errno.ELOOP]: ["chain", "its descriptors make no chain"],
		[constants.errno.EPROTO]: [
			"short",
			"its chain has no room for a header and an answer",
		],
	};

interface Report {
	/** Of a log line. */
	readonly kind: string;
	readonly text: string;
}

/** Tells of a ring's malformed requests while it runs: a few, with the count of all. */
export interface MalformedRequests {
	/** Of the one that came in the chain `head`. errno: positive. */
	describe(errno: number, head: number): Report;
	/** Of those that nobody was told of, as the ring stops; undefined: there are none. */
	rest(): Report | undefined;
}

const COUNT_AT = BigInt(LAYOUTS.vhc_stats.offsets.malformed);

/** stats: address of the ring's page, where they are counted. */
export function watchMalformed(stats: bigint): MalformedRequests {
	const count = () =>
		Number(native.copyOut(stats + COUNT_AT, 8).readBigUInt64LE());
	let told = count();
	return {
		describe(errno, head) {
			const [name, why] = REASONS[errno] ?? ["unknown", "for no known reason"];
			told = count();
			return {
				kind: `request-malformed-${name}`,
				text: `malformed request (head ${head}): ${why} (${errnoName(errno)}); ${told} so far`,
			};
		},
		rest() {
			const all = count();
			if (all === told) return undefined;
			const text = `${all - told} more malformed requests until it stopped; ${all} so far`;
			told = all;
			return { kind: "request-malformed", text };
		},
	};
}
