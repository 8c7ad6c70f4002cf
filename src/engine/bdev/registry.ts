// SPDX-License-Identifier: MIT
import { randomUUID } from "node:crypto";
import { VhostctlError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { createNotifications, type Notifications } from "../notifications.ts";
import type { Backend, BackendKind, BackendParts } from "./backend.ts";
import { Bdev, notFound } from "./bdev.ts";
import { createDelayBackend, type Latencies } from "./delay.ts";
import { createErrorBackend } from "./error.ts";
import { createFileBackend, type FileOptions } from "./file.ts";
import {
	checkInquiry,
	defaultUuid,
	type Identity,
	inquiryOf,
} from "./identity.ts";
import { createMallocBackend, type MallocOptions } from "./malloc.ts";
import { createNullBackend, type NullOptions } from "./null.ts";
import { createPassthruBackend } from "./passthru.ts";
import { describeLimits, type QosLimits } from "./qos.ts";
import { createSplitBackend, partAt, partsOf, type Split } from "./split.ts";
import { userOfBase } from "./stacked.ts";

export type { Identity } from "./identity.ts";

/** The bdevs of an engine, by name and by UUID. */
export interface BdevRegistry {
	/** Makes a RAM disk; default name: Malloc0, Malloc1, ... Throws E_INVALID, E_EXISTS, E_NO_MEMORY. */
	createMalloc(options: Partial<Identity> & MallocOptions): Promise<Bdev>;
	/** Makes a disk that forgets; default name: Null0, Null1, ... Throws E_INVALID, E_EXISTS. */
	createNull(options: Partial<Identity> & NullOptions): Promise<Bdev>;
	/** Makes a disk of a file or block device. Throws E_INVALID, E_EXISTS, E_NOT_FOUND, E_PERMISSION, E_BUSY. */
	createFile(options: Identity & FileOptions): Promise<Bdev>;
	/** Makes a bdev whose reads and writes take a while. Throws as createPassthru. */
	createDelay(
		options: StackedIdentity & { latencies: Latencies },
	): Promise<Bdev>;
	/** Makes a bdev, EE_ and the base's name, that fails on demand. Throws as createPassthru. */
	createError(options: Partial<Identity> & { base: string }): Promise<Bdev>;
	/**
	 * Makes a bdev that shows another, its base, which is then used by it alone. Throws
	 * E_INVALID, E_EXISTS, E_NOT_FOUND, E_BUSY (somebody uses the base), E_NO_MEMORY.
	 */
	createPassthru(options: StackedIdentity): Promise<Bdev>;
	/** Makes bdevs of the same size of the parts of another: its name, p and a number. Throws as createPassthru. */
	createSplit(base: string, split: Split): Promise<Bdev[]>;
	/** Deletes all parts of a bdev. Throws E_NOT_FOUND. */
	deleteSplit(base: string): Promise<void>;
	/**
	 * Deletes a bdev, after those that stack on it, in use or not: requests to it fail from then on. With
	 * `kind`, only one of that kind. Throws E_NOT_FOUND.
	 */
	delete(name: string, kind?: BackendKind): Promise<void>;
	/** Throws E_NOT_FOUND, E_INVALID, E_UNSUPPORTED, E_NO_MEMORY. */
	resize(name: string, numBlocks: number, kind?: BackendKind): Promise<void>;
	/** Throws E_NOT_FOUND, E_INVALID, E_UNSUPPORTED, E_IO. */
	rescan(name: string, kind?: BackendKind): Promise<void>;
	/** Changes limits, as Bdev.setQos. Throws E_NOT_FOUND, E_INVALID, E_NO_MEMORY. */
	setQos(name: string, changes: Partial<QosLimits>): Promise<void>;
	/** By name or UUID. Throws E_NOT_FOUND. */
	get(name: string, kind?: BackendKind): Bdev;
	/** Waits for it to be there. Throws E_NOT_FOUND after timeoutMs. */
	waitFor(name: string, timeoutMs: number): Promise<Bdev>;
	/** In the order of their making. */
	list(): Bdev[];
	/** Deletes all. */
	close(): Promise<void>;
}

/** How one that stacks on another is to be known. */
export interface StackedIdentity extends Identity {
	/** Name or UUID of the base. */
	base: string;
}

const MAX_TIMER = 0x7fffffff;

interface Waiter {
	name: string;
	settle(bdev: Bdev | undefined): void;
}

/**
 * A registry without bdevs. Those of which `inherited` has parts, by their names, are
 * made of them when they are created, and the descriptors taken over then. What happens to
 * bdevs is told to `notifications`. reactors: the ids of those that will serve them.
 */
export function createRegistry(
	log: Logger,
	inherited: ReadonlyMap<string, BackendParts> = new Map(),
	notifications: Notifications = createNotifications(),
	reactors: readonly number[] = [],
): BdevRegistry {
	const bdevs = new Map<string, Bdev>();
	const waiters = new Set<Waiter>();

	const find = (name: string): Bdev | undefined => {
		const lower = name.toLowerCase();
		return bdevs.get(name) ?? [...bdevs.values()].find((b) => b.uuid === lower);
	};
	const get = (name: string, kind?: BackendKind): Bdev => {
		const bdev = find(name);
		if (!bdev || bdev.removing) throw notFound(name);
		if (kind === undefined || bdev.backend.kind === kind) return bdev;
		throw new VhostctlError(
			"E_NOT_FOUND",
			`no ${kind} bdev ${name}: it is a ${bdev.backend.kind} bdev`,
		);
	};
	const freeName = (prefix: string): string => {
		let n = 0;
		while (find(`${prefix}${n}`)) n++;
		return `${prefix}${n}`;
	};
	const checkFree = (name: string) => {
		if (!find(name)) return;
		throw new VhostctlError("E_EXISTS", `there is a bdev ${name} already`);
	};
	/** The default is another's only if that one was given it: then there is no default. */
	const chooseUuid = (
		name: string,
		asked: string | undefined,
		backend: Backend,
	): string => {
		if (asked !== undefined) return asked.toLowerCase();
		const uuid = defaultUuid(name, backend);
		return find(uuid) ? randomUUID() : uuid;
	};
	const add = (
		identity: Partial<Identity>,
		prefix: string,
		makeBackend: (parts: BackendParts | undefined) => Backend,
	): Bdev => {
		const name = identity.name ?? freeName(prefix);
		checkFree(name);
		if (identity.uuid !== undefined) checkFree(identity.uuid.toLowerCase());
		checkInquiry(identity);
		const backend = makeBackend(inherited.get(name));
		const uuid = chooseUuid(name, identity.uuid, backend);
		const bdev = new Bdev(
			name,
			uuid,
			backend,
			inquiryOf(name, identity, backend),
		);
		bdevs.set(name, bdev);
		const { productName, numBlocks, blockSize } = bdev.backend;
		log.notice(`${productName}, ${numBlocks} blocks of ${blockSize} bytes`, {
			bdev: name,
		});
		notifications.send("bdev_register", name);
		for (const waiter of waiters) {
			if (waiter.name === name || waiter.name.toLowerCase() === uuid) {
				waiter.settle(bdev);
			}
		}
		return bdev;
	};
	/** Tells if work that may change the size did. */
	const resizing = async (bdev: Bdev, work: () => Promise<void>) => {
		const before = bdev.backend.numBlocks;
		await work();
		if (bdev.backend.numBlocks !== before)
			notifications.send("bdev_resize", bdev.name);
	};
	const removals = new Set<Promise<void>>();
	/** Gives a base back that a bdev stacks on, once that is gone. */
	const leaving = new Map<Bdev, () => void>();
	/** Nobody new may use it from here on. */
	const removeAll = async (bdev: Bdev): Promise<void> => {
		const above = [...bdevs.values()].filter(
			(one) => one.backend.base === bdev && !one.removing,
		);
		bdev.retire();
		await Promise.all(above.map(remove));
		await bdev.remove();
		leaving.get(bdev)?.();
		leaving.delete(bdev);
	};
	const remove = (bdev: Bdev): Promise<void> => {
		const removal = removeAll(bdev).finally(() => {
			removals.delete(removal);
			bdevs.delete(bdev.name);
			notifications.send("bdev_unregister", bdev.name);
			log.notice("deleted", { bdev: bdev.name });
		});
		removals.add(removal);
		return removal;
	};

	/**
	 * Makes bdevs on a base that they claim together: all of them or none. needs: blocks
	 * of the base that they cannot do without.
	 */
	const addOn = async (
		base: Bdev,
		identities: readonly Identity[],
		needs: number,
		makeBackend: (i: number) => Backend,
	): Promise<Bdev[]> => {
		const above = new Set<Bdev>();
		const [first] = identities;
		const tell = (name: string) => notifications.send("bdev_resize", name);
		const user = userOfBase(first?.name ?? "", above, needs, tell);
		const unclaim = base.claim(user);
		const leave = (bdev: Bdev) => {
			above.delete(bdev);
			if (above.size === 0) unclaim();
		};
		try {
			for (const [i, identity] of identities.entries()) {
				const bdev = add(identity, "", () => makeBackend(i));
				above.add(bdev);
				leaving.set(bdev, () => leave(bdev));
			}
		} catch (error) {
			if (above.size === 0) unclaim();
			await Promise.all([...above].map(remove));
			throw error;
		}
		return [...above];
	};
	const addOne = async (
		name: string,
		identity: Partial<Identity>,
		base: Bdev,
		makeBackend: () => Backend,
	): Promise<Bdev> => {
		const [bdev] = await addOn(base, [{ ...identity, name }], 0, makeBackend);
		if (!bdev) throw new Error("one was made");
		return bdev;
	};

	return {
		get,
		createDelay: async (options) => {
			const { name, latencies } = options;
			const base = get(options.base);
			return addOne(name, options, base, () =>
				createDelayBackend(name, base, latencies, reactors),
			);
		},
		createError: async (options) => {
			const base = get(options.base);
			return addOne(`EE_${base.name}`, options, base, () =>
				createErrorBackend(base, reactors),
			);
		},
		createPassthru: async (options) => {
			const { name } = options;
			const base = get(options.base);
			return addOne(name, options, base, () =>
				createPassthruBackend(name, base, reactors),
			);
		},
		createSplit: async (name, split) => {
			const base = get(name);
			const parts = partsOf(base, split);
			const last = parts.at(-1);
			return addOn(
				base,
				parts.map((_, i) => ({ name: `${base.name}p${i}` })),
				last ? last.firstBlock + last.numBlocks : 0,
				(i) => createSplitBackend(base, partAt(parts, i), split, reactors),
			);
		},
		deleteSplit: async (name) => {
			const base = get(name);
			const parts = [...bdevs.values()].filter(
				({ backend, removing }) =>
					backend.kind === "split" && backend.base === base && !removing,
			);
			if (parts.length === 0)
				throw new VhostctlError("E_NOT_FOUND", `bdev ${name} is not split`);
			await Promise.all(parts.map(remove));
		},
		list: () => [...bdevs.values()].filter((bdev) => !bdev.removing),
		createMalloc: async (options) =>
			add(options, "Malloc", (parts) =>
				createMallocBackend(options, log, parts),
			),
		createNull: async (options) =>
			add(options, "Null", () => createNullBackend(options)),
		createFile: async (options) =>
			add(options, options.driver, (parts) =>
				createFileBackend(options, log, parts),
			),
		delete: async (name, kind) => remove(get(name, kind)),
		resize: async (name, numBlocks, kind) => {
			const bdev = get(name, kind);
			await resizing(bdev, () => bdev.resize(numBlocks));
			log.notice(`resized to ${numBlocks} blocks`, { bdev: bdev.name });
		},
		rescan: async (name, kind) => {
			const bdev = get(name, kind);
			await resizing(bdev, () => bdev.rescan());
			log.notice(`has ${bdev.backend.numBlocks} blocks`, { bdev: bdev.name });
		},
		setQos: async (name, changes) => {
			const bdev = get(name);
			await bdev.setQos(changes);
			log.info(`bdev ${bdev.name}: ${describeLimits(bdev.qos)}`);
		},
		waitFor: async (name, timeoutMs) => {
			const bdev = find(name);
			if (bdev && !bdev.removing) return bdev;
			if (timeoutMs <= 0) throw notFound(name);
			return new Promise<Bdev>((resolve, reject) => {
				const waiter: Waiter = {
					name,
					settle(bdev) {
						clearTimeout(timer);
						waiters.delete(waiter);
						if (bdev) resolve(bdev);
						else reject(notFound(name));
					},
				};
				const timer = setTimeout(
					() => waiter.settle(undefined),
					Math.min(timeoutMs, MAX_TIMER),
				);
				waiters.add(waiter);
			});
		},
		close: async () => {
			for (const waiter of waiters) waiter.settle(undefined);
			for (const bdev of bdevs.values()) if (!bdev.removing) void remove(bdev);
			await Promise.all(removals);
		},
	};
}
