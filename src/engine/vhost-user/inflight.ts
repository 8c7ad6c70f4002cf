// SPDX-License-Identifier: MIT
// The buffer of requests in flight (vhost-user, "Inflight I/O tracking").
import { native, PAGES_SHARED } from "../../ffi/native.ts";
import { fromErrno, VhostctlError } from "../errors.ts";
import type { InflightArea } from "./codec.ts";
import { closeFd } from "./fds.ts";
import { MAX_RING_SIZE } from "./messages.ts";

/** A buffer in use. Its descriptor is its own. */
export interface Inflight extends InflightArea {
	readonly fd: number;
	/** struct vhc_inflight *, for rings of one format. Throws why they cannot be tracked in it. */
	handle(packed: boolean): bigint;
	/** Leaves the descriptor open. */
	unmap(): void;
	release(): void;
}

const PAGE = 4096n;

function checkShape(area: InflightArea, maxQueues: number): void {
	const { numQueues, queueSize } = area;
	if (numQueues < 1 || numQueues > maxQueues)
		throw new VhostctlError(
			"E_PROTOCOL",
			`${numQueues} rings, where there are 1 to ${maxQueues}`,
		);
	if (queueSize < 1 || queueSize > MAX_RING_SIZE)
		throw new VhostctlError("E_PROTOCOL", `rings of ${queueSize} entries`);
}

function inflightOf(
	area: InflightArea,
	fd: number,
	close: () => void,
): Inflight {
	let mapped: { packed: boolean; handle: bigint } | undefined;
	const unmap = (): void => {
		if (mapped) native.inflightRelease(mapped.handle);
		mapped = undefined;
	};
	return {
		...area,
		fd,
		handle(packed) {
			if (mapped?.packed === packed) return mapped.handle;
			try {
				const handle = native.inflightCreate({
					offset: area.offset,
					size: area.size,
					fd,
					num_queues: area.numQueues,
					queue_size: area.queueSize,
					packed: packed ? 1 : 0,
				});
				unmap();
				mapped = { packed, handle };
				return handle;
			} catch (error) {
				throw fromErrno(error, "in-flight buffer");
			}
		},
		unmap,
		release() {
			unmap();
			close();
		},
	};
}

/**
 * Makes a buffer of zeros for rings of a format; undefined: it is not negotiated yet,
 * and both will do.
 */
export function makeInflight(
	wanted: InflightArea,
	packed: boolean | undefined,
	maxQueues: number,
): Inflight {
	checkShape(wanted, maxQueues);
	const { numQueues, queueSize } = wanted;
	const bytes = [true, false]
		.filter((format) => packed === undefined || packed === format)
		.map((format) => native.inflightBytes(numQueues, queueSize, format))
		.reduce((most, next) => (next > most ? next : most));
	try {
		const pages = native.pagesAlloc({
			size: bytes,
			pageSize: PAGE,
			flags: PAGES_SHARED,
		});
		const area = { numQueues, queueSize, size: pages.size, offset: 0n };
		return inflightOf(area, pages.fd, () => void native.pagesFree(pages));
	} catch (error) {
		throw fromErrno(error, "in-flight buffer");
	}
}

/** A front end's buffer, with a descriptor that is its own if it can be used. Throws why not. */
export function openInflight(
	area: InflightArea,
	fd: number,
	packed: boolean,
	maxQueues: number,
): Inflight {
	checkShape(area, maxQueues);
	const inflight = inflightOf(area, fd, () => closeFd(fd));
	inflight.handle(packed);
	return inflight;
}
