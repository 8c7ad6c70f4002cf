// SPDX-License-Identifier: MIT
// The last requests of a controller's rings.
import {
	array,
	boolean,
	done,
	integer,
	methods,
	name,
	nullable,
	number,
	object,
	oneOf,
	optional,
	required,
	string,
	uint32,
} from "./types.ts";

/** As the engine has it, which a client need not load. */
const MAX_TRACE = 65536;

const command = object({
	/** Null: it named no logical unit that can be. */
	target: nullable(number),
	lun: nullable(number),
	/** Hexadecimal: 64 bits. */
	tag: string,
	/** Of the CDB; null for a READ or WRITE that took the shortest way. */
	opcode: nullable(number),
	status: number,
	response: number,
	sense_key: number,
	asc: number,
	ascq: number,
});

const request = object({
	number,
	/** The same for requests of which all times are one. */
	batch: number,
	op: oneOf("read", "write", "flush", "unmap", "write_zeroes", "other"),
	offset: number,
	length: number,
	/** "ok", or an error's name. */
	result: string,
	head: number,
	scsi: nullable(command),
	up: boolean,
	quiet: boolean,
	kicked_ns: nullable(number),
	taken_ns: number,
	submitted_ns: nullable(number),
	completed_ns: nullable(number),
	published_ns: nullable(number),
	called_ns: nullable(number),
});

export const traceMethods = methods({
	vhostctl_set_trace: {
		description:
			"Keeps the last requests of each of a controller's rings, with the time of each step; or no longer. What was kept before is dropped. What a connection asked for is kept after its end until another one ends that asked for something.",
		effect: "sets",
		params: object({
			ctrlr: required(name, "Controller"),
			size: required(
				integer(0, MAX_TRACE),
				"Requests kept of each ring, rounded up to a power of two of 64 at least; 0: none",
			),
		}),
		result: done,
		example: { ctrlr: "vhost.0", size: 256 },
		own: true,
	},
	vhostctl_get_trace: {
		description:
			"Tells the last requests of a controller's rings, as vhostctl_set_trace has them kept, in the order in which they ended: what was asked, how it ended, and when it was taken from the ring, submitted to the bdev, completed, shown to the driver (published), and the driver called for it. Times are nanoseconds of CLOCK_MONOTONIC, null for what did not happen; `now_ns` is when the ring was read, and `now` the same in milliseconds since 1970. `ended`: when the ring's connection ended, in milliseconds since 1970, null for one that there is. `up`: it was answered outside of the data plane; `quiet`: the driver wanted no call. A request number that is missing was overwritten while it was read.",
		effect: "none",
		params: object({
			ctrlr: required(name, "Controller"),
			ring: optional(uint32, "Only the ring of this index. Default: all"),
			last: optional(
				integer(1, MAX_TRACE),
				"Most requests of each ring. Default: all that are kept",
			),
		}),
		result: object({
			ctrlr: string,
			kind: string,
			/** Requests kept of each ring; 0: tracing is off. */
			size: number,
			rings: array(
				object({
					session: number,
					ended: nullable(number),
					ring: number,
					now_ns: number,
					now: number,
					requests: array(request),
				}),
			),
		}),
		example: { ctrlr: "vhost.0", ring: 0, last: 32 },
		own: true,
	},
});
