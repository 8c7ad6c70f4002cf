// SPDX-License-Identifier: MIT
// Messages about the buffer of requests in flight. It is the connection's until a reset.
import { encodeInflight } from "./codec.ts";
import type { HandlersOf } from "./handler.ts";
import { type Inflight, makeInflight, openInflight } from "./inflight.ts";
import { restartAll, type SessionState } from "./state.ts";
import { isPacked } from "./vring.ts";

function use(state: SessionState, inflight: Inflight): Promise<void> {
	return restartAll(state, () => {
		state.inflight?.release();
		state.inflight = inflight;
	});
}

export const INFLIGHT_HANDLERS: HandlersOf<
	"GET_INFLIGHT_FD" | "SET_INFLIGHT_FD"
> = {
	async GET_INFLIGHT_FD(state, wanted) {
		const packed = state.features === 0n ? undefined : isPacked(state);
		const inflight = makeInflight(wanted, packed, state.device.maxQueues);
		await use(state, inflight);
		return {
			payload: encodeInflight(inflight, wanted.payloadSize),
			fds: [inflight.fd],
		};
	},

	async SET_INFLIGHT_FD(state, area, fds) {
		const { maxQueues } = state.device;
		const packed = isPacked(state);
		const inflight = openInflight(area, fds.peek(0), packed, maxQueues);
		fds.take();
		await use(state, inflight);
	},
};
