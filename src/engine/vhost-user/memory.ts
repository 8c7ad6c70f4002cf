// SPDX-License-Identifier: MIT
// The guest memory that a front end shares, and its descriptors, which another process may need.
import { native } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { MemoryRegion } from "./codec.ts";
import type { MemoryInfo } from "./device.ts";
import { closeFd } from "./fds.ts";

export interface OwnedRegion extends MemoryRegion {
	readonly fd: number;
}

/** A table of regions. It is never changed: others take its place. */
export interface GuestMemory {
	/** struct vhc_mem *. */
	readonly handle: bigint;
	readonly regions: readonly OwnedRegion[];
}

/** Maps regions; their descriptors are the table's if that succeeds. Throws why not. */
export function mapMemory(regions: readonly OwnedRegion[]): GuestMemory {
	const handle = native.memCreate();
	try {
		for (const region of regions) native.memAddRegion(handle, region);
		return { handle, regions };
	} catch (error) {
		native.memRelease(handle);
		throw fromErrno(error, "memory table");
	}
}

/** The table with another region; the old one stays the caller's, but for its descriptors. */
export function withRegion(
	memory: GuestMemory | undefined,
	region: OwnedRegion,
): GuestMemory {
	if (!memory) return mapMemory([region]);
	return changed(memory, [...memory.regions, region], (handle) =>
		native.memAddRegion(handle, region),
	);
}

/** The table without a region; its descriptor is the caller's. Throws E_PROTOCOL for one that is not there. */
export function withoutRegion(
	memory: GuestMemory | undefined,
	{ gpa, size, userAddr }: MemoryInfo,
): { memory: GuestMemory; removed: OwnedRegion } {
	const removed = memory?.regions.find(
		(region) =>
			region.gpa === gpa &&
			region.size === size &&
			region.userAddr === userAddr,
	);
	if (!memory || !removed)
		throw new VhostctlError(
			"E_PROTOCOL",
			`no region of ${size} bytes at 0x${gpa.toString(16)}`,
		);
	const left = memory.regions.filter((region) => region !== removed);
	return {
		memory: changed(memory, left, (handle) =>
			native.memRemoveRegion(handle, removed),
		),
		removed,
	};
}

function changed(
	memory: GuestMemory,
	regions: readonly OwnedRegion[],
	change: (handle: bigint) => unknown,
): GuestMemory {
	const handle = native.memClone(memory.handle);
	try {
		change(handle);
		return { handle, regions };
	} catch (error) {
		native.memRelease(handle);
		throw fromErrno(error, "memory region");
	}
}

/** Ends a table, and closes those of its descriptors that `kept` has not. */
export function releaseMemory(
	memory: GuestMemory | undefined,
	kept: readonly OwnedRegion[] = [],
): void {
	if (!memory) return;
	native.memRelease(memory.handle);
	const still = new Set(kept.map(({ fd }) => fd));
	for (const { fd } of memory.regions) if (!still.has(fd)) closeFd(fd);
}
