// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import { createLock, type Lock } from "../lock.ts";
import {
	allocStatsPage,
	type Stats,
	type StatsPage,
	sumStats,
} from "../stats.ts";
import type { Backend, BackendParts } from "./backend.ts";
import { type Claims, type ClaimType, createClaims } from "./claims.ts";
import { applyLimits, isLimited, type QosLimits, UNLIMITED } from "./qos.ts";
import {
	createQueueDepthSampler,
	type QueueDepthSampler,
} from "./queue-depth.ts";

/** What serves a bdev to others: a controller. */
export interface BdevUser {
	readonly name: string;
	/** What it is. Default: a controller. */
	readonly kind?: string;
	/** True: it never writes. */
	readonly readonly: boolean;
	/** The bdev cannot be made smaller than so many blocks. Default: 0. */
	readonly needs?: number;
	/** Stops I/O until resume. Resolves when none is in flight; does not reject. */
	pause(): Promise<void>;
	resume(): Promise<void>;
	/** The bdev is gone: from here on requests fail. Called while paused. */
	removed(): void;
	/** Its size changed, or it is gone: time to tell the other end. */
	changed(): Promise<void>;
}

/** What SCSI guests see of a bdev: ASCII, up to 8, 16 and 32 bytes. */
export interface Inquiry {
	readonly vendor: string;
	readonly product: string;
	readonly serial: string;
}

/** A block device: a backend with a name, those who use it and what they did. */
export class Bdev {
	readonly name: string;
	readonly uuid: string;
	readonly backend: Backend;
	readonly identity: Inquiry;
	/** Of its own requests: of those that it does not end in the batch in which they come. */
	readonly queueDepth: QueueDepthSampler;
	readonly #claims: Claims;
	readonly #users = new Set<BdevUser>();
	readonly #pages = new Map<number, StatsPage>();
	readonly #lock: Lock = createLock();
	#removing = false;
	#qos = UNLIMITED;
	#released = false;
	/** Calls of letGo that are not over. */
	#hurries = 0;
	#paused: readonly BdevUser[] = [];

