// SPDX-License-Identifier: MIT

/** Feature bits of any device (virtio 6). */
export const VIRTIO_F = {
	/** Of vhost: what is written to guest memory is logged. */
	LOG_ALL: 1n << 26n,
	ANY_LAYOUT: 1n << 27n,
	RING_INDIRECT_DESC: 1n << 28n,
	RING_EVENT_IDX: 1n << 29n,
	VERSION_1: 1n << 32n,
	ACCESS_PLATFORM: 1n << 33n,
	RING_PACKED: 1n << 34n,
} as const;

/** Feature bits of a block device (virtio 5.2.3). */
export const VIRTIO_BLK_F = {
	SIZE_MAX: 1n << 1n,
	SEG_MAX: 1n << 2n,
	RO: 1n << 5n,
	BLK_SIZE: 1n << 6n,
	FLUSH: 1n << 9n,
	TOPOLOGY: 1n << 10n,
	CONFIG_WCE: 1n << 11n,
	MQ: 1n << 12n,
	DISCARD: 1n << 13n,
	WRITE_ZEROES: 1n << 14n,
} as const;

/** Feature bits of a SCSI host device (virtio 5.6.3). */
export const VIRTIO_SCSI_F = {
	INOUT: 1n << 0n,
	HOTPLUG: 1n << 1n,
	CHANGE: 1n << 2n,
} as const;

/** The names of the known bits in a feature set, for display. */
export function featureNames(features: bigint): string[] {
	return Object.entries({ ...VIRTIO_BLK_F, ...VIRTIO_F })
		.filter(([, bit]) => (features & bit) !== 0n)
		.map(([name]) => name);
}
