// SPDX-License-Identifier: MIT
// A request of a raw ring in a program's hands, from its coming up to its one completion.
import { Buffer } from "node:buffer";
import { decode, LAYOUTS } from "../../ffi/layout.ts";
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Session } from "../vhost-user/device.ts";
import type { DeviceRequest } from "./types.ts";

export interface OwnRequest extends DeviceRequest {
	/** Ends it without the program: nobody waits for it. */
	abandon(): void;
}

const MAX_USED = 0xffffffff;
const INFO_BYTES = LAYOUTS.vhc_request_info.size;

function checkCount(what: string, value: number): void {
	if (!Number.isSafeInteger(value) || value < 0)
		throw new VhostctlError("E_INVALID", `${what} ${value} of a request`);
}

/**
 * info: struct vhc_request_info and the beginning of the readable part. onEnd runs
 * once, when it is completed or abandoned.
 */
export function makeRequest(
	connection: Session,
	queue: number,
	handle: bigint,
	info: Buffer,
	onEnd: () => void,
): OwnRequest {
	const fields = decode("vhc_request_info", info);
	const start = info.subarray(INFO_BYTES, INFO_BYTES + fields.copied);
	const readable = Number(fields.out_len);
	const writable = Number(fields.in_len);
	const abortion = new AbortController();
	let completed = false;
	/** Bytes written from the first on. */
	let written = 0;

	const end = (bytes: number): void => {
		completed = true;
		native.requestCompleteRaw(handle, bytes);
		onEnd();
	};
	/** False: it was abandoned. */
	const open = (): boolean => {
		if (completed && !abortion.signal.aborted)
			throw new VhostctlError("E_INVALID", "the request was completed before");
		return !completed;
	};

	return {
		connection,
		queue,
		readable,
		writable,
		signal: abortion.signal,
		get completed() {
			return completed;
		},
		read(length, offset = 0) {
			checkCount("length", length);
			checkCount("offset", offset);
			const stop = Math.min(offset + length, readable);
			if (!open() || stop <= offset) return Buffer.alloc(0);
			if (stop <= start.length)
				return Buffer.from(start.subarray(offset, stop));
			return native.requestRead(handle, offset, stop - offset);
		},
		write(data, offset = 0) {
			checkCount("offset", offset);
			if (!open()) return 0;
			const count = native.requestWrite(handle, offset, data);
			if (offset <= written) written = Math.max(written, offset + count);
			return count;
		},
		complete(bytes = written) {
			checkCount("written", bytes);
			if (open()) end(Math.min(bytes, writable, MAX_USED));
		},
		abandon() {
			if (completed) return;
			end(0);
			abortion.abort();
		},
	};
}
