// SPDX-License-Identifier: MIT

/** What a bdev is made of; the creating method's name has it too. */
export type BackendKind = "malloc" | "null" | "aio" | "uring";

/** Runs work while no request is in flight on the bdev. */
export type Quiesced = <T>(work: () => T) => Promise<T>;

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
	/** What bdev_get_bdevs shows as driver_specific. */
	driverSpecific(): Record<string, unknown>;
	/** Throws E_UNSUPPORTED, E_INVALID, E_NO_MEMORY. */
	resize(numBlocks: number, quiesced: Quiesced): Promise<void>;
	/** Takes over the size that the medium has now. Throws E_UNSUPPORTED, E_IO, E_INVALID. */
	rescan(quiesced: Quiesced): Promise<void>;
	/** Drops the native reference. No controller uses the bdev any more. */
	release(): void;
}
