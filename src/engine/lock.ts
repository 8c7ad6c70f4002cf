// SPDX-License-Identifier: MIT

/** Runs what it is given one after another, in the order of the calls. */
export type Lock = <T>(work: () => Promise<T> | T) => Promise<T>;

export function createLock(): Lock {
	let last: Promise<unknown> = Promise.resolve();
	return (work) => {
		const mine = last.then(work);
		last = mine.catch(() => {}); // a failure is its caller's, not the next one's
		return mine;
	};
}
