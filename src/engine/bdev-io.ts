// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import {
	errnoName,
	IO_DURABLE,
	IO_MAY_UNMAP,
	NativeError,
	native,
	OP_FLUSH,
	OP_READ,
	OP_UNMAP,
	OP_WRITE,
	OP_WRITE_ZEROES,
} from "../ffi/native.ts";
import { arena, CHUNK_BYTES } from "./arena.ts";
import type { Bdev } from "./bdev/bdev.ts";
import type { Reactor } from "./reactors.ts";
import type { Runtime } from "./runtime.ts";

/** Most bytes that one read or write may have. */
export const MAX_IO_BYTES = CHUNK_BYTES;

/** An I/O failed. */
export class IoError extends Error {
	override readonly name = "IoError";
	/** "EIO". */
	readonly code: string;
	constructor(code: string) {
		super(code);
		this.code = code;
	}
}

/**
 * I/O on a bdev from this side. Offsets and lengths are in bytes, whole blocks.
 * Everything rejects with IoError; the bdev must stay until it has settled.
 */
export interface BdevIo {
	read(offset: number, length: number): Promise<Buffer>;
	write(offset: number, data: Buffer, durable: boolean): Promise<void>;
	flush(): Promise<void>;
	unmap(offset: number, length: number): Promise<void>;
	writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>;
	/** The run from offset on that is all mapped or all not. Throws IoError. */
	extent(offset: number): { length: number; mapped: boolean };
}

interface Io {
	op: number;
	offset?: number;
	length?: number;
	address?: bigint;
	flags?: number;
}

function toIoError(error: unknown): IoError {
	if (error instanceof IoError) return error;
	return new IoError(error instanceof NativeError ? error.code : "EIO");
}

/** aborted: of the work for which an I/O is done, whose abort cancels it. */
export function createBdevIo(
	runtime: Runtime,
	reactor: Reactor,
	bdev: Bdev,
	aborted: () => AbortSignal | undefined,
): BdevIo {
	const submit = ({ op, offset = 0, length = 0, address, flags }: Io) =>
		new Promise<void>((resolve, reject) => {
			const signal = aborted();
			if (signal?.aborted) {
				reject(new IoError("ECANCELED"));
				return;
			}
			const cancel = () => native.ioCancel(reactor.handle, id);
			const id = runtime.registerIo((errno) => {
				signal?.removeEventListener("abort", cancel);
				if (errno === 0) resolve();
				else reject(new IoError(errnoName(errno)));
			});
			try {
				native.ioSubmit(reactor.handle, {
					bdev: bdev.handle,
					stats: bdev.pageFor(reactor.id).address,
					addr: address ?? 0n,
					offset: BigInt(offset),
					len: BigInt(length),
					op,
					flags: flags ?? 0,
					id,
				});
			} catch (error) {
				runtime.unregisterIo(id);
				reject(toIoError(error));
				return;
			}
			signal?.addEventListener("abort", cancel);
		});
	return {
		read: (offset, length) =>
			arena.use(async ({ address, view }) => {
				await submit({ op: OP_READ, offset, length, address });
				return Buffer.from(view.subarray(0, length));
			}),
		write: (offset, data, durable) =>
			arena.use(async ({ address, view }) => {
				data.copy(view);
				const flags = durable ? IO_DURABLE : 0;
				const { length } = data;
				await submit({ op: OP_WRITE, offset, length, address, flags });
			}),
		flush: () => submit({ op: OP_FLUSH }),
		unmap: (offset, length) => submit({ op: OP_UNMAP, offset, length }),
		writeZeroes: (offset, length, mayUnmap) =>
			submit({
				op: OP_WRITE_ZEROES,
				offset,
				length,
				flags: mayUnmap ? IO_MAY_UNMAP : 0,
			}),
		extent(offset) {
			try {
				const run = native.bdevExtent(bdev.handle, BigInt(offset));
				return { length: Number(run.len), mapped: run.mapped !== 0 };
			} catch (error) {
				throw toIoError(error);
			}
		},
	};
}
