// SPDX-License-Identifier: MIT
import { MAX_LUN, MAX_TARGET } from "../../virtio/scsi-address.ts";
import {
	array,
	boolean,
	done,
	integer,
	methods,
	name,
	none,
	number,
	object,
	optional,
	required,
	string,
} from "./types.ts";
import { controllerParams } from "./vhost.ts";

const ctrlr = required(name, "Name of the controller");

export const scsiMethods = methods({
	vhost_create_scsi_controller: {
		effect: "makes",
		description:
			"Makes a vhost-user-scsi controller: a socket, named after it in the socket directory, that serves SCSI targets. It has none at first.",
		params: object({
			...controllerParams,
			delay: optional(
				boolean,
				"Have no socket before vhost_start_scsi_controller, so that the first front end finds all targets. Default: false",
			),
		}),
		result: done,
		example: { ctrlr: "vhost.1", cpumask: "0x1", delay: true },
	},
	vhost_start_scsi_controller: {
		effect: "sets",
		description:
			"Makes the socket of a controller that was made with delay. One that has its socket stays as it is.",
		params: object({ ctrlr }),
		result: done,
		example: { ctrlr: "vhost.1" },
	},
	vhost_scsi_controller_add_target: {
		effect: "makes",
		description:
			"Adds a bdev to a controller as a logical unit; front ends see it at once. The bdev is the controller's alone from then on. The result is the target's number.",
		params: object({
			ctrlr,
			scsi_target_num: required(
				integer(-0x80000000, MAX_TARGET),
				`Number of the target, 0 to ${MAX_TARGET} (SPDK: 7); -1: the first that is free`,
			),
			bdev_name: required(name, "Name or UUID of the bdev"),
			lun: optional(
				integer(0, MAX_LUN),
				`Number of the logical unit in the target, 0 to ${MAX_LUN}. Not in SPDK, where a target has LUN 0 alone. Default: 0`,
			),
		}),
		result: number,
		example: { ctrlr: "vhost.1", scsi_target_num: -1, bdev_name: "Malloc0" },
	},
	vhost_scsi_controller_remove_target: {
		effect: "alters",
		description:
			"Takes a target from a controller; front ends see it at once. Ends when its I/O has ended.",
		params: object({
			ctrlr,
			scsi_target_num: required(
				integer(0, MAX_TARGET),
				`Number of the target, 0 to ${MAX_TARGET}`,
			),
			lun: optional(
				integer(0, MAX_LUN),
				"Take only this logical unit; with its last one the target goes. Not in SPDK. Default: all of the target",
			),
		}),
		result: done,
		example: { ctrlr: "vhost.1", scsi_target_num: 0 },
	},
	scsi_get_devices: {
		effect: "none",
		description:
			"Lists the targets of all controllers. id is the one that vhost_get_controllers tells.",
		params: none,
		result: array(object({ id: number, device_name: string })),
	},
});
