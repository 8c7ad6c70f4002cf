// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import {
	decode,
	encode,
	LAYOUTS,
	type LayoutName,
	type StructOf,
} from "./layout.ts";
import { type Library, libraryPath, openLibrary } from "./library.ts";
import type { Args, SymbolName } from "./symbols.ts";

export const PAGES_PLAIN = 0;
export const PAGES_THP = 1;
export const PAGES_HUGETLB = 2;
export const PAGES_SHARED = 1;
export const PAGES_FALLBACK = 2;
export const MEM_MAX_REGIONS = 512;
export const MEM_MAX_PIECES = 65536;
export const MEM_READ = 1;
export const MEM_WRITE = 2;
export const INFLIGHT_MAX_QUEUES = 1024;
export const RING_MAX_SIZE = 32768;
export const RING_BASE_PACKED = 0x8000_8000;
export const FILE_READONLY = 1;
export const FILE_BLOCK_DEVICE = 2;
export const BLK_READONLY = 1;
export const MODE_ADAPTIVE = 0;
export const MODE_POLL = 1;
export const MODE_INTERRUPT = 2;

export const UPCALL_ACCEPTED = 1;
export const UPCALL_MESSAGE = 2;
export const UPCALL_CLOSED = 3;
export const UPCALL_RING_STOPPED = 4;
export const UPCALL_RING_BROKEN = 5;
export const UPCALL_LOAD_DONE = 6;
export const UPCALL_REQUEST = 7;
export const UPCALL_LUN_IDLE = 8;
export const UPCALL_ABORTED = 9;
export const UPCALL_IO_DONE = 10;
export const UPCALL_IOTLB_MISS = 11;
export const UPCALL_MALFORMED = 12;

export const BREAK_AVAIL_INDEX = 1;
export const BREAK_HEAD_RANGE = 2;
export const BREAK_HEAD_TWICE = 3;
export const BREAK_CHAIN_LONG = 4;
export const BREAK_USED_FULL = 5;
export const BREAK_MEMORY = 6;
export const BREAK_LOG = 7;
export const BREAK_CALL = 8;

export const DAMAGE_VERSION = 1;
export const DAMAGE_DESC_NUM = 2;
export const DAMAGE_BATCH = 3;
export const DAMAGE_INFLIGHT = 4;
export const DAMAGE_USED = 5;
export const DAMAGE_FREE = 6;
export const DAMAGE_CHAIN = 7;

export const OP_READ = 0;
export const OP_WRITE = 1;
export const OP_FLUSH = 2;
export const OP_UNMAP = 3;
export const OP_WRITE_ZEROES = 4;
export const TRACE_MIN_SIZE = 64;
export const TRACE_MAX_SIZE = 65536;
export const TRACE_NOWHERE = 0xffff_ffff;
export const TRACE_UP = 1;
export const TRACE_QUIET = 2;
export const IO_DURABLE = 1;
export const IO_MAY_UNMAP = 2;
export const EXECUTE_DURABLE = 1;
export const EXECUTE_HELD = 2;

export const GATE_RUN = 0;
export const GATE_ASK = 1;
export const GATE_CONFLICT = 2;
export const ABORT_ALL_LUNS = 1;
export const ABORT_BY_TAG = 2;
export const ABORT_QUERY = 4;
export const SCSI_TARGETS = 256;
export const SCSI_LUNS = 256;
export const SCSI_MAX_CDB = 260;

export const LOAD_BLK = 0;
export const LOAD_SCSI = 1;

const ERRNO_NAMES = new Map(
	// EAGAIN is EWOULDBLOCK too: the first name is the one to use.
	Object.entries(constants.errno)
		.reverse()
		.map(([name, number]) => [number, name]),
);

/** The name of a positive errno, "E12345" for one the system does not name. */
export function errnoName(errno: number): string {
	return ERRNO_NAMES.get(errno) ?? `E${errno}`;
}

