// SPDX-License-Identifier: MIT
// What SPDK's saved configurations set in parts of it that have nothing to do with vhost.
import * as v from "valibot";
import { done, type Method } from "./types.ts";

const NAMES = [
	"accel_assign_opc",
	"accel_set_driver",
	"ae4dma_scan_accel_module",
	"bdev_examine",
	"compressdev_scan_accel_module",
	"cuda_scan_accel_module",
	"dpdk_cryptodev_scan_accel_module",
	"dpdk_cryptodev_set_driver",
	"dsa_scan_accel_module",
	"fsdev_set_opts",
	"iaa_scan_accel_module",
	"ioat_scan_accel_module",
	"iscsi_set_options",
	"keyring_linux_set_options",
	"mlx5_scan_accel_module",
	"nvmf_set_config",
	"nvmf_set_crdt",
	"nvmf_set_max_subsystems",
	"scheduler_set_options",
	"vmd_enable",
] as const;

type AbsentName = (typeof NAMES)[number];

const absent = {
	description:
		"They set up parts of SPDK that are not here: taken in any state, with any parameters, without effect.",
	effect: "ignored",
	when: "always",
	params: v.looseObject({}),
	result: done,
} as const satisfies Method;

export const absentMethods = Object.fromEntries(
	NAMES.map((name) => [name, absent]),
) as Record<AbsentName, typeof absent>;
