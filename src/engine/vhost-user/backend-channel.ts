// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Delivery, Runtime } from "../runtime.ts";
import { decodeMessage, decodeU64, encodeMessage } from "./codec.ts";
import { BACKEND_CONFIG_CHANGE_MSG, FLAG_NEED_REPLY } from "./messages.ts";

/** Requests from us to the front end, over the socket of SET_BACKEND_REQ_FD. */
export interface BackendChannel {
	/**
	 * Says that the configuration space changed. With ack, resolves when the front
	 * end has answered. Throws E_CONNECT if it does not, E_IO if it refused.
	 */
	configChanged(ack: boolean): Promise<void>;
	close(): void;
}

/** How long a front end may take to answer, in ms. */
const ACK_TIMEOUT = 5000;

interface Waiting {
	resolve(status: bigint): void;
	reject(reason: Error): void;
}

/** Makes a channel of a connected socket, which it duplicates. */
export function openBackendChannel(
	runtime: Runtime,
	fd: number,
): BackendChannel {
	const connection = runtime.adopt(fd);
	// In the order sent; one that timed out stays, for its answer may yet come.
	const waiting: Waiting[] = [];

	const receive = ({ data, fds }: Delivery): void => {
		for (const extra of fds) native.fdClose(extra);
		try {
			waiting.shift()?.resolve(decodeU64(decodeMessage(data).payload));
			connection.next();
		} catch {
			connection.close(); // what it sends is no answer
		}
	};
	const abandon = (): void => {
		for (const { reject } of waiting.splice(0))
			reject(new VhostctlError("E_CONNECT", "the back-end channel closed"));
	};
	connection.onMessage(receive);
	connection.onClose(abandon);
	connection.next();

	return {
		async configChanged(ack) {
			const flags = ack ? FLAG_NEED_REPLY : 0;
			connection.send(encodeMessage(BACKEND_CONFIG_CHANGE_MSG, flags));
			if (!ack) return;
			const status = await answer(waiting);
			if (status !== 0n)
				throw new VhostctlError("E_IO", "the front end refused the change");
		},
		close() {
			connection.close();
			abandon();
		},
	};
}

function answer(waiting: Waiting[]): Promise<bigint> {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(() => {
			reject(new VhostctlError("E_CONNECT", "the front end does not answer"));
		}, ACK_TIMEOUT);
		waiting.push({
			resolve(status) {
				clearTimeout(timer);
				resolve(status);
			},
			reject(reason) {
				clearTimeout(timer);
				reject(reason);
			},
		});
	});
}
