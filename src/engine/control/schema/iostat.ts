// SPDX-License-Identifier: MIT
// What bdevs did: counters, queue depths, histograms.
import { named } from "./bdev-params.ts";
import {
	array,
	boolean,
	done,
	maybe,
	methods,
	name,
	number,
	object,
	oneOf,
	optional,
	record,
	required,
	string,
	uint8,
	uint64,
	union,
} from "./types.ts";

export const RESET_MODES = ["all", "maxmin", "error", "none"] as const;

const ioStat = {
	bytes_read: number,
	num_read_ops: number,
	bytes_written: number,
	num_write_ops: number,
	bytes_unmapped: number,
	num_unmap_ops: number,
	bytes_copied: number,
	num_copy_ops: number,
	read_latency_ticks: number,
	max_read_latency_ticks: number,
	min_read_latency_ticks: number,
	write_latency_ticks: number,
	max_write_latency_ticks: number,
	min_write_latency_ticks: number,
	unmap_latency_ticks: number,
	max_unmap_latency_ticks: number,
	min_unmap_latency_ticks: number,
	copy_latency_ticks: number,
	max_copy_latency_ticks: number,
	min_copy_latency_ticks: number,
	io_error: record(string, number),
};

/** While a bdev is sampled. */
const queueDepth = maybe(number);
const sampled = {
	queue_depth_polling_period: queueDepth,
	queue_depth: queueDepth,
	io_time: queueDepth,
	weighted_io_time: queueDepth,
};

const ticks = { tick_rate: number, ticks: number };

const statistics = union([
	object({
		...ticks,
		bdevs: array(object({ name: string, ...ioStat, ...sampled })),
	}),
	object({
		...ticks,
		name: string,
		channels: array(object({ thread_id: number, ...ioStat })),
	}),
]);

export const iostatMethods = methods({
	bdev_get_iostat: {
		effect: "none",
		description:
			"Tells what bdevs did since they were made or their statistics reset. Latencies are in ticks of 1 ns; the largest and smallest are exact to 3.2%. While a bdev is sampled (bdev_set_qd_sampling_period), also the period in microseconds, how many requests it had at the last sample, for how many microseconds it had some, and the same with each microsecond counted as often as there were requests.",
		params: object({
			names: optional(array(name), "Names or UUIDs. Default: all bdevs"),
			per_channel: optional(
				boolean,
				"Tell each reactor's share, of one bdev. Default: false",
			),
			reset_mode: optional(
				oneOf(...RESET_MODES),
				"What to reset after reading. Default: none",
			),
		}),
		result: statistics,
		example: { names: ["Malloc0"] },
	},
	bdev_reset_iostat: {
		effect: "none",
		description:
			"Resets statistics of bdevs, for everybody who reads them through this socket.",
		params: object({
			name: optional(name, "Name or UUID. Default: all bdevs"),
			mode: optional(oneOf(...RESET_MODES), "What to reset. Default: all"),
		}),
		result: done,
		example: { name: "Malloc0" },
	},
	bdev_set_qd_sampling_period: {
		effect: "sets",
		description:
			"Looks now and then at how many requests a bdev has, for bdev_get_iostat, or no longer. It is looked at every 10 ms at most. Requests that a bdev ends at once, as RAM disks and null bdevs without limits do, are never there. As in SPDK, no configuration has it.",
		params: object({
			name: required(name, "Name or UUID of the bdev"),
			period: required(uint64, "Microseconds; 0: no longer"),
		}),
		result: done,
		example: { name: "Malloc0", period: 10000 },
	},
	bdev_enable_histogram: {
		effect: "sets",
		description: "Starts (afresh) or stops a latency histogram of a bdev.",
		params: object({
			name: required(name, "Name or UUID of the bdev"),
			enable: required(boolean, "Start or stop"),
			opc: optional(
				oneOf("read", "write", "flush", "unmap", "write_zeroes"),
				"Count only this kind of request. Default: all",
			),
			granularity: optional(
				uint8,
				"Each power of two has 2^granularity buckets. 0 to 5. Default: 5",
			),
			min_nsec: optional(
				uint64,
				"Shorter latencies count in the first bucket. Default: 0",
			),
			max_nsec: optional(
				uint64,
				"Longer latencies count in the last bucket. Default: 2^40",
			),
		}),
		result: done,
		example: { name: "Malloc0", enable: true },
	},
	bdev_get_histogram: {
		effect: "none",
		description:
			"Gives the histogram of a bdev: little-endian 64-bit counts in base64, laid out as SPDK's, in ticks of 1 ns.",
		params: named,
		result: object({
			histogram: string,
			granularity: number,
			min_range: number,
			max_range: number,
			tsc_rate: number,
		}),
		example: { name: "Malloc0" },
	},
	bdev_get_histogram_borders: {
		effect: "none",
		description:
			"Tells how many latencies of a bdev's histogram do not exceed each of some borders, and last how many there are. Exact to 3.2%.",
		params: object({
			name: required(name, "Name or UUID of the bdev"),
			borders: required(array(uint64), "Borders in microseconds, ascending"),
		}),
		result: object({ borders_count: array(number) }),
		example: { name: "Malloc0", borders: [100, 1000, 10000] },
	},
});
