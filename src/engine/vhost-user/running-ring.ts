// SPDX-License-Identifier: MIT
import { NativeError, native } from "../../ffi/native.ts";
import type { Coalescing } from "../coalescing.ts";
import type { RunningRing } from "./device.ts";

/** A ring that was given to a reactor, as startRing answers it. */
export function runningRing(
	{ id, handle }: { readonly id: number; readonly handle: bigint },
	ring: bigint,
): RunningRing {
	return {
		reactor: id,
		requestStop: () => void native.reactorStopRing(handle, ring),
		setMem: (mem, refuse) =>
			void native.reactorSetMem(handle, ring, mem, refuse),
	};
}

/** Has a ring of a reactor obey from now on; one that has just stopped has nothing to obey. */
export function coalesceRing(
	reactor: bigint,
	ring: bigint,
	{ delayBaseUs, iopsThreshold }: Coalescing,
): void {
	try {
		native.reactorSetCoalescing(
			reactor,
			ring,
			BigInt(delayBaseUs) * 1000n,
			BigInt(iopsThreshold),
		);
	} catch (error) {
		if (!(error instanceof NativeError) || error.code !== "ENOENT") throw error;
	}
}
