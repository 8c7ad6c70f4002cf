// SPDX-License-Identifier: MIT

/** Bits of the virtio feature set that belong to the transport. */
export const F_PROTOCOL_FEATURES = 1n << 30n;

/** Protocol features (vhost-user, "Protocol features"), by their bits. */
export const PROTOCOL_FEATURES = {
	MQ: 1n << 0n,
	REPLY_ACK: 1n << 3n,
	BACKEND_REQ: 1n << 5n,
	CONFIG: 1n << 9n,
	RESET_DEVICE: 1n << 13n,
	STATUS: 1n << 16n,
} as const;

export type ProtocolFeature = keyof typeof PROTOCOL_FEATURES;

/** What sessions implement; a device offers a subset. */
export const SUPPORTED_PROTOCOL_FEATURES = Object.values(
	PROTOCOL_FEATURES,
).reduce((all, bit) => all | bit, 0n);

/** How a payload is laid out; codec.ts has the decoder of each. */
export type PayloadKind =
	| "none"
	| "u64"
	| "state" // vring index and number
	| "address" // vring addresses
	| "memory" // memory regions
	| "fdIndex" // u64: vring index, and bit 8 for "no descriptor"
	| "config";

export interface MessageRow {
	readonly request: number;
	readonly payload: PayloadKind;
	/** Descriptors that must come along; "regions": one a region; "unlessBit8": one, or none with bit 8. */
	readonly fds: 0 | 1 | "regions" | "unlessBit8";
	/**
	 * Protocol feature that must have been negotiated; "offered" ones need no
	 * acknowledgement, as the specification has it for GET_QUEUE_NUM.
	 */
	readonly needs?: ProtocolFeature;
	readonly needsOnly?: "offered";
	/** "reply": a payload of its own; "ack": only if asked for (REPLY_ACK). */
	readonly answer: "reply" | "ack";
}

/** Every message that is implemented. */
export const MESSAGES = {
	GET_FEATURES: { request: 1, payload: "none", fds: 0, answer: "reply" },
	SET_FEATURES: { request: 2, payload: "u64", fds: 0, answer: "ack" },
	SET_OWNER: { request: 3, payload: "none", fds: 0, answer: "ack" },
	RESET_OWNER: { request: 4, payload: "none", fds: 0, answer: "ack" },
	SET_MEM_TABLE: {
		request: 5,
		payload: "memory",
		fds: "regions",
		answer: "ack",
	},
	SET_VRING_NUM: { request: 8, payload: "state", fds: 0, answer: "ack" },
	SET_VRING_ADDR: { request: 9, payload: "address", fds: 0, answer: "ack" },
	SET_VRING_BASE: { request: 10, payload: "state", fds: 0, answer: "ack" },
	GET_VRING_BASE: { request: 11, payload: "state", fds: 0, answer: "reply" },
	SET_VRING_KICK: {
		request: 12,
		payload: "fdIndex",
		fds: "unlessBit8",
		answer: "ack",
	},
	SET_VRING_CALL: {
		request: 13,
		payload: "fdIndex",
		fds: "unlessBit8",
		answer: "ack",
	},
	SET_VRING_ERR: {
		request: 14,
		payload: "fdIndex",
		fds: "unlessBit8",
		answer: "ack",
	},
	GET_PROTOCOL_FEATURES: {
		request: 15,
		payload: "none",
		fds: 0,
		answer: "reply",
	},
	SET_PROTOCOL_FEATURES: {
		request: 16,
		payload: "u64",
		fds: 0,
		answer: "ack",
	},
	GET_QUEUE_NUM: {
		request: 17,
		payload: "none",
		fds: 0,
		needs: "MQ",
		needsOnly: "offered",
		answer: "reply",
	},
	SET_VRING_ENABLE: { request: 18, payload: "state", fds: 0, answer: "ack" },
	SET_BACKEND_REQ_FD: {
		request: 21,
		payload: "none",
		fds: 1,
		needs: "BACKEND_REQ",
		answer: "ack",
	},
	GET_CONFIG: {
		request: 24,
		payload: "config",
		fds: 0,
		needs: "CONFIG",
		answer: "reply",
	},
	SET_CONFIG: {
		request: 25,
		payload: "config",
		fds: 0,
		needs: "CONFIG",
		answer: "ack",
	},
	RESET_DEVICE: {
		request: 34,
		payload: "none",
		fds: 0,
		needs: "RESET_DEVICE",
		answer: "ack",
	},
	SET_STATUS: {
		request: 39,
		payload: "u64",
		fds: 0,
		needs: "STATUS",
		answer: "ack",
	},
	GET_STATUS: {
		request: 40,
		payload: "none",
		fds: 0,
		needs: "STATUS",
		answer: "reply",
	},
} as const satisfies Record<string, MessageRow>;

export type MessageName = keyof typeof MESSAGES;

const BY_REQUEST: ReadonlyMap<number, MessageName> = new Map(
	Object.entries(MESSAGES).map(([name, row]) => [
		row.request,
		name as MessageName,
	]),
);

/** The implemented message of that number, if there is one. */
export function messageName(request: number): MessageName | undefined {
	return BY_REQUEST.get(request);
}

/** Messages of the specification that are refused. */
const REFUSED: Readonly<Record<number, string>> = {
	6: "SET_LOG_BASE",
	7: "SET_LOG_FD",
	19: "SEND_RARP",
	20: "NET_SET_MTU",
	22: "IOTLB_MSG",
	23: "SET_VRING_ENDIAN",
	26: "CREATE_CRYPTO_SESSION",
	27: "CLOSE_CRYPTO_SESSION",
	28: "POSTCOPY_ADVISE",
	29: "POSTCOPY_LISTEN",
	30: "POSTCOPY_END",
	31: "GET_INFLIGHT_FD",
	32: "SET_INFLIGHT_FD",
	33: "GPU_SET_SOCKET",
	35: "VRING_KICK",
	36: "GET_MAX_MEM_SLOTS",
	37: "ADD_MEM_REG",
	38: "REM_MEM_REG",
	41: "GET_SHARED_OBJECT",
	42: "SET_DEVICE_STATE_FD",
	43: "CHECK_DEVICE_STATE",
	44: "GET_SHMEM_CONFIG",
};

/**
 * Those of them whose answer is a payload of its own: an ack would be taken for
 * it, so refusing one closes the connection.
 */
const REFUSED_WITH_REPLY: ReadonlySet<number> = new Set([
	6, 22, 26, 28, 30, 31, 36, 41, 42, 43, 44,
]);

/** How to speak of a request: the specification's name, or its number. */
export function describeRequest(request: number): string {
	return messageName(request) ?? REFUSED[request] ?? `request ${request}`;
}

/** Whether a request of that number can be answered by an ack. */
export function canAck(request: number): boolean {
	const name = messageName(request);
	return name
		? MESSAGES[name].answer === "ack"
		: !REFUSED_WITH_REPLY.has(request);
}

/** Requests of the other direction, on the channel of SET_BACKEND_REQ_FD. */
export const BACKEND_CONFIG_CHANGE_MSG = 2;

/** Fields of the header's flags. */
export const FLAG_VERSION = 1;
export const FLAG_VERSION_MASK = 3;
export const FLAG_REPLY = 1 << 2;
export const FLAG_NEED_REPLY = 1 << 3;

/** Bit of the fdIndex payload: no descriptor comes along. */
export const NO_FD = 1n << 8n;

export const MAX_REGIONS = 8;
export const MAX_CONFIG = 256;
export const MAX_RING_SIZE = 32768;
