// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import type { Delivery, Runtime } from "../runtime.ts";
import { decodeMessage, encodeReply, encodeU64 } from "./codec.ts";
import { BACKEND_CONFIG_CHANGE_MSG, FLAG_NEED_REPLY } from "./messages.ts";

/** The front end's side of the back-end channel: hears of configuration changes. */
export interface ConfigChannel {
	close(): void;
}

/** Makes a channel of a connected socket, which it duplicates. */
export function openConfigChannel(
	runtime: Runtime,
	fd: number,
	onChange: () => void,
): ConfigChannel {
	const connection = runtime.adopt(fd);
	connection.onMessage(({ data, fds }: Delivery) => {
		for (const extra of fds) native.fdClose(extra);
		try {
			const { request, flags } = decodeMessage(data);
			const known = request === BACKEND_CONFIG_CHANGE_MSG;
			if (known) onChange();
			if (flags & FLAG_NEED_REPLY)
				connection.send(encodeReply(request, encodeU64(known ? 0n : 1n)));
			connection.next();
		} catch {
			connection.close(); // not a message, or nobody reads the answer
		}
	});
	connection.next();
	return { close: () => connection.close() };
}
