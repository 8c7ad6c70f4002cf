// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";

/** A field: a scalar, an array of them, or an array of structs. */
type Scalar = "u8" | "u32" | "i32" | "u64";
type Field = Scalar | readonly [Scalar | Layout<Fields>, number];
type Fields = Readonly<Record<string, Field>>;

/** Where the fields of a C struct lie, by the rules of the C ABI. */
export interface Layout<F extends Fields> {
	readonly fields: F;
	readonly offsets: { readonly [K in keyof F]: number };
	/** In bytes, with the padding at the end. */
	readonly size: number;
	readonly align: number;
}

type Value<T> = T extends "u64"
	? bigint
	: T extends Scalar
		? number
		: T extends readonly ["u8", number]
			? Uint8Array
			: T extends readonly ["u64", number]
				? bigint[]
				: T extends readonly [Scalar, number]
					? number[]
					: never;

/** The values of a struct's fields; arrays of structs are read by offset instead. */
export type Struct<L> =
	L extends Layout<infer F>
		? {
				[K in keyof F as F[K] extends readonly [Layout<Fields>, number]
					? never
					: K]: Value<F[K]>;
			}
		: never;

const SIZES = { u8: 1, u32: 4, i32: 4, u64: 8 } as const;

function measure(field: Field): { size: number; align: number } {
	if (typeof field === "string")
		return { size: SIZES[field], align: SIZES[field] };
	const [element, count] = field;
	const { size, align } =
		typeof element === "string" ? measure(element) : element;
	return { size: size * count, align };
}

function roundUp(value: number, align: number): number {
	return Math.ceil(value / align) * align;
}

function struct<const F extends Fields>(fields: F): Layout<F> {
	let end = 0;
	let widest = 1;
	const offsets: Record<string, number> = {};
	for (const [name, field] of Object.entries(fields)) {
		const { size, align } = measure(field);
		offsets[name] = roundUp(end, align);
		end = offsets[name] + size;
		widest = Math.max(widest, align);
	}
	return {
		fields,
		offsets: offsets as Layout<F>["offsets"],
		size: roundUp(end, widest),
		align: widest,
	};
}

export const HIST_BUCKETS = 1152;
export const NUM_OPS = 6;
export const MSG_MAX = 4096;
export const MSG_MAX_FDS = 32;
export const UPCALL_SLOTS = 256;
export const CHAIN_MAX_IOV = 258;
export const SCSI_MAX_SENSE = 252;

const vhc_iov = struct({ addr: "u64", len: "u64" });

const vhc_op_stats = struct({
	count: "u64",
	bytes: "u64",
	errors: "u64",
	latency_ns: "u64",
	hist: ["u64", HIST_BUCKETS],
});

