// SPDX-License-Identifier: MIT
// Messages that move a device's own state from one back end to another.
import { Buffer } from "node:buffer";
import { messageOf, VhostctlError } from "../errors.ts";
import { encodeU64 } from "./codec.ts";
import { receiveState, sendState } from "./device-state.ts";
import type { HandlersOf } from "./handler.ts";
import {
	NO_FD,
	STATE_LOAD,
	STATE_PHASE_STOPPED,
	STATE_SAVE,
} from "./messages.ts";
import { refuse, type SessionState } from "./state.ts";

function checkStopped(state: SessionState): void {
	for (const { run, index } of state.vrings.values())
		if (run) throw refuse(`ring ${index} is running`);
}

export const STATE_HANDLERS: HandlersOf<
	"SET_DEVICE_STATE_FD" | "CHECK_DEVICE_STATE"
> = {
	SET_DEVICE_STATE_FD(state, { direction, phase }, fds) {
		if (direction !== STATE_SAVE && direction !== STATE_LOAD)
			throw refuse(`direction ${direction}`);
		if (phase !== STATE_PHASE_STOPPED) throw refuse(`phase ${phase}`);
		checkStopped(state);
		const { device, session } = state;
		const saved =
			direction === STATE_SAVE
				? (device.exportState?.(session) ?? Buffer.alloc(0))
				: undefined;
		const begin = (fd: number) =>
			saved ? sendState(fd, saved) : receiveState(fd);
		const next = begin(fds.peek(0));
		fds.take();
		state.transfer?.transfer.cancel();
		state.transfer = { transfer: next, loads: direction === STATE_LOAD };
		return encodeU64(NO_FD); // done with the descriptor that came
	},

	/** The front end has sent or got all: whether it is good is to be known now. */
	async CHECK_DEVICE_STATE(state) {
		const { transfer, device, session } = state;
		if (!transfer) throw refuse("without SET_DEVICE_STATE_FD");
		state.transfer = undefined;
		const data = await transfer.transfer.done;
		if (!transfer.loads) return;
		checkStopped(state);
		try {
			if (device.importState) device.importState(session, data);
			else if (data.length > 0) throw refuse("this device has no state");
		} catch (error) {
			throw new VhostctlError("E_INVALID", `state: ${messageOf(error)}`);
		}
	},
};
