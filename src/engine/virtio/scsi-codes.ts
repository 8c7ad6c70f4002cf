// SPDX-License-Identifier: MIT
// Numbers of linux/virtio_scsi.h (virtio 5.6.6).

/** Response codes of commands and of task management functions. */
export const SCSI_RESPONSE = {
	OK: 0,
	OVERRUN: 1,
	ABORTED: 2,
	BAD_TARGET: 3,
	RESET: 4,
	BUSY: 5,
	TRANSPORT_FAILURE: 6,
	TARGET_FAILURE: 7,
	NEXUS_FAILURE: 8,
	FAILURE: 9,
	FUNCTION_SUCCEEDED: 10,
	FUNCTION_REJECTED: 11,
	INCORRECT_LUN: 12,
} as const;
export type ScsiResponse = (typeof SCSI_RESPONSE)[keyof typeof SCSI_RESPONSE];

/** Task attributes. */
export const TASK_ATTRIBUTE = {
	SIMPLE: 0,
	ORDERED: 1,
	HEAD: 2,
	ACA: 3,
} as const;

/** Subtypes of task management requests. */
export const TMF = {
	ABORT_TASK: 0,
	ABORT_TASK_SET: 1,
	CLEAR_ACA: 2,
	CLEAR_TASK_SET: 3,
	I_T_NEXUS_RESET: 4,
	LOGICAL_UNIT_RESET: 5,
	QUERY_TASK: 6,
	QUERY_TASK_SET: 7,
} as const;
