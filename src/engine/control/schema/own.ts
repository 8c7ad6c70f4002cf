// SPDX-License-Identifier: MIT
// What SPDK has no method for.
import {
	array,
	boolean,
	integer,
	methods,
	name,
	none,
	nullable,
	number,
	object,
	optional,
	required,
	string,
} from "./types.ts";

const operation = object({
	/** Requests completed, of them those that failed, bytes in those that did not. */
	count: number,
	errors: number,
	bytes: number,
	/** Sum, and what 50, 99 and 99.9 percent do not exceed. */
	latency_ns: number,
	p50_ns: number,
	p99_ns: number,
	p999_ns: number,
	/** With `histograms`: [ns, how many took at most that and more than the pair before says]. */
	histogram: optional(array(array(number)), "What requests took"),
});

const operations = object({
	read: operation,
	write: operation,
	flush: operation,
	unmap: operation,
	write_zeroes: operation,
	other: operation,
});

const ring = object({
	index: number,
	size: number,
	running: boolean,
	broken: boolean,
	reactor: nullable(number),
	kicks: number,
	kicks_suppressed: number,
	calls: number,
	calls_suppressed: number,
	/** Batches whose call was put off, or sent with another one's. */
	calls_delayed: number,
	batches: number,
	busy_ns: number,
	inflight: number,
	/** Requests of which the device could make nothing; they count among `other` too. */
	malformed: number,
	ops: operations,
});

export const ownMethods = methods({
	vhostctl_get_stats: {
		effect: "none",
		description:
			"Tells what everything did since it was made: reactors, bdevs, controllers with their connections and rings. Counters only grow; bdev_reset_iostat does not touch them. What happened between two calls is the difference of their counters and histograms.",
		params: object({
			name: optional(
				name,
				"Only the controller or bdev of this name. Default: all",
			),
			histograms: optional(
				boolean,
				"Also tell how many requests took how long, in buckets 3.2% wide. Default: false",
			),
		}),
		result: object({
			uptime_ns: number,
			reactors: array(
				object({
					id: number,
					cpu: number,
					mode: string,
					tid: number,
					busy_ns: number,
					idle_ns: number,
					sleep_ns: number,
					loops: number,
					wakeups: number,
					rings: number,
					polled: number,
				}),
			),
			bdevs: array(object({ name: string, ops: operations })),
			controllers: array(
				object({
					ctrlr: string,
					/** blk or scsi. */
					kind: string,
					/** False: made with delay, and not started yet. */
					started: boolean,
					/** What a blk controller serves; null once it is gone. */
					bdev: nullable(string),
					/** What a scsi controller serves. */
					luns: array(object({ target: number, lun: number, bdev: string })),
					sessions: array(object({ id: number, rings: array(ring) })),
				}),
			),
		}),
		example: { name: "vhost.0" },
		own: true,
	},
	vhostctl_get_metrics: {
		description:
			"Tells all figures in Prometheus' text format, as `vhostctl serve --metrics` does over HTTP.",
		effect: "none",
		params: none,
		result: string,
		own: true,
	},
	vhostctl_take_over: {
		effect: "none",
		description:
			"Begins a takeover, as `vhostctl serve --takeover` does: offers all that the instance has to who connects next, within 5 seconds, to the socket that is told. Meanwhile methods that change something fail with E_BUSY. The instance ends when its successor serves, and goes on if that fails.",
		params: object({
			format: required(
				integer(0, 0xffff),
				"Format of what is handed over, that the successor knows",
			),
		}),
		result: object({ socket: string }),
		example: { format: 1 },
		own: true,
	},
	vhostctl_get_hugepages: {
		effect: "none",
		description:
			"Lists the system's reserved hugepages, by NUMA node (-1: the kernel knows none) and size in bytes.",
		params: none,
		result: array(
			object({ node: number, page_size: number, total: number, free: number }),
		),
		own: true,
	},
});
