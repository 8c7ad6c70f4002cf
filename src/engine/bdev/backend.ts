// SPDX-License-Identifier: MIT
import type { Bdev } from "./bdev.ts";
import type { FileOptions } from "./file.ts";
import type { MallocOptions } from "./malloc.ts";
import type { NullOptions } from "./null.ts";
import type { Split } from "./split.ts";

/** What a bdev is made of; the creating method's name has it too. */
export type BackendKind = "malloc" | "null" | "aio" | "uring" | StackedKind;

/** Kinds that stack on another bdev. */
export type StackedKind = "delay" | "error" | "passthru" | "split";

/** Runs work while no request is in flight on the bdev. */
export type Quiesced = <T>(work: () => T) => Promise<T>;

/** What a backend was made with; sizes are of then. */
export type Made =
	| { readonly kind: "malloc"; readonly options: MallocOptions }
	| { readonly kind: "null"; readonly options: NullOptions }
	| { readonly kind: "file"; readonly options: FileOptions }
	| { readonly kind: Exclude<StackedKind, "split"> }
	| { readonly kind: "split"; readonly split: Split };

/** What a successor process makes the same backend of. */
export interface BackendParts {
	/** JSON; what it says is the kind's own. */
	readonly document: unknown;
	/** Of the process that has this. */
	readonly fds: readonly number[];
}

/** A file in memory. */
export interface SavedFile {
	readonly fd: number;
	free(): void;
}

/** How another process takes over what a backend has. */
export interface Handover {
	/**
	 * Makes it ready, with requests going on but for a moment. The descriptors stay
	 * the backend's. Throws E_NO_MEMORY.
	 */
	share(quiesced: Quiesced): Promise<BackendParts>;
	/** What changes until the last moment, with no request in flight; undefined: nothing does. */
	save(): SavedFile | undefined;
	/**
	 * Reads that in the successor; undefined: it is not known, as the other process
	 * died. The descriptor stays the caller's.
	 */
	load(fd: number | undefined): void;
}

/** What executes a bdev's requests: the native object, and what to know of it. */
export interface Backend {
	readonly kind: BackendKind;
	/** As in SPDK's bdev_get_bdevs. */
	readonly productName: string;
	/** struct vhc_bdev *; this object holds the reference. */
	readonly handle: bigint;
	/** Bytes. */
	readonly blockSize: number;
	readonly physicalBlockSize: number;
	readonly numBlocks: number;
	/** Writes are impossible, whoever asks. */
	readonly readonly: boolean;
	readonly supports: {
		readonly flush: boolean;
		readonly unmap: boolean;
		readonly writeZeroes: boolean;
	};
	/** Path of the file or device behind it, with links resolved; undefined: memory. */
	readonly path?: string;
	readonly made: Made;
	/** What it stacks on. */
	readonly base?: Bdev;
	/** undefined: it has nothing that the options do not say. */
	readonly handover?: Handover;
	/** What bdev_get_bdevs shows as driver_specific. */
	driverSpecific(): Record<string, unknown>;
	/** Throws E_UNSUPPORTED, E_INVALID, E_NO_MEMORY. */
	resize(numBlocks: number, quiesced: Quiesced): Promise<void>;
	/** Takes over the size that the medium has now. Throws E_UNSUPPORTED, E_IO, E_INVALID. */
	rescan(quiesced: Quiesced): Promise<void>;
	/** Of one that stacks: takes over from its base what it has now. No request is in flight. */
	follow?(): void;
	/** Drops the native reference. No controller uses the bdev any more. */
	release(): void;
}
