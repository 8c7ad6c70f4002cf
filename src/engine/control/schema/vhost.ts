// SPDX-License-Identifier: MIT
import * as v from "valibot";
import {
	MAX_DELAY_BASE_US,
	MAX_IOPS_THRESHOLD,
	MIN_IOPS_THRESHOLD,
} from "../../coalescing.ts";
import {
	absolutePath,
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
	union,
} from "./types.ts";

const controller = object({
	ctrlr: string,
	cpumask: string,
	delay_base_us: number,
	iops_threshold: number,
	socket: string,
	client: v.optional(done),
	sessions: array(
		object({
			vid: number,
			id: number,
			name: string,
			started: boolean,
			max_queues: number,
			inflight_task_cnt: number,
		}),
	),
	backend_specific: union([
		object({
			block: object({
				readonly: boolean,
				bdev: nullable(string),
				transport: string,
			}),
		}),
		object({
			scsi: array(
				object({
					scsi_dev_num: number,
					id: number,
					target_name: string,
					luns: array(object({ id: number, bdev_name: string })),
				}),
			),
		}),
	]),
});

/** Parameters of the methods that make controllers. */
export const controllerParams = {
	ctrlr: required(name, "Name of the controller and of its socket"),
	cpumask: optional(
		string,
		"Processors whose reactors serve it, as 0x5 or [0,2]. Default: all of them",
	),
	client: optional(
		absolutePath,
		"Path of a front end's socket: connect to it whenever it is there, again after a failure or when it went, instead of listening. Not in SPDK. Default: listen",
	),
	packed_ring: optional(boolean, "Offer packed virtqueues. Default: true"),
	iommu: optional(
		boolean,
		"Offer to be behind the IOMMU of a machine (ACCESS_PLATFORM), for front ends that have IOTLB messages. Not in SPDK. Default: false",
	),
	inband: optional(
		boolean,
		"Offer notifications by messages instead of eventfds (INBAND_NOTIFICATIONS), which is slow. Not in SPDK. Default: false",
	),
};

export const vhostMethods = methods({
	vhost_create_blk_controller: {
		effect: "makes",
		description:
			"Makes a vhost-user-blk controller: a socket, named after it in the socket directory, that serves a bdev. A writable controller has its bdev to itself; read-only ones share theirs.",
		params: object({
			...controllerParams,
			dev_name: required(name, "Name or UUID of the bdev"),
			readonly: optional(boolean, "Refuse writes. Default: false"),
			transport: optional(
				oneOf("vhost_user_blk"),
				"How it is served. Default: vhost_user_blk",
			),
		}),
		result: done,
		example: { ctrlr: "vhost.0", dev_name: "Malloc0", cpumask: "0x1" },
	},
	vhost_get_controllers: {
		effect: "none",
		description:
			"Lists the controllers, with the front ends that are connected to them.",
		params: object({
			name: optional(name, "Only the controller of this name"),
		}),
		result: array(controller),
		example: { name: "vhost.0" },
	},
	vhost_controller_set_coalescing: {
		effect: "sets",
		description:
			"Has the rings of a controller tell of completions less often when these are many, while I/O runs. For each ring whose requests end at a rate above iops_threshold, calls are delay_base_us x (rate - iops_threshold) / iops_threshold apart, but at most 10 ms, over which the rate is measured. Control and event rings always call at once.",
		params: object({
			ctrlr: required(name, "Name of the controller"),
			delay_base_us: required(
				integer(0, MAX_DELAY_BASE_US),
				"Delay base in microseconds; 0: calls are not delayed",
			),
			iops_threshold: required(
				integer(MIN_IOPS_THRESHOLD, MAX_IOPS_THRESHOLD),
				"Requests a second of a ring up to which its calls are not delayed",
			),
		}),
		result: done,
		example: { ctrlr: "vhost.0", delay_base_us: 50, iops_threshold: 60000 },
	},
	vhost_delete_controller: {
		effect: "alters",
		description:
			"Deletes a controller and its socket. One that listens and has a front end connected is busy: the call waits a second for that to end, then fails. One that connects (client) hangs up. A vhost-user-scsi controller with targets is busy too: remove them first.",
		params: object({ ctrlr: required(name, "Name of the controller") }),
		result: done,
		example: { ctrlr: "vhost.0" },
	},
	virtio_blk_get_transports: {
		effect: "none",
		description:
			"Lists how virtio-blk devices can be served: over vhost-user, by sockets.",
		params: object({
			name: optional(name, "Only the transport of this name"),
		}),
		result: array(object({ name: string })),
		example: { name: "vhost_user_blk" },
	},
	virtio_blk_create_transport: {
		effect: "makes",
		description:
			"Makes a transport. There is but vhost_user_blk, and it is there from the start, as in SPDK: so this fails.",
		params: object({ name: required(name, "Name of the transport") }),
		result: done,
		example: { name: "vhost_user_blk" },
	},
});