/** The public structs of vhostctl.h, in the order of their definition there. */
export const LAYOUTS = {
	vhc_pages: struct({
		addr: "u64",
		size: "u64",
		page_size: "u64",
		fd: "i32",
		node: "i32",
		kind: "u32",
		reserved: "u32",
	}),
	vhc_iov,
	vhc_op_stats,
	vhc_stats: struct({
		kicks: "u64",
		kicks_suppressed: "u64",
		calls: "u64",
		calls_suppressed: "u64",
		batches: "u64",
		busy_ns: "u64",
		inflight: "u64",
		calls_delayed: "u64",
		op: [vhc_op_stats, NUM_OPS],
		malformed: "u64",
	}),
	vhc_reactor_stats: struct({
		busy_ns: "u64",
		idle_ns: "u64",
		sleep_ns: "u64",
		loops: "u64",
		wakeups: "u64",
		rings: "u64",
		polled: "u64",
		tid: "u64",
	}),
	vhc_trace_record: struct({
		number: "u64",
		offset: "u64",
		len: "u64",
		tag: "u64",
		kicked: "u64",
		taken: "u64",
		submitted: "u64",
		completed: "u64",
		published: "u64",
		called: "u64",
		batch: "u32",
		op: "u32",
		result: "i32",
		head: "u32",
		address: "u32",
		flags: "u32",
		opcode: "u8",
		status: "u8",
		response: "u8",
		sense_key: "u8",
		asc: "u8",
		ascq: "u8",
		reserved: ["u8", 2],
	}),
	vhc_inflight_config: struct({
		offset: "u64",
		size: "u64",
		fd: "i32",
		num_queues: "u32",
		queue_size: "u32",
		packed: "u32",
	}),
	vhc_ring_config: struct({
		mem: "u64",
		features: "u64",
		desc: "u64",
		avail: "u64",
		used: "u64",
		stats: "u64",
		inflight: "u64",
		log: "u64",
		log_used: "u64",
		size: "u32",
		base: "u32",
		index: "u32",
		kick_fd: "i32",
		call_fd: "i32",
		err_fd: "i32",
		id: "u32",
		reserved: "u32",
	}),
	vhc_chain: struct({
		head: "u32",
		num_out: "u32",
		num_in: "u32",
		reserved: "u32",
		out_len: "u64",
		in_len: "u64",
		iov: [vhc_iov, CHAIN_MAX_IOV],
	}),
	vhc_driver_ring_config: struct({
		addr: "u64",
		features: "u64",
		stats: "u64",
		gpa_delta: "u64",
		size: "u32",
		kick_fd: "i32",
		call_fd: "i32",
		reserved: "u32",
	}),
	vhc_driver_ring_layout: struct({ avail: "u64", used: "u64", bytes: "u64" }),
	vhc_upcall: struct({
		type: "u32",
		id: "u32",
		status: "i32",
		len: "u32",
		arg: "u64",
		num_fds: "u32",
		reserved: "u32",
		fds: ["i32", MSG_MAX_FDS],
		data: ["u8", MSG_MAX + 16],
	}),
	vhc_upcalls_info: struct({ slots: "u64", fd: "i32", reserved: "u32" }),
	vhc_file_config: struct({
		fd: "i32",
		direct_fd: "i32",
		block_size: "u32",
		flags: "u32",
		num_blocks: "u64",
	}),
	vhc_file_align: struct({ memory: "u32", offset: "u32" }),
	vhc_extent: struct({ len: "u64", mapped: "u32", reserved: "u32" }),
	vhc_qos_limits: struct({
		ios: "u64",
		bytes: "u64",
		read_bytes: "u64",
		write_bytes: "u64",
	}),
	vhc_error_rule: struct({
		queue_depth: "u64",
		offset: "u64",
		len: "u64",
		seed: "u64",
		corrupt_offset: "u64",
		kind: "u32",
		num: "u32",
		chance: "u32",
		corrupt_value: "u32",
	}),
	vhc_blk_config: struct({
		bdev: "u64",
		features: "u64",
		flags: "u32",
		max_discard_sectors: "u32",
		max_discard_segments: "u32",
		max_write_zeroes_sectors: "u32",
		max_write_zeroes_segments: "u32",
		serial: ["u8", 20],
	}),
	vhc_scsi_config: struct({ cdb_size: "u32", sense_size: "u32" }),
	vhc_lun_config: struct({
		bdev: "u64",
		read_gate: "u32",
		write_gate: "u32",
		writeback: "u32",
		max_blocks: "u32",
		max_unmap: "u32",
		max_write_same: "u32",
	}),
	vhc_request_info: struct({
		out_len: "u64",
		in_len: "u64",
		tag: "u64",
		lun: ["u8", 8],
		task_attr: "u32",
		cdb_len: "u32",
		copied: "u32",
		held: "u32",
		cdb: ["u8", 264],
	}),
	vhc_scsi_result: struct({
		response: "u32",
		status: "u32",
		residual: "u32",
		written: "u32",
		sense_len: "u32",
		sense: ["u8", SCSI_MAX_SENSE],
	}),
	vhc_reactor_config: struct({
		cpu: "i32",
		mode: "u32",
		spin_ns: "u64",
		index: "u32",
		reserved: "u32",
	}),
	vhc_abort: struct({
		tag: "u64",
		flags: "u32",
		address: "u32",
		response: "u32",
		cookie: "u32",
	}),
	vhc_io_config: struct({
		bdev: "u64",
		stats: "u64",
		addr: "u64",
		offset: "u64",
		len: "u64",
		op: "u32",
		flags: "u32",
		id: "u32",
		reserved: "u32",
	}),
	vhc_load_config: struct({
		stats: "u64",
		buffers: "u64",
		buffers_len: "u64",
		gpa_delta: "u64",
		offset: "u64",
		size: "u64",
		ios: "u64",
		runtime_ns: "u64",
		seed: "u64",
		rw: "u32",
		block_size: "u32",
		iodepth: "u32",
		rwmix_read: "u32",
		verify: "u32",
		mode: "u32",
		cpu: "i32",
		id: "u32",
		device: "u32",
		address: "u32",
		lba_size: "u32",
		rate: "u32",
	}),
	vhc_load_result: struct({
		elapsed_ns: "u64",
		verified: "u64",
		verify_errors: "u64",
		first_bad: "u64",
		cpu_ns: "u64",
	}),
} as const;