	constructor(name: string, uuid: string, backend: Backend, identity: Inquiry) {
		this.name = name;
		this.uuid = uuid;
		this.backend = backend;
		this.identity = identity;
		this.#claims = createClaims(name);
		this.queueDepth = createQueueDepthSampler(() => this.#inflight());
	}

	/** struct vhc_bdev *: what its users hand to the library. It keeps to the limits. */
	get handle(): bigint {
		return this.backend.handle;
	}

	/** The limits in force. */
	get qos(): QosLimits {
		return this.#qos;
	}

	/** Being deleted: nobody new may use it. */
	get removing(): boolean {
		return this.#removing;
	}

	get claimType(): ClaimType | undefined {
		return this.#claims.type;
	}

	/** Gives the bdev to a user; the result takes it back. Throws E_BUSY, E_NOT_FOUND. */
	claim(user: BdevUser): () => void {
		if (this.#removing) throw notFound(this.name);
		const type = user.readonly ? "read_many_write_none" : "exclusive_write";
		const owner = user.kind === "bdev" ? "bdev" : "controller";
		const release = this.#claims.claim(`${owner} ${user.name}`, type);
		this.#users.add(user);
		return () => {
			this.#users.delete(user);
			release();
		};
	}

	/** The page that counts what a reactor did for this bdev. */
	pageFor(reactor: number): StatsPage {
		let page = this.#pages.get(reactor);
		if (!page) {
			page = allocStatsPage();
			this.#pages.set(reactor, page);
		}
		return page;
	}

	/** The reactors that ever served it, each with its page. */
	get pages(): ReadonlyMap<number, StatsPage> {
		return this.#pages;
	}

	/** What all reactors did for it. */
	stats(): Stats {
		return sumStats([...this.#pages.values()].map((page) => page.read()));
	}

	#inflight(): number {
		let sum = 0;
		for (const page of this.#pages.values()) sum += page.inflight();
		return sum;
	}

	/** Changes the size; users and their guests see it at once. Throws the backend's errors, E_BUSY. */
	resize(numBlocks: number): Promise<void> {
		return this.#change(() => {
			for (const { name, needs = 0 } of this.#users)
				if (numBlocks < needs)
					throw new VhostctlError(
						"E_BUSY",
						`bdev ${this.name}: ${name} needs ${needs} blocks of it`,
					);
			return this.backend.resize(numBlocks, (work) => this.#quiesced(work));
		});
	}

	/** Takes over the size that the medium has now. Throws the backend's errors. */
	rescan(): Promise<void> {
		return this.#change(() =>
			this.backend.rescan((work) => this.#quiesced(work)),
		);
	}

	/**
	 * Changes limits, also for requests that wait; those that are not named stay. The first
	 * limit and the end of the last stop the users for a moment. Throws E_INVALID, E_NO_MEMORY.
	 */
	setQos(changes: Partial<QosLimits>): Promise<void> {
		if (this.#removing) throw notFound(this.name);
		return this.#lock(async () => {
			const limits = { ...this.#qos, ...changes };
			const set = () => {
				applyLimits(this.handle, limits);
				this.#qos = limits;
			};
			if (isLimited(limits) === isLimited(this.#qos)) set();
			else await this.#quiesced(set);
		});
	}

	/** What a successor process makes this bdev of; undefined: its description is enough. Throws E_NO_MEMORY. */
	share(): Promise<BackendParts | undefined> {
		return this.#lock(async () =>
			this.backend.handover?.share((work) => this.#quiesced(work)),
		);
	}

	/**
	 * Has the bdev, and what it stacks on, keep no request waiting of their own will until
	 * the result is called, so that what uses it can stop: what hangs fails.
	 */
	letGo(): () => void {
		const restore = this.backend.base?.letGo();
		if (this.#hurries++ === 0)
			native.bdevSetHolding(this.backend.handle, false);
		let over = false;
		return () => {
			if (over) return;
			over = true;
			if (--this.#hurries === 0 && !this.#released)
				native.bdevSetHolding(this.backend.handle, true);
			restore?.();
		};
	}

	/** Stops I/O of all users until resumeUsers. */
	async pauseUsers(): Promise<void> {
		this.#paused = [...this.#users];
		// What waits for its turn would keep them from pausing.
		if (isLimited(this.#qos)) applyLimits(this.handle, UNLIMITED);
		await Promise.all(this.#paused.map((user) => user.pause()));
	}

	async resumeUsers(): Promise<void> {
		const users = this.#paused;
		this.#paused = [];
		if (isLimited(this.#qos)) applyLimits(this.handle, this.#qos);
		await Promise.all(users.map((user) => user.resume()));
	}

	/** Tells all users that the size changed. */
	tellUsers(): Promise<void> {
		return tell([...this.#users]);
	}

	/** Has nobody new use the bdev: it is about to be removed. */
	retire(): void {
		this.#removing = true;
		this.queueDepth.setPeriod(0);
	}

	/** Takes the bdev from its users, whose requests fail from then on, and releases it. */
	remove(): Promise<void> {
		this.retire();
		const restore = this.letGo();
		return this.#lock(async () => {
			const users = [...this.#users];
			await this.#quiesced(() => {
				for (const user of users) user.removed();
			});
			await tell(users);
			this.#users.clear();
			this.#released = true;
			restore();
			this.backend.release();
			for (const page of this.#pages.values()) page.free();
			this.#pages.clear();
		});
	}

	#change(work: () => Promise<void>): Promise<void> {
		if (this.#removing) throw notFound(this.name);
		return this.#lock(async () => {
			const before = this.backend.numBlocks;
			await work();
			if (this.backend.numBlocks !== before) await tell([...this.#users]);
		});
	}

	async #quiesced<T>(work: () => T): Promise<T> {
		const users = [...this.#users];
		// What waits for its turn would keep them from pausing.
		if (isLimited(this.#qos)) applyLimits(this.handle, UNLIMITED);
		await Promise.all(users.map((user) => user.pause()));
		try {
			return work();
		} finally {
			if (isLimited(this.#qos)) applyLimits(this.handle, this.#qos);
			await Promise.all(users.map((user) => user.resume()));
		}
	}
}

async function tell(users: readonly BdevUser[]): Promise<void> {
	await Promise.all(users.map((user) => user.changed()));
}

/** The error for a name that no bdev has. */
export function notFound(name: string): VhostctlError {
	return new VhostctlError("E_NOT_FOUND", `no bdev ${name}`);
}
