// SPDX-License-Identifier: MIT
import { randomUUID } from "node:crypto";
import { VhostctlError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { createNotifications, type Notifications } from "../notifications.ts";
import type { Backend, BackendKind, BackendParts } from "./backend.ts";
import { Bdev, notFound } from "./bdev.ts";
import { createFileBackend, type FileOptions } from "./file.ts";
import {
	checkInquiry,
	defaultUuid,
	type Identity,
	inquiryOf,
} from "./identity.ts";
import { createMallocBackend, type MallocOptions } from "./malloc.ts";
import { createNullBackend, type NullOptions } from "./null.ts";
import { describeLimits, type QosLimits } from "./qos.ts";

export type { Identity } from "./identity.ts";

/** The bdevs of an engine, by name and by UUID. */
export interface BdevRegistry {
	/** Makes a RAM disk; default name: Malloc0, Malloc1, ... Throws E_INVALID, E_EXISTS, E_NO_MEMORY. */
	createMalloc(options: Partial<Identity> & MallocOptions): Promise<Bdev>;
	/** Makes a disk that forgets; default name: Null0, Null1, ... Throws E_INVALID, E_EXISTS. */
	createNull(options: Partial<Identity> & NullOptions): Promise<Bdev>;
	/** Makes a disk of a file or block device. Throws E_INVALID, E_EXISTS, E_NOT_FOUND, E_PERMISSION, E_BUSY. */
	createFile(options: Identity & FileOptions): Promise<Bdev>;
	/**
	 * Deletes a bdev, in use or not: requests to it fail from then on. With
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

const MAX_TIMER = 0x7fffffff;

interface Waiter {
	name: string;
	settle(bdev: Bdev | undefined): void;
}

/**
 * A registry without bdevs. Those of which `inherited` has parts, by their names, are
 * made of them when they are created, and the descriptors taken over then. What happens to
 * bdevs is told to `notifications`.
 */
export function createRegistry(
	log: Logger,
	inherited: ReadonlyMap<string, BackendParts> = new Map(),
	notifications: Notifications = createNotifications(),
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
	const remove = (bdev: Bdev): Promise<void> => {
		const removal = bdev.remove().finally(() => {
			removals.delete(removal);
			bdevs.delete(bdev.name);
			notifications.send("bdev_unregister", bdev.name);
			log.notice("deleted", { bdev: bdev.name });
		});
		removals.add(removal);
		return removal;
	};

	return {
		get,
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
