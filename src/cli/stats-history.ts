// SPDX-License-Identifier: MIT
/** What objects did in each second of the last minute. */

/** Values that are kept. */
export const LENGTH = 60;

export class History {
	#values = new Map<string, number[]>();

	/** Adds a value for each object; those that are gone are forgotten. */
	add(values: ReadonlyMap<string, number>): void {
		const next = new Map<string, number[]>();
		for (const [key, value] of values)
			next.set(key, [...(this.#values.get(key) ?? []), value].slice(-LENGTH));
		this.#values = next;
	}

	/** The oldest first. */
	of(key: string): readonly number[] {
		return this.#values.get(key) ?? [];
	}
}
