// SPDX-License-Identifier: MIT
// What a logical unit is made of: a bdev, used from this side when the hold lets it.
import type { Bdev } from "../bdev/bdev.ts";
import { type BdevIo, IoError, MAX_IO_BYTES } from "../bdev-io.ts";
import { type Medium, type MediumErrno, MediumError } from "../scsi/task.ts";
import { AbortedError, type Hold } from "./hold.ts";

const ERRNOS: readonly MediumErrno[] = [
	"EIO",
	"ENOSPC",
	"ERANGE",
	"EOPNOTSUPP",
	"EROFS",
	"ENODEV",
	"ENOMEM",
];

/** The nearest errno that a medium's calls may end in. */
export function mediumErrno(code: string): MediumErrno {
	if (code === "EDQUOT") return "ENOSPC";
	if (code === "EINVAL") return "ERANGE";
	return ERRNOS.find((errno) => errno === code) ?? "EIO";
}

function toMediumError(error: unknown): unknown {
	if (error instanceof IoError) return new MediumError(mediumErrno(error.code));
	// What becomes of an aborted command nobody gets to see.
	return error instanceof AbortedError ? new MediumError("EIO") : error;
}

/** gone: the bdev must not be touched any more. */
export function createMedium(
	bdev: Bdev,
	io: BdevIo,
	hold: Hold,
	gone: () => boolean,
): Medium {
	const { backend, identity } = bdev;
	const { blockSize } = backend;
	const operate = async <T>(work: () => Promise<T>): Promise<T> => {
		try {
			return await hold.operate(async () => {
				if (gone()) throw new MediumError("ENODEV");
				return work();
			});
		} catch (error) {
			throw toMediumError(error);
		}
	};
	return {
		blockSize,
		physicalBlockSize: backend.physicalBlockSize,
		get numBlocks() {
			return backend.numBlocks;
		},
		readonly: backend.readonly,
		supports: backend.supports,
		identity: { name: bdev.name, uuid: bdev.uuid, ...identity },
		maxBlocks: MAX_IO_BYTES / blockSize,
		read: (lba, blocks) =>
			operate(() => io.read(lba * blockSize, blocks * blockSize)),
		write: (lba, data, durable) =>
			operate(() => io.write(lba * blockSize, data, durable)),
		flush: () => operate(() => io.flush()),
		unmap: (lba, blocks) =>
			operate(() => io.unmap(lba * blockSize, blocks * blockSize)),
		writeZeroes: (lba, blocks, mayUnmap) =>
			operate(() =>
				io.writeZeroes(lba * blockSize, blocks * blockSize, mayUnmap),
			),
		extent(lba) {
			if (gone()) throw new MediumError("ENODEV");
			try {
				const { length, mapped } = io.extent(lba * blockSize);
				return { blocks: length / blockSize, mapped };
			} catch (error) {
				throw toMediumError(error);
			}
		},
		async exclusive(work) {
			try {
				return await hold.exclusive(work);
			} catch (error) {
				throw toMediumError(error);
			}
		},
	};
}