export type LayoutName = keyof typeof LAYOUTS;
export type StructOf<N extends LayoutName> = Struct<(typeof LAYOUTS)[N]>;

/** Bytes of a field. */
export function fieldSize(layout: Layout<Fields>, name: string): number {
	const field = layout.fields[name];
	if (field === undefined) throw new TypeError(`no field ${name}`);
	return measure(field).size;
}

function writeScalar(
	view: Buffer,
	type: Scalar,
	at: number,
	value: number | bigint,
): void {
	if (type === "u64")
		view.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at);
	else if (type === "i32") view.writeInt32LE(Number(value), at);
	else if (type === "u32") view.writeUInt32LE(Number(value), at);
	else view.writeUInt8(Number(value), at);
}

function readScalar(view: Buffer, type: Scalar, at: number): number | bigint {
	if (type === "u64") return view.readBigUInt64LE(at);
	if (type === "i32") return view.readInt32LE(at);
	if (type === "u32") return view.readUInt32LE(at);
	return view.readUInt8(at);
}

/** Packs a struct; fields not given are zero. Values out of range throw RangeError. */
export function encode<N extends LayoutName>(
	name: N,
	values: Partial<StructOf<N>>,
): Buffer {
	const layout: Layout<Fields> = LAYOUTS[name];
	const view = Buffer.alloc(layout.size);
	for (const [key, value] of Object.entries(values)) {
		const field = layout.fields[key];
		const at = layout.offsets[key];
		if (field === undefined || at === undefined)
			throw new TypeError(`struct ${name} has no field ${key}`);
		if (typeof field === "string") {
			writeScalar(view, field, at, value as number | bigint);
			continue;
		}
		const [element, count] = field;
		const items = value as ArrayLike<number | bigint>;
		if (typeof element !== "string" || items.length > count)
			throw new RangeError(`struct ${name}: ${key} holds ${count}`);
		for (let i = 0; i < items.length; i++)
			writeScalar(view, element, at + i * SIZES[element], items[i] ?? 0);
	}
	return view;
}

/** Unpacks a struct at an offset of a buffer. Byte arrays are copied. */
export function decode<N extends LayoutName>(
	name: N,
	view: Buffer,
	start = 0,
): StructOf<N> {
	const layout: Layout<Fields> = LAYOUTS[name];
	const values: Record<string, unknown> = {};
	for (const [key, field] of Object.entries(layout.fields)) {
		const at = start + (layout.offsets[key] ?? 0);
		if (typeof field === "string") {
			values[key] = readScalar(view, field, at);
			continue;
		}
		const [element, count] = field;
		if (typeof element !== "string") continue;
		values[key] =
			element === "u8"
				? Buffer.from(view.subarray(at, at + count))
				: Array.from({ length: count }, (_, i) =>
						readScalar(view, element, at + i * SIZES[element]),
					);
	}
	return values as StructOf<N>;
}
