// SPDX-License-Identifier: MIT
// Messages about the dirty log, which is kept until the features ask for it, and through resets.
import { VIRTIO_F } from "../virtio/features.ts";
import { encodeU64 } from "./codec.ts";
import type { HandlersOf } from "./handler.ts";
import { type DirtyLog, makeLog, markAll, releaseLog } from "./log.ts";
import { restartAll, type SessionState } from "./state.ts";

async function replaceLog(state: SessionState, next: DirtyLog): Promise<void> {
	const swap = () => {
		releaseLog(state.log, next);
		state.log = next;
	};
	if ((state.features & VIRTIO_F.LOG_ALL) !== 0n) await restartAll(state, swap);
	else swap();
	if (!state.unlogged || next.handle === undefined) return;
	markAll(next, state.memory);
	state.unlogged = false;
}

export const LOG_HANDLERS: HandlersOf<"SET_LOG_BASE" | "SET_LOG_FD"> = {
	async SET_LOG_BASE(state, area, fds) {
		const base = { ...area, fd: fds.peek(0) };
		const next = makeLog(base, state.log.signal);
		fds.take();
		await replaceLog(state, next);
		return encodeU64(0n); // front ends await an answer, whatever is in it
	},

	async SET_LOG_FD(state, _, fds) {
		const next = makeLog(state.log.base, fds.peek(0));
		fds.take();
		await replaceLog(state, next);
	},
};