/** A function of the library failed. */
export class NativeError extends Error {
	override readonly name = "NativeError";
	/** Positive. */
	readonly errno: number;
	/** "ENOENT". */
	readonly code: string;
	/** The C function. */
	readonly call: string;

	constructor(call: string, errno: number) {
		const code = errnoName(errno);
		const [, text = code] = getSystemErrorMap().get(-errno) ?? [];
		super(`${text} (${call}: ${code})`);
		this.call = call;
		this.errno = errno;
		this.code = code;
	}
}

let opened: Library | undefined;

function library(): Library {
	opened ??= openLibrary(libraryPath());
	return opened;
}

/** Calls and returns the count; a negative result throws. */
function check<N extends SymbolName>(name: N, ...args: Args<N>): number {
	const result = Number(library().call(name, ...args));
	if (result < 0) throw new NativeError(name, -result);
	return result;
}

/** Calls what writes one handle or address to its last parameter. */
function produce(make: (out: Buffer) => number): bigint {
	const out = Buffer.alloc(8);
	make(out);
	return out.readBigUInt64LE();
}

function produceStruct<N extends LayoutName>(
	name: N,
	make: (out: Buffer) => number,
): StructOf<N> {
	const out = Buffer.alloc(LAYOUTS[name].size);
	make(out);
	return decode(name, out);
}

export type Iov = StructOf<"vhc_iov">;
export type Pages = StructOf<"vhc_pages">;

/** A chain popped from a ring: the pieces that the device reads, and writes. */
export interface Chain {
	head: number;
	out: Iov[];
	in: Iov[];
	outLength: bigint;
	inLength: bigint;
}

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

function decodeIov(buffer: Buffer, start: number, count: number): Iov[] {
	const { size } = LAYOUTS.vhc_iov;
	return Array.from({ length: count }, (_, i) =>
		decode("vhc_iov", buffer, start + i * size),
	);
}

function decodeChain(buffer: Buffer): Chain {
	const chain = decode("vhc_chain", buffer);
	const { size } = LAYOUTS.vhc_iov;
	const start = LAYOUTS.vhc_chain.offsets.iov;
	return {
		head: chain.head,
		out: decodeIov(buffer, start, chain.num_out),
		in: decodeIov(buffer, start + chain.num_out * size, chain.num_in),
		outLength: chain.out_len,
		inLength: chain.in_len,
	};
}

function packHandles(handles: readonly bigint[]): Buffer {
	const buffer = Buffer.alloc(8 * handles.length);
	for (const [i, handle] of handles.entries())
		buffer.writeBigUInt64LE(handle, 8 * i);
	return buffer;
}

function packFds(fds: readonly number[]): Buffer {
	const buffer = Buffer.alloc(4 * fds.length);
	for (const [i, fd] of fds.entries()) buffer.writeInt32LE(fd, 4 * i);
	return buffer;
}

/**
 * The library's functions by their names without "vhc_"; c/include/vhostctl.h
 * tells what each does. The library is opened by the first call. A negative
 * result is thrown as NativeError; a library that does not fit as LibraryError.
 */
