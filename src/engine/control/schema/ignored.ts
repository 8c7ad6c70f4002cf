// SPDX-License-Identifier: MIT
// What SPDK's scripts and saved configurations set on their way to a vhost target, and
// that has nothing to act on here: pools of memory, sockets, other kinds of bdevs.
import type * as v from "valibot";
import {
	array,
	boolean,
	done,
	int32,
	methods,
	none,
	object,
	oneOf,
	only,
	optional,
	required,
	string,
	uint8,
	uint32,
	uint64,
} from "./types.ts";

/** Optional parameters of one type, by their names with spaces between them. */
function taken<S extends v.GenericSchema>(schema: S, names: string) {
	const entries = names
		.split(" ")
		.map((name) => [name, optional(schema, "No effect")] as const);
	return Object.fromEntries(entries);
}

const frameworkMethods = methods({
	framework_set_scheduler: {
		effect: "ignored",
		when: "always",
		description:
			"Chooses what moves threads between processors. Reactors stay where they are, so that only SPDK's static scheduler is taken.",
		params: object({
			name: required(oneOf("static"), "The scheduler's name"),
			period: optional(uint64, "No effect: nothing happens periodically"),
			...taken(uint8, "load_limit core_limit core_busy"),
			...taken(string, "isolated_core_mask"),
		}),
		result: done,
		example: { name: "static" },
	},
	framework_disable_cpumask_locks: {
		effect: "ignored",
		when: "always",
		description:
			"Gives up the locks by which SPDK keeps processors to itself. There are none here: instances share processors.",
		params: none,
		result: done,
	},
});

const bdevMethods = methods({
	bdev_wait_for_examine: {
		effect: "ignored",
		description:
			"Waits until new bdevs have been looked at. A bdev here is ready when its creation ends: so this ends at once.",
		params: none,
		result: done,
	},
	bdev_set_options: {
		effect: "ignored",
		when: "always",
		description:
			"Sizes SPDK's pools for requests and buffers. Rings have their own memory here: no effect.",
		params: object({
			...taken(
				uint32,
				"bdev_io_pool_size bdev_io_cache_size iobuf_small_cache_size iobuf_large_cache_size",
			),
			...taken(boolean, "bdev_auto_examine"),
		}),
		result: done,
	},
	bdev_raid_set_options: {
		effect: "ignored",
		when: "always",
		description: "Sets options of RAID bdevs, which are not here: no effect.",
		params: object(
			taken(uint32, "process_window_size_kb process_max_bandwidth_mb_sec"),
		),
		result: done,
	},
	bdev_iscsi_set_options: {
		effect: "ignored",
		when: "always",
		description: "Sets options of iSCSI bdevs, which are not here: no effect.",
		params: object(taken(uint64, "timeout_sec")),
		result: done,
	},
	bdev_nvme_set_hotplug: {
		effect: "ignored",
		description:
			"Turns the search for new NVMe drives off, which are not driven here anyway. Drives that the kernel drives are bdev_aio_create's.",
		params: object({
			enable: only(false, "a search for NVMe drives"),
			...taken(uint64, "period_us"),
		}),
		result: done,
		example: { enable: false },
	},
});

const nvmeOptions = {
	...taken(oneOf("none", "reset", "abort"), "action_on_timeout"),
	...taken(
		uint64,
		"timeout_us timeout_admin_us nvme_adminq_poll_period_us nvme_ioq_poll_period_us",
	),
	...taken(
		uint32,
		"keep_alive_timeout_ms arbitration_burst low_priority_weight medium_priority_weight high_priority_weight io_queue_requests transport_retry_count reconnect_delay_sec fast_io_fail_timeout_sec rdma_srq_size rdma_max_cq_size rdma_cm_event_timeout_ms tcp_connect_timeout_ms",
	),
	...taken(int32, "bdev_retry_count ctrlr_loss_timeout_sec"),
	...taken(uint8, "transport_ack_timeout transport_tos"),
	...taken(
		boolean,
		"delay_cmd_submit disable_auto_failback generate_uuids nvme_error_stat io_path_stat allow_accel_sequence rdma_umr_per_io enable_flush",
	),
	...taken(array(string), "dhchap_digests dhchap_dhgroups"),
	...taken(
		object({
			...taken(string, "policy selector"),
			...taken(uint32, "min_io"),
		}),
		"multipath_opts",
	),
};

const otherMethods = methods({
	bdev_nvme_set_options: {
		effect: "ignored",
		when: "always",
		description: "Sets options of NVMe bdevs, which are not here: no effect.",
		params: object(nvmeOptions),
		result: done,
	},
	iobuf_set_options: {
		effect: "ignored",
		when: "always",
		description:
			"Sizes SPDK's pools of buffers. Data goes between guest memory and the disk without any here: no effect.",
		params: object({
			...taken(uint64, "small_pool_count large_pool_count"),
			...taken(uint32, "small_bufsize large_bufsize"),
			...taken(boolean, "enable_numa"),
		}),
		result: done,
	},
	accel_set_options: {
		effect: "ignored",
		when: "always",
		description:
			"Sizes the pools of SPDK's acceleration framework, which is not here: no effect.",
		params: object(
			taken(
				uint32,
				"small_cache_size large_cache_size task_count sequence_count buf_count",
			),
		),
		result: done,
	},
	sock_set_default_impl: {
		effect: "ignored",
		when: "always",
		description:
			"Chooses how SPDK's network sockets are made. There are none here: no effect.",
		params: object({
			impl_name: required(string, "Name of the implementation"),
		}),
		result: done,
		example: { impl_name: "posix" },
	},
	sock_impl_set_options: {
		effect: "ignored",
		when: "always",
		description:
			"Sets options of SPDK's network sockets. There are none here: no effect.",
		params: object({
			impl_name: required(string, "Name of the implementation"),
			...taken(
				uint32,
				"recv_buf_size send_buf_size enable_placement_id zerocopy_threshold tls_version",
			),
			...taken(
				boolean,
				"enable_recv_pipe enable_quickack enable_zerocopy_send_server enable_zerocopy_send_client enable_ktls",
			),
		}),
		result: done,
		example: { impl_name: "posix", enable_quickack: false },
	},
});

export const ignoredMethods = {
	...frameworkMethods,
	...bdevMethods,
	...otherMethods,
};
