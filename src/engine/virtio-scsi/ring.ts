// SPDX-License-Identifier: MIT
// A request ring on its reactor: the logical units attached to it, and what is asked of it.
import {
	ABORT_BY_TAG,
	ABORT_QUERY,
	NativeError,
	native,
} from "../../ffi/native.ts";
import type { Reactor } from "../reactors.ts";

/** A logical unit of a session attached to one of its rings: commands for it are executed there. */
export interface Lane {
	readonly ring: RequestRing;
	/** VHC_LUN_ADDRESS. */
	readonly address: number;
	/** False once it was detached, or its ring stopped. */
	readonly attached: boolean;
	/**
	 * Keeps commands from being executed, from when it resolves to release. Calls
	 * nest. Resolves at once if there is nothing attached.
	 */
	hold(): Promise<void>;
	release(): void;
	/**
	 * To be called as soon as an ORDERED command came up that the lane is held for.
	 * Resolves when that has taken effect. To be released as well.
	 */
	held(): Promise<void>;
	/** To be called while it is held and idle. Commands that wait come up. */
	detach(): void;
}

/** Which requests of a ring an abort is about. */
export interface AbortScope {
	/** VHC_LUN_ADDRESS. */
	readonly address: number;
	/** Only the one with this tag. */
	readonly tag?: bigint | undefined;
	/** VIRTIO_SCSI_S_*; undefined: they are only counted. */
	readonly response: number | undefined;
}

export interface RequestRing {
	readonly index: number;
	readonly reactor: Reactor;
	attach(address: number, lun: bigint, stats: bigint): Lane;
	/** Ends requests that are the ring's own; resolves with their count when they have ended. */
	abort(scope: AbortScope): Promise<number>;
	onLunIdle(address: number): void;
	onAborted(cookie: number, count: number): void;
	/** The reactor gave the ring back: nothing is held or attached any more. */
	stopped(): void;
}

/** Runs a call on a ring that may have stopped meanwhile. False: it has. */
function onRunningRing(call: () => unknown): boolean {
	try {
		call();
		return true;
	} catch (error) {
		if (error instanceof NativeError && error.code === "ENOENT") return false;
		throw error;
	}
}

interface OwnLane extends Lane {
	notice(): void;
	/** It is attached no more; returns how many notices are still to come. */
	end(): number;
}

/**
 * Each hold has its notice, told when the lane is idle. Which is whose does not
 * matter: while one is due its hold is in place, so the lane is idle for all.
 */
function createLane(
	ring: RequestRing & { handle: bigint },
	address: number,
	onDetach: (due: number) => void,
): OwnLane {
	const { reactor, handle } = ring;
	const waiting: (() => void)[] = [];
	let attached = true;

	const idle = async (): Promise<void> => {
		if (attached) await new Promise<void>((resolve) => waiting.push(resolve));
	};
	const lane: OwnLane = {
		ring,
		address,
		get attached() {
			return attached;
		},
		async hold() {
			const hold = () => native.reactorHoldLun(reactor.handle, handle, address);
			if (attached && onRunningRing(hold)) await idle();
		},
		held: idle,
		release() {
			if (!attached) return;
			onRunningRing(() =>
				native.reactorResumeLun(reactor.handle, handle, address),
			);
		},
		detach() {
			if (!attached) return;
			onRunningRing(() =>
				native.reactorDetachLun(reactor.handle, handle, address),
			);
			onDetach(lane.end());
		},
		notice: () => waiting.shift()?.(),
		end() {
			attached = false;
			const due = waiting.splice(0);
			for (const resolve of due) resolve();
			return due.length;
		},
	};
	return lane;
}

/** Takes charge of a request ring that a reactor runs. */
export function createRequestRing(
	index: number,
	reactor: Reactor,
	handle: bigint,
): RequestRing {
	const lanes = new Map<number, OwnLane>();
	/** By address: notices on their way that are for a lane that was. */
	const stale = new Map<number, number>();
	const aborts = new Map<number, (count: number) => void>();
	let lastCookie = 0;

	const ring: RequestRing & { handle: bigint } = {
		index,
		reactor,
		handle,
		attach(address, lun, stats) {
			native.reactorAttachLun(reactor.handle, handle, address, lun, stats);
			const lane = createLane(ring, address, (due) => {
				stale.set(address, (stale.get(address) ?? 0) + due);
			});
			lanes.set(address, lane);
			return lane;
		},
		async abort({ address, tag, response }) {
			lastCookie = (lastCookie + 1) >>> 0;
			const cookie = lastCookie;
			const ended = new Promise<number>((resolve) => {
				aborts.set(cookie, resolve);
			});
			const flags =
				(tag === undefined ? 0 : ABORT_BY_TAG) |
				(response === undefined ? ABORT_QUERY : 0);
			const running = onRunningRing(() =>
				native.reactorAbort(reactor.handle, handle, {
					tag: tag ?? 0n,
					flags,
					address,
					response: response ?? 0,
					cookie,
				}),
			);
			if (!running) ring.onAborted(cookie, 0);
			return ended;
		},
		onLunIdle(address) {
			const due = stale.get(address) ?? 0;
			if (due > 0) stale.set(address, due - 1);
			else lanes.get(address)?.notice();
		},
		onAborted(cookie, count) {
			aborts.get(cookie)?.(count);
			aborts.delete(cookie);
		},
		stopped() {
			for (const lane of lanes.values()) lane.end();
			lanes.clear();
			for (const cookie of [...aborts.keys()]) ring.onAborted(cookie, 0);
		},
	};
	return ring;
}
