// SPDX-License-Identifier: MIT
// What two instances say to each other when one takes over from the other: documents, with
// descriptors beside them, of any size.
import { Buffer } from "node:buffer";
import { constants } from "node:os";
import { errnoName, NativeError } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Connection, Delivery } from "../runtime.ts";
import { closeFds } from "../transport.ts";
import { decodeMessage, encodeMessage } from "../vhost-user/codec.ts";

/** A JSON value and descriptors, which are the receiver's to close. */
export interface Parcel {
	readonly document: unknown;
	readonly fds: readonly number[];
}

export interface Link {
	/** Resolves when it is on its way; descriptors stay the caller's. Rejects with E_CONNECT. */
	send(document: unknown, fds?: readonly number[]): Promise<void>;
	/** The next one. Rejects with E_CONNECT: when the other end has gone, or does not say anything for so long. */
	receive(timeoutMs: number): Promise<Parcel>;
	/** The other end closed it, by its death perhaps: it did not just break on this side. */
	readonly isLeft: boolean;
	close(): void;
}

/** Messages on the way: parts of a document's text, each with some of the descriptors. */
const PART = 1;
const LAST_PART = 2;
const PART_BYTES = 4096;
const PART_FDS = 32;
const VERSION = 1;
/** How a connection closes whose other end has gone: between messages, within one, or with one unread. */
const { EPROTO, EPIPE } = constants.errno;
const HUNG_UP: readonly number[] = [0, EPROTO, EPIPE];
const GONE = "the other instance has gone";
const END_MS = 500;
/** How long the other end may leave the socket full. */
const SEND_PATIENCE_MS = 5000;

async function sendPart(
	connection: Connection,
	message: Buffer,
	fds: readonly number[],
): Promise<void> {
	const end = performance.now() + SEND_PATIENCE_MS;
	for (;;) {
		try {
			return connection.send(message, fds);
		} catch (error) {
			const full = error instanceof NativeError && error.code === "EAGAIN";
			if (!full || performance.now() > end)
				throw new VhostctlError("E_CONNECT", GONE, { cause: error });
		}
		await new Promise((resolve) => setTimeout(resolve, 1));
	}
}

async function sendAll(
	connection: Connection,
	document: unknown,
	fds: readonly number[],
): Promise<void> {
	const text = Buffer.from(JSON.stringify(document));
	const parts = Math.max(
		Math.ceil(text.length / PART_BYTES),
		Math.ceil(fds.length / PART_FDS),
	);
	for (let i = 0; i < parts; i++) {
		const data = text.subarray(i * PART_BYTES, (i + 1) * PART_BYTES);
		const some = fds.slice(i * PART_FDS, (i + 1) * PART_FDS);
		const request = i === parts - 1 ? LAST_PART : PART;
		await sendPart(connection, encodeMessage(request, VERSION, data), some);
	}
}

/** Makes a link of a connection, which it has from then on. */
export function createLink(connection: Connection): Link {
	let text: Buffer[] = [];
	let fds: number[] = [];
	const arrived: Parcel[] = [];
	let wake: () => void = () => {};
	let open = true;
	let left = false;
	let reason = GONE;

	const end = (): void => {
		open = false;
		closeFds(fds);
		fds = [];
		wake();
	};
	const take = ({ data, fds: came }: Delivery): void => {
		fds.push(...came);
		const { request, payload } = decodeMessage(data);
		text.push(payload);
		if (request !== LAST_PART) return;
		const document: unknown = JSON.parse(Buffer.concat(text).toString());
		arrived.push({ document, fds });
		text = [];
		fds = [];
		wake();
	};
	connection.onMessage((delivery) => {
		try {
			take(delivery);
			connection.next();
		} catch {
			connection.close(); // none of ours
		}
	});
	connection.onClose((errno) => {
		left = open && HUNG_UP.includes(errno);
		if (open && !left) reason = `the link broke: ${errnoName(errno)}`;
		end();
	});
	connection.next();

	/** Waits a moment for the close that a failure is the first sign of. */
	const ending = async (): Promise<void> => {
		const until = performance.now() + END_MS;
		while (open && performance.now() < until)
			await new Promise((resolve) => setTimeout(resolve, 1));
	};
	return {
		async send(document, descriptors = []) {
			try {
				await sendAll(connection, document, descriptors);
			} catch (error) {
				await ending(); // then it is known why
				throw error;
			}
		},
		async receive(timeoutMs) {
			const until = performance.now() + timeoutMs;
			for (;;) {
				const parcel = arrived.shift();
				if (parcel) return parcel;
				const left = until - performance.now();
				if (!open || left <= 0)
					throw new VhostctlError(
						"E_CONNECT",
						open ? "the other instance does not answer" : reason,
					);
				await new Promise<void>((resolve) => {
					const timer = setTimeout(resolve, left);
					wake = () => {
						clearTimeout(timer);
						resolve();
					};
				});
			}
		},
		get isLeft() {
			return left;
		},
		close() {
			connection.close();
			for (const parcel of arrived.splice(0)) closeFds(parcel.fds);
			end();
		},
	};
}
