// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import type { DECODERS } from "./codec.ts";
import type { ReceivedFds } from "./fds.ts";
import type { MESSAGES, MessageName } from "./messages.ts";
import type { SessionState } from "./state.ts";

/** A reply with descriptors, which stay their owner's. */
export interface ReplyWithFds {
	readonly payload: Buffer;
	readonly fds: readonly number[];
}

type Reply = Buffer | ReplyWithFds | undefined;

/** Carries a message out; returns the reply for those that have one. */
export type Handler<B> = (
	state: SessionState,
	body: B,
	fds: ReceivedFds,
) => Promise<Reply> | Reply | Promise<void>;

type Body<N extends MessageName> = ReturnType<
	(typeof DECODERS)[(typeof MESSAGES)[N]["payload"]]
>;

/** A handler for each of some messages. */
export type HandlersOf<N extends MessageName> = {
	readonly [M in N]: Handler<Body<M>>;
};
