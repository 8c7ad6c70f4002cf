// SPDX-License-Identifier: MIT
import {
	native,
	PAGES_FALLBACK,
	PAGES_SHARED,
	type Pages,
} from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import {
	decodeU64,
	encodeMemory,
	encodeRegion,
	type MemoryRegion,
} from "./codec.ts";
import { call, has, type Link } from "./frontend-link.ts";
import { MAX_REGIONS } from "./messages.ts";

/** Memory of this process that the device sees too. */
export interface SharedMemory {
	readonly addr: bigint;
	/** Bytes. */
	readonly size: bigint;
	/** Its guest address. */
	readonly gpa: bigint;
}

/** Pages shared as one region. */
export interface Region extends SharedMemory {
	readonly pages: Pages;
}

/** The regions of a front end; the first one has the rings and stays. */
export interface GuestMemory {
	readonly regions: Region[];
}

/** As in a machine, guest addresses have nothing to do with those of the front end. */
const FIRST_GPA = 1n << 30n;
const GPA_ALIGN = 2n << 20n;

function alignUp(value: bigint): bigint {
	return ((value + GPA_ALIGN - 1n) / GPA_ALIGN) * GPA_ALIGN;
}

/** The lowest guest address with so much room behind it. */
function findRoom(regions: readonly Region[], size: bigint): bigint {
	let gpa = FIRST_GPA;
	for (const each of [...regions].sort((a, b) => Number(a.gpa - b.gpa))) {
		if (each.gpa - gpa >= size) break;
		gpa = alignUp(each.gpa + each.size);
	}
	return gpa;
}

/** Makes a region, which the device does not know yet. Throws NativeError. */
export function allocateRegion(
	memory: GuestMemory,
	size: bigint,
	pageSize: bigint,
): Region {
	const pages = native.pagesAlloc({
		size,
		pageSize,
		flags: PAGES_SHARED | PAGES_FALLBACK,
	});
	const gpa = findRoom(memory.regions, pages.size);
	const region = { addr: pages.addr, size: pages.size, gpa, pages };
	memory.regions.push(region);
	return region;
}

/** Takes a region out and frees it; the device must not know it any more. */
export function freeRegion(memory: GuestMemory, region: Region): void {
	memory.regions.splice(memory.regions.indexOf(region), 1);
	native.pagesFree(region.pages);
}

/** The first guest address behind all regions. */
export function memoryEnd({ regions }: GuestMemory): bigint {
	return regions.reduce(
		(end, { gpa, size }) => (gpa + size > end ? gpa + size : end),
		0n,
	);
}

function describe({ gpa, size, addr }: Region): MemoryRegion {
	return { gpa, size, userAddr: addr, offset: 0n };
}

/** Regions that a device takes at the same time. */
export async function readMaxRegions(link: Link): Promise<number> {
	if (!has(link, "CONFIGURE_MEM_SLOTS")) return MAX_REGIONS;
	return Number(decodeU64(await call(link, "GET_MAX_MEM_SLOTS")));
}

/** Tells the device all regions at once, in place of those that it had. */
export async function sendTable(
	link: Link,
	{ regions }: GuestMemory,
): Promise<void> {
	const fds = regions.map(({ pages }) => pages.fd);
	await call(link, "SET_MEM_TABLE", encodeMemory(regions.map(describe)), fds);
}

/** Tells a device that knows none yet all regions. */
export async function sendRegions(
	link: Link,
	memory: GuestMemory,
): Promise<void> {
	if (!has(link, "CONFIGURE_MEM_SLOTS")) return sendTable(link, memory);
	for (const region of memory.regions) await sendAdded(link, region);
}

async function sendAdded(link: Link, region: Region): Promise<void> {
	const payload = encodeRegion(describe(region));
	await call(link, "ADD_MEM_REG", payload, [region.pages.fd]);
}

/** Tells the device of one more region. Throws E_INVALID if it has no room for it. */
export async function sendMore(
	link: Link,
	memory: GuestMemory,
	region: Region,
	maxRegions: number,
): Promise<void> {
	if (memory.regions.length > maxRegions)
		throw new VhostctlError(
			"E_INVALID",
			`the device takes ${maxRegions} memory regions`,
		);
	if (has(link, "CONFIGURE_MEM_SLOTS")) await sendAdded(link, region);
	else await sendTable(link, memory);
}

/** Has the device forget a region. */
export async function sendLess(
	link: Link,
	memory: GuestMemory,
	region: Region,
): Promise<void> {
	if (has(link, "CONFIGURE_MEM_SLOTS")) {
		await call(link, "REM_MEM_REG", encodeRegion(describe(region)));
		return;
	}
	const regions = memory.regions.filter((each) => each !== region);
	await sendTable(link, { regions });
}
