// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
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
