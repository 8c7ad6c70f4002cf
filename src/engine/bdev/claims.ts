// SPDX-License-Identifier: MIT
import { VhostctlError } from "../errors.ts";

/** SPDK's names for what a holder keeps others from. */
export type ClaimType = "exclusive_write" | "read_many_write_none";

/** Who may use a bdev: one writer alone, or any number of readers. */
export interface Claims {
	/** What is claimed, if anything. */
	readonly type: ClaimType | undefined;
	/** Returns what gives the claim back. Throws E_BUSY, naming a holder. */
	claim(owner: string, type: ClaimType): () => void;
}

/** `bdev` is its name, for messages. */
export function createClaims(bdev: string): Claims {
	const holders = new Map<object, { owner: string; type: ClaimType }>();
	const first = () => holders.values().next().value;
	return {
		get type() {
			return first()?.type;
		},
		claim(owner, type) {
			const held = first();
			const shared =
				type === "read_many_write_none" && held?.type !== "exclusive_write";
			if (held && !shared) {
				throw new VhostctlError(
					"E_BUSY",
					`bdev ${bdev} is claimed by ${held.owner} (${held.type})`,
				);
			}
			const key = {};
			holders.set(key, { owner, type });
			return () => void holders.delete(key);
		},
	};
}
