// SPDX-License-Identifier: MIT
import { NativeError } from "../../ffi/native.ts";
import { fromErrno } from "../errors.ts";
import type { IotlbMessage } from "./codec.ts";
import type { HandlersOf } from "./handler.ts";
import type { Iotlb } from "./iotlb.ts";
import { IOTLB_INVALIDATE, IOTLB_UPDATE } from "./messages.ts";
import { answerMisses } from "./misses.ts";
import { everyVring, refuse, restartAll, type SessionState } from "./state.ts";
import { halt, settle } from "./vring.ts";

/** No range may reach the last byte of the address space. */
const SPACE = (1n << 64n) - 1n;

/** The range that an invalidation is about: of size 0 from 0 on, all, as the kernel has it. */
function rangeOf({ iova, size }: IotlbMessage): [iova: bigint, size: bigint] {
	if (iova === 0n && size === 0n) return [0n, SPACE];
	if (size === 0n) throw refuse("an empty range");
	return iova + size > SPACE ? [iova, SPACE - iova] : [iova, size];
}

function isFull(error: unknown): boolean {
	return (
		error instanceof RangeError ||
		(error instanceof NativeError && error.code === "ENOSPC")
	);
}

async function update(
	state: SessionState,
	iotlb: Iotlb,
	{ iova, size, userAddr, access }: IotlbMessage,
): Promise<void> {
	const piece = { iova, size, userAddr, access };
	if (iova + size > SPACE) throw refuse("a range that wraps around");
	try {
		iotlb.show(piece);
	} catch (error) {
		if (!isFull(error)) throw fromErrno(error, "IOTLB update");
		// It is a cache: what is needed again is asked for again.
		await everyVring(state, halt);
		iotlb.clear();
		iotlb.show(piece);
		await everyVring(state, settle);
	}
	await answerMisses(state);
}

/** Nothing uses the range any more when this resolves. */
async function invalidate(
	state: SessionState,
	iotlb: Iotlb,
	message: IotlbMessage,
): Promise<void> {
	const [iova, size] = rangeOf(message);
	if (!iotlb.knows(iova, size)) return;
	await restartAll(state, () => {
		if (size === SPACE) iotlb.clear();
		else iotlb.hide(iova, size);
	});
}

export const IOTLB_HANDLERS: HandlersOf<"IOTLB_MSG"> = {
	async IOTLB_MSG(state, message) {
		const { iotlb } = state;
		if (!iotlb)
			throw refuse("ACCESS_PLATFORM was not negotiated, or there is no memory");
		if (message.type === IOTLB_UPDATE) await update(state, iotlb, message);
		else if (message.type === IOTLB_INVALIDATE)
			await invalidate(state, iotlb, message);
		else throw refuse(`type ${message.type}`);
	},
};
