// SPDX-License-Identifier: MIT
// A disk in an array of bytes, for tests of the SCSI command set.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
	type Identity,
	type Medium,
	type MediumErrno,
	MediumError,
} from "../../src/engine/scsi/task.ts";

export type DiskOp = "read" | "write" | "flush" | "unmap" | "writeZeroes";

/** One call of a medium that was made, in order. */
export interface DiskCall {
	readonly op: DiskOp | "exclusive" | "end";
	readonly lba?: number;
	readonly blocks?: number;
	/** Of a write. */
	readonly durable?: boolean;
	/** Of writeZeroes. */
	readonly mayUnmap?: boolean;
}

/** A call that is to fail. */
export interface Failure {
	readonly op: DiskOp;
	readonly errno: MediumErrno;
	/** Only a call whose range holds this block; else any. */
	readonly lba?: number;
	/** How many calls fail before it is used up; for ever if not given. */
	readonly times?: number;
}

export interface ByteDiskOptions {
	readonly blocks?: number;
	readonly blockSize?: number;
	readonly physicalBlockSize?: number;
	readonly readonly?: boolean;
	readonly maxBlocks?: number;
	readonly supports?: Partial<Medium["supports"]>;
	readonly identity?: Partial<Identity>;
}

export interface ByteDisk extends Medium {
	numBlocks: number;
	readonly: boolean;
	/** What reads see. Replaced by resize(). */
	bytes: Buffer;
	/** What a power cut would leave: `bytes` as of the last flush, and durable writes. */
	stable: Buffer;
	/** One a block that is mapped; all of them are at first, like those of a file that was written. */
	mapped: Uint8Array;
	/** All calls so far; a test may empty it. */
	readonly calls: DiskCall[];
	/** Makes calls fail, before they do anything. */
	fail(failure: Failure): void;
	/** Takes back all failures. */
	heal(): void;
	/** Holds every call from now on until the returned function is called. */
	hold(): () => void;
	/** New blocks are zero and not mapped. */
	resize(blocks: number): void;
}

const IDENTITY: Identity = {
	name: "disk0",
	uuid: "6a3c2f5e-9d1b-4c57-8f10-2b4d6e8fa0c1",
	vendor: "vhostctl",
	product: "Test disk",
	serial: "SN0123456789",
};

interface Plan {
	readonly failure: Failure;
	left: number;
}

/**
 * Makes a disk: 1024 blocks of 512 bytes unless asked otherwise, all zero and
 * mapped. A call that breaks the contract of Medium (a range of no blocks, more
 * than maxBlocks, work that is exclusive begun twice at a time) throws an
 * AssertionError; one beyond the end rejects with ERANGE.
 */
