// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Delivery, Runtime } from "../runtime.ts";
import {
	decodeMessage,
	decodeU64,
	encodeIotlb,
	encodeMessage,
	encodeState,
} from "./codec.ts";
import {
	BACKEND_CONFIG_CHANGE_MSG,
	BACKEND_IOTLB_MSG,
	BACKEND_VRING_CALL,
	BACKEND_VRING_ERR,
	FLAG_NEED_REPLY,
	IOTLB_MISS,
} from "./messages.ts";

/**
 * Requests from us to the front end, over the socket of SET_BACKEND_REQ_FD. With
 * ack they resolve when the front end has answered. They reject with E_CONNECT if it
 * does not, E_IO if it refused.
 */
export interface BackendChannel {
	/** Says that the configuration space changed. */
	configChanged(ack: boolean): Promise<void>;
	/** Asks for a translation; access: MEM_READ, MEM_WRITE. */
	iotlbMiss(iova: bigint, access: number, ack: boolean): Promise<void>;
	/** In place of a ring's call or err descriptor; awaits the answer. */
	vringCall(index: number): Promise<void>;
	vringError(index: number): Promise<void>;
	/**
	 * Takes the socket out of the transport, for another process: its descriptor, which
	 * is the caller's, and how many answers are still to come. The channel is closed then.
	 */
	take(): Promise<{ fd: number; owed: number }>;
	close(): void;
}

/** How long a front end may take to answer, in ms. */
const ACK_TIMEOUT = 5000;

interface Waiting {
	resolve(status: bigint): void;
	reject(reason: Error): void;
}

const NOBODY: Waiting = { resolve: () => {}, reject: () => {} };

/** Makes a channel of a connected socket, which it duplicates. owed: answers to be ignored. */
export function openBackendChannel(
	runtime: Runtime,
	fd: number,
	owed = 0,
): BackendChannel {
	const connection = runtime.adopt(fd);
	// In the order sent; one that timed out stays, for its answer may yet come.
	const waiting: Waiting[] = Array.from({ length: owed }, () => NOBODY);

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
	const request = async (
		number: number,
		ack: boolean,
		payload?: Buffer,
	): Promise<void> => {
		const flags = ack ? FLAG_NEED_REPLY : 0;
		connection.send(encodeMessage(number, flags, payload));
		if (!ack) return;
		const status = await answer(waiting);
		if (status !== 0n)
			throw new VhostctlError("E_IO", "the front end refused the change");
	};
	connection.onMessage(receive);
	connection.onClose(abandon);
	connection.next();

	return {
		configChanged: (ack) => request(BACKEND_CONFIG_CHANGE_MSG, ack),
		iotlbMiss: (iova, access, ack) =>
			request(
				BACKEND_IOTLB_MSG,
				ack,
				encodeIotlb({ iova, size: 0n, userAddr: 0n, access, type: IOTLB_MISS }),
			),
		vringCall: (index) =>
			request(BACKEND_VRING_CALL, true, encodeState({ index, num: 0 })),
		vringError: (index) =>
			request(BACKEND_VRING_ERR, true, encodeState({ index, num: 0 })),
		async take() {
			const taken = await connection.take();
			const owed = waiting.length;
			abandon();
			return { fd: taken, owed };
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
