// SPDX-License-Identifier: MIT
import { VIRTIO_F } from "../virtio/features.ts";
import { DEFAULT_PROTOCOL_FEATURES, PROTOCOL_FEATURES } from "./messages.ts";

/** What a device offers beyond its own features; who made it decides. */
export interface Offers {
	/** Packed rings. Default: true. */
	readonly packed?: boolean | undefined;
	/**
	 * ACCESS_PLATFORM: addresses go through an IOMMU of the front end. Default: false,
	 * for Linux's virtio_uml acknowledges it, and has none.
	 */
	readonly iommu?: boolean | undefined;
	/** Migration by postcopy: a front end can make a reactor wait for a page. Default: false. */
	readonly postcopy?: boolean | undefined;
	/**
	 * Kicks and calls as messages. Default: false, for Linux's virtio_uml then sends no
	 * others, and they take a hundred times as long.
	 */
	readonly inband?: boolean | undefined;
}

/** Features of rings and memory that any device has. */
export function ringFeatures({ packed = true, iommu }: Offers): bigint {
	return (
		VIRTIO_F.VERSION_1 |
		VIRTIO_F.RING_INDIRECT_DESC |
		VIRTIO_F.RING_EVENT_IDX |
		VIRTIO_F.ANY_LAYOUT |
		VIRTIO_F.LOG_ALL |
		(packed ? VIRTIO_F.RING_PACKED : 0n) |
		(iommu ? VIRTIO_F.ACCESS_PLATFORM : 0n)
	);
}

export function protocolFeatures({ postcopy, inband }: Offers): bigint {
	return (
		DEFAULT_PROTOCOL_FEATURES |
		(postcopy ? PROTOCOL_FEATURES.PAGEFAULT : 0n) |
		(inband ? PROTOCOL_FEATURES.INBAND_NOTIFICATIONS : 0n)
	);
}
