// SPDX-License-Identifier: MIT

/**
 * How a C type crosses. u64 and i64 are BigInt; a handle is the pointer to an
 * opaque struct as a BigInt; a buffer is memory of the caller's, for a struct or
 * an out-parameter; a pointer is opaque and becomes a view.
 */
export type CType =
	| "void"
	| "i32"
	| "u32"
	| "i64"
	| "u64"
	| "handle"
	| "buffer"
	| "string"
	| "pointer";

interface CFunction {
	readonly result: CType;
	/** "type name", in C's order. */
	readonly params: readonly `${CType} ${string}`[];
}

/** Every function of c/include/vhostctl.h; a test compares the two and the library. */
export const SYMBOLS = {
	vhc_abi_version: { result: "u32", params: [] },
	vhc_abi_sizes: { result: "i32", params: ["buffer sizes", "u32 max"] },

	vhc_fd_close: { result: "i32", params: ["i32 fd"] },
	vhc_fd_lock: { result: "i32", params: ["i32 fd"] },
	vhc_fd_try_write: {
		result: "i32",
		params: ["i32 fd", "buffer data", "u32 len"],
	},
	vhc_eventfd: { result: "i32", params: [] },
	vhc_eventfd_signal: { result: "i32", params: ["i32 fd"] },
	vhc_eventfd_take: { result: "i32", params: ["i32 fd"] },
	vhc_copy_out: {
		result: "void",
		params: ["u64 addr", "buffer buf", "u32 len"],
	},
	vhc_copy_in: {
		result: "void",
		params: ["u64 addr", "buffer buf", "u32 len"],
	},
	vhc_pointer: { result: "pointer", params: ["u64 addr"] },

	vhc_pages_alloc: {
		result: "i32",
		params: [
			"u64 size",
			"u64 page_size",
			"i32 node",
			"i32 file_fd",
			"u32 flags",
			"buffer out",
		],
	},
	vhc_pages_adopt: { result: "i32", params: ["buffer theirs", "buffer out"] },
	vhc_pages_free: { result: "i32", params: ["buffer pages"] },

	vhc_mem_create: { result: "i32", params: ["buffer out"] },
	vhc_mem_clone: { result: "i32", params: ["handle mem", "buffer out"] },
	vhc_mem_add_region: {
		result: "i32",
		params: [
			"handle mem",
			"u64 gpa",
			"u64 size",
			"u64 user_addr",
			"i32 fd",
			"u64 offset",
		],
	},
	vhc_mem_remove_region: {
		result: "i32",
		params: ["handle mem", "u64 gpa", "u64 size", "u64 user_addr"],
	},
	vhc_mem_create_view: {
		result: "i32",
		params: ["handle mem", "buffer out"],
	},
	vhc_mem_show: {
		result: "i32",
		params: [
			"handle view",
			"u64 iova",
			"u64 size",
			"u64 user_addr",
			"u32 access",
		],
	},
	vhc_mem_hide: {
		result: "i32",
		params: ["handle view", "u64 iova", "u64 size"],
	},
	vhc_mem_node: { result: "i32", params: ["handle mem", "u64 user_addr"] },
	vhc_userfault_open: { result: "i32", params: [] },
	vhc_mem_catch_faults: { result: "i32", params: ["handle mem", "i32 fd"] },
	vhc_mem_translate: {
		result: "i32",
		params: ["handle mem", "u64 gpa", "u64 len", "buffer iov", "u32 max"],
	},
	vhc_mem_translate_user: {
		result: "i32",
		params: ["handle mem", "u64 user_addr", "u64 len", "buffer addr"],
	},
	vhc_mem_faulted: { result: "i32", params: ["handle mem"] },
	vhc_mem_release: { result: "void", params: ["handle mem"] },

	vhc_stats_alloc: { result: "i32", params: ["buffer addr"] },
	vhc_stats_free: { result: "void", params: ["u64 addr"] },

	vhc_trace_create: { result: "i32", params: ["u32 size", "buffer out"] },
	vhc_trace_read: {
		result: "i32",
		params: ["handle trace", "buffer records", "u32 max", "buffer now"],
	},
	vhc_trace_release: { result: "void", params: ["handle trace"] },

	vhc_log_create: {
		result: "i32",
		params: ["i32 fd", "u64 offset", "u64 size", "i32 signal_fd", "buffer out"],
	},
	vhc_log_mark: { result: "i32", params: ["handle log", "u64 gpa", "u64 len"] },
	vhc_log_release: { result: "void", params: ["handle log"] },

	vhc_inflight_bytes: {
		result: "i64",
		params: ["u32 num_queues", "u32 queue_size", "u32 packed"],
	},
	vhc_inflight_create: {
		result: "i32",
		params: ["buffer config", "buffer out"],
	},
	vhc_inflight_damage: { result: "u32", params: ["handle inflight"] },
	vhc_inflight_release: { result: "void", params: ["handle inflight"] },

	vhc_ring_create: { result: "i32", params: ["buffer config", "buffer out"] },
	vhc_ring_pop: { result: "i32", params: ["handle ring", "buffer chain"] },
	vhc_ring_push: {
		result: "i32",
		params: ["handle ring", "u32 head", "u32 len"],
	},
	vhc_ring_signal: { result: "i32", params: ["handle ring"] },
	vhc_ring_notify: { result: "i32", params: ["handle ring", "i32 enable"] },
	vhc_ring_base: { result: "u32", params: ["handle ring"] },
	vhc_ring_set_trace: {
		result: "i32",
		params: ["handle ring", "handle trace"],
	},
	vhc_ring_release: { result: "void", params: ["handle ring"] },

	vhc_driver_ring_layout: {
		result: "i32",
		params: ["u32 size", "u64 features", "buffer out"],
	},
	vhc_driver_ring_create: {
		result: "i32",
		params: ["buffer config", "buffer out"],
	},
	vhc_driver_ring_add: {
		result: "i32",
		params: [
			"handle ring",
			"buffer iov",
			"u32 num_out",
			"u32 num_in",
			"u64 token",
		],
	},
	vhc_driver_ring_kick: { result: "i32", params: ["handle ring"] },
	vhc_driver_ring_get: {
		result: "i32",
		params: ["handle ring", "buffer token", "buffer len"],
	},
	vhc_driver_ring_wait: {
		result: "i32",
		params: ["handle ring", "i32 timeout_ms"],
	},
	vhc_driver_ring_release: { result: "void", params: ["handle ring"] },

	vhc_upcalls_create: { result: "i32", params: ["buffer out", "buffer info"] },
	vhc_upcalls_advance: {
		result: "i32",
		params: ["handle upcalls", "u32 consumed"],
	},
	vhc_upcalls_release: { result: "void", params: ["handle upcalls"] },

	vhc_socket_listen: { result: "i32", params: ["string path", "u32 mode"] },
	vhc_socket_connect: { result: "i32", params: ["string path"] },
	vhc_socket_pair: { result: "i32", params: ["buffer fds"] },
	vhc_socket_peer_uid: { result: "i32", params: ["i32 fd", "buffer uid"] },

	vhc_transport_create: {
		result: "i32",
		params: ["handle upcalls", "buffer out"],
	},
	vhc_transport_listen: {
		result: "i32",
		params: ["handle transport", "i32 fd"],
	},
	vhc_transport_connect: {
		result: "i32",
		params: ["handle transport", "i32 fd"],
	},
	vhc_transport_next: { result: "i32", params: ["handle transport", "u32 id"] },
	vhc_transport_send: {
		result: "i32",
		params: [
			"handle transport",
			"u32 id",
			"buffer message",
			"u32 len",
			"buffer fds",
			"u32 num_fds",
		],
	},
	vhc_transport_close: {
		result: "i32",
		params: ["handle transport", "u32 id"],
	},
	vhc_transport_take: {
		result: "i32",
		params: ["handle transport", "u32 id"],
	},
	vhc_transport_release: { result: "void", params: ["handle transport"] },

	vhc_bdev_null_create: {
		result: "i32",
		params: ["u32 block_size", "u64 num_blocks", "buffer out"],
	},
	vhc_bdev_malloc_create: {
		result: "i32",
		params: ["buffer pages", "u32 block_size", "u64 num_blocks", "buffer out"],
	},
	vhc_file_alignment: { result: "i32", params: ["i32 fd", "buffer out"] },
	vhc_bdev_file_create: {
		result: "i32",
		params: ["buffer config", "buffer out"],
	},
	vhc_bdev_resize: { result: "i32", params: ["handle bdev", "u64 num_blocks"] },
	vhc_bdev_malloc_move: {
		result: "i32",
		params: ["handle bdev", "buffer pages", "u64 num_blocks"],
	},
	vhc_bdev_malloc_copy: {
		result: "i32",
		params: ["handle bdev", "buffer pages", "u64 offset", "u64 len"],
	},
	vhc_bdev_malloc_save_map: {
		result: "i32",
		params: ["handle bdev", "i32 fd"],
	},
	vhc_bdev_malloc_load_map: {
		result: "i32",
		params: ["handle bdev", "i32 fd"],
	},
	vhc_bdev_extent: {
		result: "i32",
		params: ["handle bdev", "u64 offset", "buffer out"],
	},
	vhc_bdev_set_qos: { result: "i32", params: ["handle bdev", "buffer limits"] },
	vhc_bdev_passthru_create: {
		result: "i32",
		params: ["handle base", "u64 first_block", "u64 num_blocks", "buffer out"],
	},
	vhc_bdev_delay_create: {
		result: "i32",
		params: ["handle base", "buffer out"],
	},
	vhc_bdev_delay_set: {
		result: "i32",
		params: ["handle bdev", "u32 which", "u64 ns"],
	},
	vhc_bdev_error_create: {
		result: "i32",
		params: ["handle base", "buffer out"],
	},
	vhc_bdev_error_inject: {
		result: "i32",
		params: ["handle bdev", "u32 ops", "buffer rule"],
	},
	vhc_bdev_error_resume: { result: "i32", params: ["handle bdev"] },
	vhc_bdev_error_left: {
		result: "i64",
		params: ["handle bdev", "u32 op"],
	},
	vhc_bdev_error_hanging: { result: "i64", params: ["handle bdev"] },
	vhc_bdev_set_holding: {
		result: "void",
		params: ["handle bdev", "i32 holding"],
	},
	vhc_bdev_rebase: {
		result: "i32",
		params: ["handle bdev", "handle base"],
	},
	vhc_bdev_set_stats: {
		result: "i32",
		params: ["handle bdev", "u32 reactor_index", "u64 stats_addr"],
	},
	vhc_bdev_release: { result: "void", params: ["handle bdev"] },

	vhc_blk_create: { result: "i32", params: ["buffer config", "buffer out"] },
	vhc_blk_set_writeback: {
		result: "void",
		params: ["handle blk", "i32 writeback"],
	},
	vhc_blk_release: { result: "void", params: ["handle blk"] },

	vhc_lun_create: { result: "i32", params: ["buffer config", "buffer out"] },
	vhc_lun_set_gates: {
		result: "void",
		params: ["handle lun", "u32 read_gate", "u32 write_gate"],
	},
	vhc_lun_set_writeback: {
		result: "void",
		params: ["handle lun", "i32 writeback"],
	},
	vhc_lun_release: { result: "void", params: ["handle lun"] },

	vhc_request_read: {
		result: "i32",
		params: ["u64 request", "u64 offset", "buffer buf", "u32 len"],
	},
	vhc_request_write: {
		result: "i32",
		params: ["u64 request", "u64 offset", "buffer buf", "u32 len"],
	},
	vhc_request_complete: {
		result: "void",
		params: ["u64 request", "buffer result"],
	},
	vhc_request_complete_raw: {
		result: "void",
		params: ["u64 request", "u32 written"],
	},
	vhc_request_execute: {
		result: "void",
		params: ["u64 request", "u32 op", "u32 flags", "u64 offset", "u64 len"],
	},

	vhc_reactor_create: {
		result: "i32",
		params: [
			"handle upcalls",
			"buffer config",
			"buffer out",
			"buffer stats_addr",
		],
	},
	vhc_reactor_start_blk_ring: {
		result: "i32",
		params: ["handle reactor", "handle ring", "handle blk", "u64 bdev_stats"],
	},
	vhc_reactor_start_scsi_ring: {
		result: "i32",
		params: ["handle reactor", "handle ring", "buffer config"],
	},
	vhc_reactor_start_raw_ring: {
		result: "i32",
		params: ["handle reactor", "handle ring"],
	},
	vhc_reactor_start_event_ring: {
		result: "i32",
		params: ["handle reactor", "handle ring"],
	},
	vhc_reactor_send_event: {
		result: "i32",
		params: ["handle reactor", "handle ring", "buffer event"],
	},
	vhc_reactor_attach_lun: {
		result: "i32",
		params: [
			"handle reactor",
			"handle ring",
			"u32 address",
			"handle lun",
			"u64 bdev_stats",
		],
	},
	vhc_reactor_hold_lun: {
		result: "i32",
		params: ["handle reactor", "handle ring", "u32 address"],
	},
	vhc_reactor_resume_lun: {
		result: "i32",
		params: ["handle reactor", "handle ring", "u32 address"],
	},
	vhc_reactor_detach_lun: {
		result: "i32",
		params: ["handle reactor", "handle ring", "u32 address"],
	},
	vhc_reactor_abort: {
		result: "i32",
		params: ["handle reactor", "handle ring", "buffer abort"],
	},
	vhc_reactor_set_mem: {
		result: "i32",
		params: ["handle reactor", "handle ring", "handle mem", "i32 refuse"],
	},
	vhc_reactor_set_coalescing: {
		result: "i32",
		params: [
			"handle reactor",
			"handle ring",
			"u64 delay_base_ns",
			"u64 iops_threshold",
		],
	},
	vhc_io_cancel: {
		result: "i32",
		params: ["handle reactor", "u32 id"],
	},
	vhc_io_submit: {
		result: "i32",
		params: ["handle reactor", "buffer config"],
	},
	vhc_reactor_stop_ring: {
		result: "i32",
		params: ["handle reactor", "handle ring"],
	},
	vhc_reactor_release: { result: "i32", params: ["handle reactor"] },

	vhc_load_buffer_bytes: {
		result: "i64",
		params: ["u32 device", "u32 block_size", "u32 iodepth", "u32 num_rings"],
	},
	vhc_load_create: {
		result: "i32",
		params: [
			"handle upcalls",
			"buffer config",
			"buffer rings",
			"u32 num_rings",
			"buffer out",
		],
	},
	vhc_load_start: { result: "i32", params: ["handle load"] },
	vhc_load_stop: { result: "void", params: ["handle load"] },
	vhc_load_result: { result: "i32", params: ["handle load", "buffer out"] },
	vhc_load_release: { result: "void", params: ["handle load"] },
} as const satisfies Record<string, CFunction>;

export type Symbols = typeof SYMBOLS;
export type SymbolName = keyof Symbols;

/** What a C type is in TypeScript. */
interface Values {
	void: undefined;
	i32: number;
	u32: number;
	i64: bigint;
	u64: bigint;
	handle: bigint;
	buffer: Uint8Array;
	string: string;
	pointer: object;
}

export type Result<N extends SymbolName> = Values[Symbols[N]["result"]];

type ArgsOf<P extends readonly string[]> = {
	-readonly [I in keyof P]: P[I] extends `${infer T extends CType} ${string}`
		? Values[T]
		: never;
};

export type Args<N extends SymbolName> = ArgsOf<Symbols[N]["params"]>;
