// SPDX-License-Identifier: MIT
// What is common to bdevs that stack on another, their base.
import { native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { Backend, Made, StackedKind } from "./backend.ts";
import type { Bdev, BdevUser } from "./bdev.ts";

/** Blocks of the base; undefined: all, however many it has. */
export interface Part {
	readonly firstBlock: number;
	readonly numBlocks: number;
}

/** A kind's own share. */
interface StackedOptions {
	readonly productName: string;
	readonly base: Bdev;
	readonly part?: Part | undefined;
	readonly made: Extract<Made, { kind: StackedKind }>;
	/** Of the reactors there are, whose pages count what the base is asked. */
	readonly reactors: readonly number[];
	/** Makes the native object on a handle of the base. */
	create(base: bigint): bigint;
	describe(): Record<string, unknown>;
}

/** Makes a backend that stacks on a bdev, which is the caller's to claim. Throws E_NO_MEMORY, E_INVALID. */
export function createStackedBackend(options: StackedOptions): Backend {
	const { made, base, part, reactors } = options;
	const { kind } = made;
	const { blockSize, physicalBlockSize, readonly, supports } = base.backend;
	const count = () => {
		for (const id of reactors)
			native.bdevSetStats(base.handle, id, base.pageFor(id).address);
	};
	const create = (): bigint => {
		try {
			count();
			return options.create(base.handle);
		} catch (error) {
			throw fromErrno(error, `${kind} bdev on ${base.name}`);
		}
	};
	const handle = create();
	let under = base.handle;
	const backend = {
		kind,
		made,
		productName: options.productName,
		handle,
		base,
		blockSize,
		physicalBlockSize,
		numBlocks: part?.numBlocks ?? base.backend.numBlocks,
		readonly,
		supports,
		driverSpecific: options.describe,
		async resize() {
			throw new VhostctlError(
				"E_UNSUPPORTED",
				`resize: a ${kind} bdev has the size of its base: resize ${base.name}`,
			);
		},
		async rescan() {
			throw new VhostctlError(
				"E_UNSUPPORTED",
				`rescan: a ${kind} bdev has the size of its base: rescan ${base.name}`,
			);
		},
		follow() {
			if (under !== base.handle) {
				count();
				native.bdevRebase(handle, base.handle);
				under = base.handle;
			}
			if (part || backend.numBlocks === base.backend.numBlocks) return;
			native.bdevResize(handle, BigInt(base.backend.numBlocks));
			backend.numBlocks = base.backend.numBlocks;
		},
		release: () => native.bdevRelease(handle),
	};
	return backend;
}

/**
 * How bdevs, those of `above` at any time, use the one that they stack on. needs: see
 * BdevUser; resized: told the names of those whose size followed the base's.
 */
export function userOfBase(
	name: string,
	above: ReadonlySet<Bdev>,
	needs: number,
	resized: (name: string) => void,
): BdevUser {
	const each = async (work: (bdev: Bdev) => Promise<void>): Promise<void> => {
		await Promise.all([...above].map(work));
	};
	/** Those that have told their users how large they are. */
	const told = new WeakMap<Bdev, number>();
	const follow = ({ backend }: Bdev) => backend.follow?.();
	return {
		name,
		kind: "bdev",
		readonly: false,
		needs,
		pause: () =>
			each((bdev) => {
				told.set(bdev, told.get(bdev) ?? bdev.backend.numBlocks);
				return bdev.pauseUsers();
			}),
		resume: () =>
			each((bdev) => {
				follow(bdev);
				return bdev.resumeUsers();
			}),
		/** Those that stack on a bdev are deleted before it. */
		removed() {},
		changed: () =>
			each(async (bdev) => {
				const before = told.get(bdev) ?? bdev.backend.numBlocks;
				follow(bdev);
				told.set(bdev, bdev.backend.numBlocks);
				if (bdev.backend.numBlocks === before) return;
				resized(bdev.name);
				await bdev.tellUsers();
			}),
	};
}