export const native = {
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

	statsAlloc: () => produce((out) => check("vhc_stats_alloc", out)),
	statsFree: (addr: bigint) => library().call("vhc_stats_free", addr),

	/** size: a power of two from TRACE_MIN_SIZE to TRACE_MAX_SIZE. */
	traceCreate: (size: number) =>
		produce((out) => check("vhc_trace_create", size, out)),
	/** The last records, up to max, oldest first, and what time it is. */
	traceRead: (trace: bigint, max: number) => {
		const bytes = LAYOUTS.vhc_trace_record.size;
		const records = Buffer.alloc(max * bytes);
		const now = Buffer.alloc(8);
		const n = check("vhc_trace_read", trace, records, max, now);
		return {
			nowNs: now.readBigUInt64LE(),
			records: Array.from({ length: n }, (_, i) =>
				decode("vhc_trace_record", records, i * bytes),
			),
		};
	},
	traceRelease: (trace: bigint) => library().call("vhc_trace_release", trace),

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

	inflightBytes: (numQueues: number, queueSize: number, packed: boolean) =>
		BigInt(check("vhc_inflight_bytes", numQueues, queueSize, packed ? 1 : 0)),
	inflightCreate: (config: StructOf<"vhc_inflight_config">) =>
		produce((out) =>
			check("vhc_inflight_create", encode("vhc_inflight_config", config), out),
		),
	/** enum vhc_damage, or 0. */
	inflightDamage: (inflight: bigint): number =>
		library().call("vhc_inflight_damage", inflight),
	inflightRelease: (inflight: bigint) =>
		library().call("vhc_inflight_release", inflight),

	ringCreate: (config: StructOf<"vhc_ring_config">) =>
		produce((out) =>
			check("vhc_ring_create", encode("vhc_ring_config", config), out),
		),
	/** The next chain, or undefined if none waits. */
	ringPop: (ring: bigint): Chain | undefined => {
		const chain = Buffer.alloc(LAYOUTS.vhc_chain.size);
		const found = check("vhc_ring_pop", ring, chain) === 1;
		return found ? decodeChain(chain) : undefined;
	},
	ringPush: (ring: bigint, head: number, len: number) =>
		check("vhc_ring_push", ring, head, len),
	/** trace: 0n for none. */
	ringSetTrace: (ring: bigint, trace: bigint) =>
		check("vhc_ring_set_trace", ring, trace),
	ringSignal: (ring: bigint) => check("vhc_ring_signal", ring) === 1,
	ringNotify: (ring: bigint, enable: boolean) =>
		check("vhc_ring_notify", ring, enable ? 1 : 0) === 1,
	ringBase: (ring: bigint) => library().call("vhc_ring_base", ring),
	ringRelease: (ring: bigint) => library().call("vhc_ring_release", ring),

	driverRingLayout: (size: number, features: bigint) =>
		produceStruct("vhc_driver_ring_layout", (out) =>
			check("vhc_driver_ring_layout", size, features, out),
		),
	driverRingCreate: (config: Partial<StructOf<"vhc_driver_ring_config">>) =>
		produce((out) =>
			check(
				"vhc_driver_ring_create",
				encode("vhc_driver_ring_config", config),
				out,
			),
		),
	driverRingAdd: (
		ring: bigint,
		out: readonly Iov[],
		into: readonly Iov[],
		token: bigint,
	) =>
		check(
			"vhc_driver_ring_add",
			ring,
			Buffer.concat([...out, ...into].map((iov) => encode("vhc_iov", iov))),
			out.length,
			into.length,
			token,
		),
	driverRingKick: (ring: bigint) => check("vhc_driver_ring_kick", ring) === 1,
	/** The next used chain, or undefined if there is none. */
	driverRingGet: (ring: bigint): { token: bigint; len: number } | undefined => {
		const token = Buffer.alloc(8);
		const len = Buffer.alloc(4);
		if (check("vhc_driver_ring_get", ring, token, len) === 0) return undefined;
		return { token: token.readBigUInt64LE(), len: len.readUInt32LE() };
	},
	driverRingWait: (ring: bigint, timeoutMs: number) =>
		check("vhc_driver_ring_wait", ring, timeoutMs) === 1,
	driverRingRelease: (ring: bigint) =>
		library().call("vhc_driver_ring_release", ring),

	upcallsCreate: () => {
		const info = Buffer.alloc(LAYOUTS.vhc_upcalls_info.size);
		const handle = produce((out) => check("vhc_upcalls_create", out, info));
		const { slots, fd } = decode("vhc_upcalls_info", info);
		return { handle, slots, fd };
	},
	upcallsAdvance: (upcalls: bigint, consumed: number) =>
		check("vhc_upcalls_advance", upcalls, consumed),
	upcallsRelease: (upcalls: bigint) =>
		library().call("vhc_upcalls_release", upcalls),

	socketListen: (path: string, mode: number) =>
		check("vhc_socket_listen", path, mode),
	socketConnect: (path: string) => check("vhc_socket_connect", path),
	socketPair: (): [number, number] => {
		const fds = Buffer.alloc(8);
		check("vhc_socket_pair", fds);
		return [fds.readInt32LE(0), fds.readInt32LE(4)];
	},
	socketPeerUid: (fd: number) => {
		const uid = Buffer.alloc(4);
		check("vhc_socket_peer_uid", fd, uid);
		return uid.readUInt32LE();
	},

	transportCreate: (upcalls: bigint) =>
		produce((out) => check("vhc_transport_create", upcalls, out)),
	transportListen: (transport: bigint, fd: number) =>
		check("vhc_transport_listen", transport, fd),
	transportConnect: (transport: bigint, fd: number) =>
		check("vhc_transport_connect", transport, fd),
	transportNext: (transport: bigint, id: number) =>
		check("vhc_transport_next", transport, id),
	transportSend: (
		transport: bigint,
		id: number,
		message: Uint8Array,
		fds: readonly number[] = [],
	) =>
		check(
			"vhc_transport_send",
			transport,
			id,
			message,
			message.length,
			packFds(fds),
			fds.length,
		),
	transportClose: (transport: bigint, id: number) =>
		check("vhc_transport_close", transport, id),
	/** Returns the descriptor. */
	transportTake: (transport: bigint, id: number) =>
		check("vhc_transport_take", transport, id),
	transportRelease: (transport: bigint) =>
		library().call("vhc_transport_release", transport),

	bdevNullCreate: (blockSize: number, numBlocks: bigint) =>
		produce((out) => check("vhc_bdev_null_create", blockSize, numBlocks, out)),
	bdevMallocCreate: (pages: Pages, blockSize: number, numBlocks: bigint) =>
		produce((out) =>
			check(
				"vhc_bdev_malloc_create",
				encode("vhc_pages", pages),
				blockSize,
				numBlocks,
				out,
			),
		),
	fileAlignment: (fd: number) =>
		produceStruct("vhc_file_align", (out) =>
			check("vhc_file_alignment", fd, out),
		),
	bdevFileCreate: (config: StructOf<"vhc_file_config">) =>
		produce((out) =>
			check("vhc_bdev_file_create", encode("vhc_file_config", config), out),
		),
	bdevResize: (bdev: bigint, numBlocks: bigint) =>
		check("vhc_bdev_resize", bdev, numBlocks),
	bdevMallocMove: (bdev: bigint, pages: Pages, numBlocks: bigint) =>
		check("vhc_bdev_malloc_move", bdev, encode("vhc_pages", pages), numBlocks),
	/** Returns how many pages of 4 KiB were copied. */
	bdevMallocCopy: (bdev: bigint, pages: Pages, offset: bigint, len: bigint) =>
		check(
			"vhc_bdev_malloc_copy",
			bdev,
			encode("vhc_pages", pages),
			offset,
			len,
		),
	bdevMallocSaveMap: (bdev: bigint, fd: number) =>
		check("vhc_bdev_malloc_save_map", bdev, fd),
	bdevMallocLoadMap: (bdev: bigint, fd: number) =>
		check("vhc_bdev_malloc_load_map", bdev, fd),
	bdevExtent: (bdev: bigint, offset: bigint): StructOf<"vhc_extent"> =>
		produceStruct("vhc_extent", (out) =>
			check("vhc_bdev_extent", bdev, offset, out),
		),
	bdevSetQos: (bdev: bigint, limits: StructOf<"vhc_qos_limits">) =>
		check("vhc_bdev_set_qos", bdev, encode("vhc_qos_limits", limits)),
	bdevPassthruCreate: (base: bigint, firstBlock: bigint, numBlocks: bigint) =>
		produce((out) =>
			check("vhc_bdev_passthru_create", base, firstBlock, numBlocks, out),
		),
	bdevDelayCreate: (base: bigint) =>
		produce((out) => check("vhc_bdev_delay_create", base, out)),
	bdevDelaySet: (bdev: bigint, which: number, ns: bigint) =>
		check("vhc_bdev_delay_set", bdev, which, ns),
	bdevErrorCreate: (base: bigint) =>
		produce((out) => check("vhc_bdev_error_create", base, out)),
	bdevErrorInject: (
		bdev: bigint,
		ops: number,
		rule: StructOf<"vhc_error_rule">,
	) =>
		check("vhc_bdev_error_inject", bdev, ops, encode("vhc_error_rule", rule)),
	bdevErrorResume: (bdev: bigint) => check("vhc_bdev_error_resume", bdev),
	bdevErrorLeft: (bdev: bigint, op: number) =>
		Number(library().call("vhc_bdev_error_left", bdev, op)),
	bdevErrorHanging: (bdev: bigint) =>
		Number(library().call("vhc_bdev_error_hanging", bdev)),
	bdevSetHolding: (bdev: bigint, holding: boolean) =>
		library().call("vhc_bdev_set_holding", bdev, holding ? 1 : 0),
	bdevRebase: (bdev: bigint, base: bigint) =>
		check("vhc_bdev_rebase", bdev, base),
	bdevSetStats: (bdev: bigint, reactorIndex: number, stats: bigint) =>
		check("vhc_bdev_set_stats", bdev, reactorIndex, stats),
	bdevRelease: (bdev: bigint) => library().call("vhc_bdev_release", bdev),

	blkCreate: (config: StructOf<"vhc_blk_config">) =>
		produce((out) =>
			check("vhc_blk_create", encode("vhc_blk_config", config), out),
		),
	blkSetWriteback: (blk: bigint, writeback: boolean) =>
		library().call("vhc_blk_set_writeback", blk, writeback ? 1 : 0),
	blkRelease: (blk: bigint) => library().call("vhc_blk_release", blk),

	lunCreate: (config: StructOf<"vhc_lun_config">) =>
		produce((out) =>
			check("vhc_lun_create", encode("vhc_lun_config", config), out),
		),
	lunSetGates: (lun: bigint, read: number, write: number) =>
		library().call("vhc_lun_set_gates", lun, read, write),
	lunSetWriteback: (lun: bigint, writeback: boolean) =>
		library().call("vhc_lun_set_writeback", lun, writeback ? 1 : 0),
	lunRelease: (lun: bigint) => library().call("vhc_lun_release", lun),

	/** What the device may read of a request, from offset on, up to len bytes. */
	requestRead: (request: bigint, offset: number, len: number): Buffer => {
		const buffer = Buffer.alloc(len);
		if (len === 0) return buffer;
		const count = check(
			"vhc_request_read",
			request,
			BigInt(offset),
			buffer,
			len,
		);
		return buffer.subarray(0, count);
	},
	/** Returns how many bytes of data found room. */
	requestWrite: (request: bigint, offset: number, data: Uint8Array): number =>
		data.length === 0
			? 0
			: check("vhc_request_write", request, BigInt(offset), data, data.length),
	requestComplete: (
		request: bigint,
		result: Partial<StructOf<"vhc_scsi_result">>,
	) =>
		library().call(
			"vhc_request_complete",
			request,
			encode("vhc_scsi_result", result),
		),
	requestCompleteRaw: (request: bigint, written: number) =>
		library().call("vhc_request_complete_raw", request, written),
	requestExecute: (
		request: bigint,
		op: number,
		flags: number,
		offset: bigint,
		len: bigint,
	) => library().call("vhc_request_execute", request, op, flags, offset, len),

	reactorCreate: (
		upcalls: bigint,
		config: StructOf<"vhc_reactor_config">,
	): { handle: bigint; stats: bigint } => {
		const stats = Buffer.alloc(8);
		const packed = encode("vhc_reactor_config", config);
		const handle = produce((out) =>
			check("vhc_reactor_create", upcalls, packed, out, stats),
		);
		return { handle, stats: stats.readBigUInt64LE() };
	},
	reactorStartBlkRing: (
		reactor: bigint,
		ring: bigint,
		blk: bigint,
		bdevStats: bigint,
	) => check("vhc_reactor_start_blk_ring", reactor, ring, blk, bdevStats),
	reactorStartScsiRing: (
		reactor: bigint,
		ring: bigint,
		config: StructOf<"vhc_scsi_config">,
	) =>
		check(
			"vhc_reactor_start_scsi_ring",
			reactor,
			ring,
			encode("vhc_scsi_config", config),
		),
	reactorStartRawRing: (reactor: bigint, ring: bigint) =>
		check("vhc_reactor_start_raw_ring", reactor, ring),
	reactorStartEventRing: (reactor: bigint, ring: bigint) =>
		check("vhc_reactor_start_event_ring", reactor, ring),
	/** event: 16 bytes. False: there was no buffer for it. */
	reactorSendEvent: (reactor: bigint, ring: bigint, event: Uint8Array) =>
		check("vhc_reactor_send_event", reactor, ring, event) === 1,
	reactorAttachLun: (
		reactor: bigint,
		ring: bigint,
		address: number,
		lun: bigint,
		bdevStats: bigint,
	) => check("vhc_reactor_attach_lun", reactor, ring, address, lun, bdevStats),
	reactorHoldLun: (reactor: bigint, ring: bigint, address: number) =>
		check("vhc_reactor_hold_lun", reactor, ring, address),
	reactorResumeLun: (reactor: bigint, ring: bigint, address: number) =>
		check("vhc_reactor_resume_lun", reactor, ring, address),
	reactorDetachLun: (reactor: bigint, ring: bigint, address: number) =>
		check("vhc_reactor_detach_lun", reactor, ring, address),
	reactorAbort: (reactor: bigint, ring: bigint, abort: StructOf<"vhc_abort">) =>
		check("vhc_reactor_abort", reactor, ring, encode("vhc_abort", abort)),
	reactorSetMem: (
		reactor: bigint,
		ring: bigint,
		mem: bigint,
		refuse: boolean,
	) => check("vhc_reactor_set_mem", reactor, ring, mem, refuse ? 1 : 0),
	reactorSetCoalescing: (
		reactor: bigint,
		ring: bigint,
		delayBaseNs: bigint,
		iopsThreshold: bigint,
	) =>
		check(
			"vhc_reactor_set_coalescing",
			reactor,
			ring,
			delayBaseNs,
			iopsThreshold,
		),
	ioSubmit: (reactor: bigint, config: Partial<StructOf<"vhc_io_config">>) =>
		check("vhc_io_submit", reactor, encode("vhc_io_config", config)),
	/** Also of one that has ended. */
	ioCancel(reactor: bigint, id: number): void {
		try {
			check("vhc_io_cancel", reactor, id);
		} catch (error) {
			if (!(error instanceof NativeError && error.code === "ENOENT"))
				throw error;
		}
	},
	reactorStopRing: (reactor: bigint, ring: bigint) =>
		check("vhc_reactor_stop_ring", reactor, ring),
	reactorRelease: (reactor: bigint) => check("vhc_reactor_release", reactor),

	loadBufferBytes: (
		device: number,
		blockSize: number,
		iodepth: number,
		numRings: number,
	) =>
		BigInt(
			check("vhc_load_buffer_bytes", device, blockSize, iodepth, numRings),
		),
	loadCreate: (
		upcalls: bigint,
		config: Partial<StructOf<"vhc_load_config">>,
		rings: readonly bigint[],
	) => {
		const packed = encode("vhc_load_config", config);
		return produce((out) =>
			check(
				"vhc_load_create",
				upcalls,
				packed,
				packHandles(rings),
				rings.length,
				out,
			),
		);
	},
	loadStart: (load: bigint) => check("vhc_load_start", load),
	loadStop: (load: bigint) => library().call("vhc_load_stop", load),
	loadResult: (load: bigint) =>
		produceStruct("vhc_load_result", (out) =>
			check("vhc_load_result", load, out),
		),
	loadRelease: (load: bigint) => library().call("vhc_load_release", load),
};
