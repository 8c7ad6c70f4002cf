// SPDX-License-Identifier: MIT
// Descriptors, memory of this process, and guests' memory.
import { Buffer } from "node:buffer";
import { decode, encode, LAYOUTS, type StructOf } from "../layout.ts";
import { check, library, NativeError, produce, produceStruct } from "./call.ts";

export type Iov = StructOf<"vhc_iov">;
export type Pages = StructOf<"vhc_pages">;

export interface Region {
	gpa: bigint;
	size: bigint;
	userAddr: bigint;
	fd: number;
	offset: bigint;
}

/** What a view shows: size bytes at userAddr of its table, as iova. */
export interface Piece {
	iova: bigint;
	size: bigint;
	userAddr: bigint;
	/** MEM_READ, MEM_WRITE, or both. */
	access: number;
}

/** The pieces that the library wrote to a buffer. */
export function decodeIov(buffer: Buffer, start: number, count: number): Iov[] {
	const { size } = LAYOUTS.vhc_iov;
	return Array.from({ length: count }, (_, i) =>
		decode("vhc_iov", buffer, start + i * size),
	);
}

export const memory = {
	abiVersion: () => library().call("vhc_abi_version"),
	abiSizes: () => {
		const sizes = Buffer.alloc(4 * 256);
		const count = check("vhc_abi_sizes", sizes, 256);
		return Array.from({ length: count }, (_, i) => sizes.readUInt32LE(4 * i));
	},

	fdClose: (fd: number) => check("vhc_fd_close", fd),
	fdLock: (fd: number) => check("vhc_fd_lock", fd),
	/** How many bytes it took; EAGAIN: none. */
	fdTryWrite: (fd: number, data: Uint8Array) =>
		check("vhc_fd_try_write", fd, data, data.length),

	eventfd: () => check("vhc_eventfd"),
	/** False: there was nothing, or somebody else had it. */
	eventfdTake: (fd: number) => check("vhc_eventfd_take", fd) === 1,
	eventfdSignal: (fd: number) => check("vhc_eventfd_signal", fd),

	copyOut: (addr: bigint, len: number) => {
		const buffer = Buffer.alloc(len);
		library().call("vhc_copy_out", addr, buffer, len);
		return buffer;
	},
	copyIn: (addr: bigint, data: Uint8Array) =>
		library().call("vhc_copy_in", addr, data, data.length),

	/** A view of memory of this process, for memory that is never unmapped. */
	pointer: (addr: bigint, len: number) => library().view(addr, len),

	pagesAlloc: (o: {
		size: bigint;
		/** Bytes; 0: transparent hugepages. */
		pageSize: bigint;
		node?: number;
		fileFd?: number;
		flags?: number;
	}): Pages =>
		produceStruct("vhc_pages", (out) =>
			check(
				"vhc_pages_alloc",
				o.size,
				o.pageSize,
				o.node ?? -1,
				o.fileFd ?? -1,
				o.flags ?? 0,
				out,
			),
		),
	/** `theirs.fd` is the descriptor that came. */
	pagesAdopt: (theirs: Pages): Pages =>
		produceStruct("vhc_pages", (out) =>
			check("vhc_pages_adopt", encode("vhc_pages", theirs), out),
		),
	pagesFree: (pages: Pages) =>
		check("vhc_pages_free", encode("vhc_pages", pages)),

	memCreate: () => produce((out) => check("vhc_mem_create", out)),
	memAddRegion: (mem: bigint, r: Region) =>
		check("vhc_mem_add_region", mem, r.gpa, r.size, r.userAddr, r.fd, r.offset),
	memClone: (mem: bigint) => produce((out) => check("vhc_mem_clone", mem, out)),
	memRemoveRegion: (
		mem: bigint,
		r: Pick<Region, "gpa" | "size" | "userAddr">,
	) => check("vhc_mem_remove_region", mem, r.gpa, r.size, r.userAddr),
	memCreateView: (mem: bigint) =>
		produce((out) => check("vhc_mem_create_view", mem, out)),
	memShow: (view: bigint, p: Piece) =>
		check("vhc_mem_show", view, p.iova, p.size, p.userAddr, p.access),
	memHide: (view: bigint, iova: bigint, size: bigint) =>
		check("vhc_mem_hide", view, iova, size),
	/** Undefined if it cannot be told. */
	memNode: (mem: bigint, userAddr: bigint): number | undefined => {
		const node = library().call("vhc_mem_node", mem, userAddr);
		if (node < -1) throw new NativeError("vhc_mem_node", -node);
		return node < 0 ? undefined : node;
	},

	userfaultOpen: () => check("vhc_userfault_open"),

	memCatchFaults: (mem: bigint, fd: number) =>
		check("vhc_mem_catch_faults", mem, fd),
	memTranslate: (mem: bigint, gpa: bigint, len: bigint, max: number): Iov[] => {
		const iov = Buffer.alloc(LAYOUTS.vhc_iov.size * max);
		const count = check("vhc_mem_translate", mem, gpa, len, iov, max);
		return decodeIov(iov, 0, count);
	},
	memTranslateUser: (mem: bigint, userAddr: bigint, len: bigint) =>
		produce((out) => check("vhc_mem_translate_user", mem, userAddr, len, out)),
	memFaulted: (mem: bigint) => check("vhc_mem_faulted", mem) === 1,
	memRelease: (mem: bigint) => library().call("vhc_mem_release", mem),

	logCreate: (o: {
		fd: number;
		offset: bigint;
		size: bigint;
		/** An eventfd; -1: none. */
		signalFd: number;
	}) =>
		produce((out) =>
			check("vhc_log_create", o.fd, o.offset, o.size, o.signalFd, out),
		),
	logMark: (log: bigint, gpa: bigint, len: bigint) =>
		check("vhc_log_mark", log, gpa, len),
	logRelease: (log: bigint) => library().call("vhc_log_release", log),
};
