// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import { decodeInflight, encodeInflight, type InflightArea } from "./codec.ts";
import { call, callForFd, type Link } from "./frontend-link.ts";

/** The buffer in which a device keeps what it works on, for the one after it. */
export interface InflightBuffer {
	/** Ours, to be closed. */
	readonly fd: number;
	readonly description: InflightArea;
}

/** Has the device make a buffer. Throws E_PROTOCOL. */
export async function fetchInflight(
	link: Link,
	queues: number,
	queueSize: number,
): Promise<InflightBuffer> {
	const wanted = { size: 0n, offset: 0n, numQueues: queues, queueSize };
	const payload = encodeInflight(wanted);
	const { payload: reply, fd } = await callForFd(
		link,
		"GET_INFLIGHT_FD",
		payload,
	);
	try {
		const description = decodeInflight(reply);
		if (description.size === 0n)
			throw new VhostctlError("E_PROTOCOL", "an in-flight buffer of 0 bytes");
		return {
			fd,
			description: { ...description, numQueues: queues, queueSize },
		};
	} catch (error) {
		native.fdClose(fd);
		throw error;
	}
}

/** Gives a buffer to the device, which then goes on with what it finds in it. */
export async function sendInflight(
	link: Link,
	{ fd, description }: InflightBuffer,
): Promise<void> {
	await call(link, "SET_INFLIGHT_FD", encodeInflight(description), [fd]);
}
