// SPDX-License-Identifier: MIT
import type { ignoredMethods } from "../schema/ignored.ts";
import type { Handlers } from "./context.ts";

const accept = (): true => true;

export const ignoredHandlers: Handlers<keyof typeof ignoredMethods> = {
	framework_set_scheduler: accept,
	framework_disable_cpumask_locks: accept,
	bdev_wait_for_examine: accept,
	bdev_set_options: accept,
	bdev_raid_set_options: accept,
	bdev_iscsi_set_options: accept,
	bdev_nvme_set_options: accept,
	bdev_nvme_set_hotplug: accept,
	iobuf_set_options: accept,
	accel_set_options: accept,
	sock_set_default_impl: accept,
	sock_impl_set_options: accept,
};