export function byteDisk(options: ByteDiskOptions = {}): ByteDisk {
	const { blocks: numBlocks = 1024, blockSize = 512 } = options;
	let plans: Plan[] = [];
	let gate: Promise<void> = Promise.resolve();
	let turn: Promise<unknown> = Promise.resolve();

	/** Ahead of every call: notes it, lets a test hold it, fails it if it is to fail. */
	async function enter(call: DiskCall & { op: DiskOp }): Promise<void> {
		disk.calls.push(call);
		await gate;
		const { lba = 0, blocks = 0 } = call;
		if (lba + blocks > disk.numBlocks) throw new MediumError("ERANGE");
		const plan = plans.find(
			({ failure, left }) => left > 0 && meets(failure, call),
		);
		if (!plan) return;
		plan.left--;
		throw new MediumError(plan.failure.errno);
	}

	const bytesOf = (lba: number, blocks: number): [number, number] => [
		lba * blockSize,
		(lba + blocks) * blockSize,
	];

	const disk: ByteDisk = {
		blockSize,
		physicalBlockSize: options.physicalBlockSize ?? blockSize,
		numBlocks,
		readonly: options.readonly ?? false,
		supports: {
			flush: true,
			unmap: true,
			writeZeroes: true,
			...options.supports,
		},
		identity: { ...IDENTITY, ...options.identity },
		maxBlocks: options.maxBlocks ?? (1 << 20) / blockSize,
		bytes: Buffer.alloc(numBlocks * blockSize),
		stable: Buffer.alloc(numBlocks * blockSize),
		mapped: new Uint8Array(numBlocks).fill(1),
		calls: [],
		async read(lba, blocks) {
			checkRange(lba, blocks, disk.maxBlocks);
			await enter({ op: "read", lba, blocks });
			return Buffer.from(disk.bytes.subarray(...bytesOf(lba, blocks)));
		},
		async write(lba, data, durable) {
			const blocks = data.length / blockSize;
			checkRange(lba, blocks, disk.maxBlocks);
			assert(!disk.readonly, "write to a read-only disk");
			await enter({ op: "write", lba, blocks, durable });
			disk.bytes.set(data, lba * blockSize);
			if (durable) disk.stable.set(data, lba * blockSize);
			disk.mapped.fill(1, lba, lba + blocks);
		},
		async flush() {
			await enter({ op: "flush" });
			disk.stable.set(disk.bytes);
		},
		async unmap(lba, blocks) {
			checkRange(lba, blocks, Number.MAX_SAFE_INTEGER);
			assert(!disk.readonly, "unmap of a read-only disk");
			await enter({ op: "unmap", lba, blocks });
			if (!disk.supports.unmap) throw new MediumError("EOPNOTSUPP");
			disk.bytes.fill(0, ...bytesOf(lba, blocks));
			disk.mapped.fill(0, lba, lba + blocks);
		},
		async writeZeroes(lba, blocks, mayUnmap) {
			checkRange(lba, blocks, Number.MAX_SAFE_INTEGER);
			assert(!disk.readonly, "write of zeroes to a read-only disk");
			await enter({ op: "writeZeroes", lba, blocks, mayUnmap });
			if (!disk.supports.writeZeroes) throw new MediumError("EOPNOTSUPP");
			disk.bytes.fill(0, ...bytesOf(lba, blocks));
			const unmaps = mayUnmap && disk.supports.unmap;
			disk.mapped.fill(unmaps ? 0 : 1, lba, lba + blocks);
		},
		extent(lba) {
			const value = disk.mapped[lba];
			assert(value !== undefined, "extent beyond the end");
			let end = lba + 1;
			while (end < disk.numBlocks && disk.mapped[end] === value) end++;
			return { blocks: end - lba, mapped: value === 1 };
		},
		exclusive(work) {
			const result = turn.then(async () => {
				disk.calls.push({ op: "exclusive" });
				try {
					return await work();
				} finally {
					disk.calls.push({ op: "end" });
				}
			});
			turn = result.catch(() => undefined);
			return result;
		},
		fail(failure) {
			plans.push({ failure, left: failure.times ?? Number.POSITIVE_INFINITY });
		},
		heal() {
			plans = [];
		},
		hold() {
			let release = () => {};
			gate = new Promise((resolve) => {
				release = resolve;
			});
			return () => release();
		},
		resize(blocks) {
			disk.bytes = resized(disk.bytes, blocks * blockSize);
			disk.stable = resized(disk.stable, blocks * blockSize);
			const mapped = new Uint8Array(blocks);
			mapped.set(disk.mapped.subarray(0, blocks));
			disk.mapped = mapped;
			disk.numBlocks = blocks;
		},
	};
	return disk;
}

function meets(failure: Failure, call: DiskCall): boolean {
	if (failure.op !== call.op) return false;
	if (failure.lba === undefined) return true;
	const { lba = 0, blocks = 0 } = call;
	return failure.lba >= lba && failure.lba < lba + blocks;
}

function checkRange(lba: number, blocks: number, most: number): void {
	assert(Number.isSafeInteger(lba) && lba >= 0, `lba ${lba}`);
	assert(
		Number.isSafeInteger(blocks) && blocks >= 1 && blocks <= most,
		`${blocks} blocks, at most ${most}`,
	);
}

function resized(bytes: Buffer, length: number): Buffer {
	const out = Buffer.alloc(length);
	bytes.copy(out, 0, 0, length);
	return out;
}
