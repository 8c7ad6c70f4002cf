// SPDX-License-Identifier: MIT
// Who may use the medium of a logical unit: everybody, or one alone.
import { AsyncLocalStorage } from "node:async_hooks";
import { createLock } from "../lock.ts";
import type { Lane } from "./ring.ts";

/** Commands that wait for a medium and are aborted meanwhile end with this. */
export class AbortedError extends Error {
	override readonly name = "AbortedError";
}

/** What the work going on here may do. */
interface Scope {
	/** The command that it is done for; what goes on behind one that has ended has none. */
	readonly command?: { signal: AbortSignal | undefined } | undefined;
	/** The hold that it has. */
	readonly holder?: object | undefined;
}

const scopes = new AsyncLocalStorage<Scope>();

/** Runs the work of a command: when that is aborted, work no longer waits for a medium. */
export async function runFor<T>(
	signal: AbortSignal,
	work: () => Promise<T>,
): Promise<T> {
	const command: Scope["command"] = { signal };
	try {
		return await scopes.run({ ...scopes.getStore(), command }, work);
	} finally {
		command.signal = undefined;
	}
}

/** Of the command that this is done for. */
export function currentSignal(): AbortSignal | undefined {
	return scopes.getStore()?.command?.signal;
}

/**
 * What `promise` gives, or AbortedError if the command that this is done for is
 * aborted first.
 */
export async function unlessAborted<T>(promise: Promise<T>): Promise<T> {
	const signal = currentSignal();
	if (!signal) return promise;
	let stop: () => void = () => {};
	const aborted = new Promise<never>((_, reject) => {
		stop = () => reject(new AbortedError());
		if (signal.aborted) stop();
		else signal.addEventListener("abort", stop);
	});
	try {
		return await Promise.race([promise, aborted]);
	} finally {
		signal.removeEventListener("abort", stop);
	}
}

/**
 * Lanes execute commands in C, operations are I/O of this side. A hold keeps
 * both back, lets what goes on end, and then lets only its holder's work run.
 */
export interface Hold {
	/** Whether somebody else has the medium, or is about to. */
	readonly closed: boolean;
	/** Resolves when it was opened; it may be closed again by then. Rejects with AbortedError. */
	opened(): Promise<void>;
	/** A lane came; not to be called while closed. */
	add(lane: Lane): void;
	/** Runs one operation, when it may. Rejects with AbortedError too. */
	operate<T>(work: () => Promise<T>): Promise<T>;
	/** Runs work with the medium to itself; within such work, at once. Rejects with AbortedError too. */
	exclusive<T>(work: () => Promise<T>): Promise<T>;
	/** Closes it until resume, with all lanes detached. Not to be nested. */
	pause(): Promise<void>;
	resume(): void;
	/** Detaches all lanes; to be called by who has it closed. */
	detach(): void;
}

export function createHold(): Hold {
	const lock = createLock();
	const lanes = new Set<Lane>();
	let holder: object | undefined;
	let held: Lane[] = [];
	let operations = 0;
	let wakeHolder: () => void = () => {};
	let open: () => void = () => {};
	let opening: Promise<void> = Promise.resolve();
	let endPause: () => void = () => {};

	const begin = async (): Promise<object> => {
		const token = {};
		holder = token;
		opening = new Promise((resolve) => {
			open = resolve;
		});
		for (const lane of lanes) if (!lane.attached) lanes.delete(lane);
		held = [...lanes];
		await Promise.all(held.map((lane) => lane.hold()));
		while (operations > 0)
			await new Promise<void>((resolve) => {
				wakeHolder = resolve;
			});
		return token;
	};
	const end = (): void => {
		for (const lane of held) lane.release();
		held = [];
		holder = undefined;
		open();
	};
	const detach = (): void => {
		for (const lane of lanes) lane.detach();
		lanes.clear();
	};
	const isHolder = () =>
		holder !== undefined && scopes.getStore()?.holder === holder;
	const isClosed = () => holder !== undefined && !isHolder();

	return {
		get closed() {
			return isClosed();
		},
		opened: () => unlessAborted(opening),
		add: (lane) => void lanes.add(lane),
		async operate(work) {
			while (isClosed()) await unlessAborted(opening);
			operations++;
			try {
				return await work();
			} finally {
				operations--;
				wakeHolder();
			}
		},
		async exclusive(work) {
			if (isHolder()) return work();
			const scope = scopes.getStore();
			let start: () => void = () => {};
			const started = new Promise<void>((resolve) => {
				start = resolve;
			});
			const turn = lock(async () => {
				if (scope?.command?.signal?.aborted) throw new AbortedError();
				start();
				try {
					const token = await begin();
					return await scopes.run({ ...scope, holder: token }, work);
				} finally {
					end();
				}
			});
			turn.catch(() => {}); // if it is not waited for, nobody is to be told
			await unlessAborted(Promise.race([started, turn]));
			return turn;
		},
		pause: () =>
			new Promise((resolve, reject) => {
				lock(async () => {
					try {
						await begin();
						detach(); // a RAM disk moves only when no lane looks at it
						const paused = new Promise<void>((resume) => {
							endPause = resume;
						});
						resolve();
						await paused;
					} finally {
						end();
					}
				}).catch(reject);
			}),
		resume: () => endPause(),
		detach,
	};
}
