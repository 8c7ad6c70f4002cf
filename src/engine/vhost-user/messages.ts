// SPDX-License-Identifier: MIT

/** Bits of the virtio feature set that belong to the transport. */
export const F_PROTOCOL_FEATURES = 1n << 30n;

/** Protocol features (vhost-user, "Protocol features"), by their bits. */
export const PROTOCOL_FEATURES = {
	MQ: 1n << 0n,
	LOG_SHMFD: 1n << 1n,
	REPLY_ACK: 1n << 3n,
	BACKEND_REQ: 1n << 5n,
	PAGEFAULT: 1n << 8n,
	CONFIG: 1n << 9n,
	INFLIGHT_SHMFD: 1n << 12n,
	RESET_DEVICE: 1n << 13n,
	INBAND_NOTIFICATIONS: 1n << 14n,
	CONFIGURE_MEM_SLOTS: 1n << 15n,
	STATUS: 1n << 16n,
	DEVICE_STATE: 1n << 19n,
} as const;

export type ProtocolFeature = keyof typeof PROTOCOL_FEATURES;

/** What sessions implement; a device offers a subset. */
export const SUPPORTED_PROTOCOL_FEATURES = Object.values(
	PROTOCOL_FEATURES,
).reduce((all, bit) => all | bit, 0n);

/**
 * What a device offers unless it is told to offer more. With PAGEFAULT a front end
 * can make a reactor wait for ever. With INBAND_NOTIFICATIONS Linux's virtio_uml
 * sends a message for each kick.
 */
export const DEFAULT_PROTOCOL_FEATURES =
	SUPPORTED_PROTOCOL_FEATURES &
	~(PROTOCOL_FEATURES.PAGEFAULT | PROTOCOL_FEATURES.INBAND_NOTIFICATIONS);

/** How a payload is laid out; codec.ts has the decoder of each. */
export type PayloadKind =
	| "none"
	| "u64"
	| "state" // vring index and number
	| "address" // vring addresses
	| "memory" // memory regions
	| "region" // one memory region
	| "fdIndex" // u64: vring index, and bit 8 for "no descriptor"
	| "config"
	| "log"
	| "inflight"
	| "iotlb"
	| "transfer"; // device state: direction and phase

export interface MessageRow {
	readonly request: number;
	readonly payload: PayloadKind;
	/**
	 * Descriptors that must come along; "regions": one a region; "unlessBit8": one, or
	 * none with bit 8; "stray": none, but one is closed.
	 */
	readonly fds: 0 | 1 | "regions" | "unlessBit8" | "stray";
	/**
	 * Protocol feature that must have been negotiated; "offered" ones need no
	 * acknowledgement, as the specification has it for GET_QUEUE_NUM.
	 */
	readonly needs?: ProtocolFeature;
	readonly needsOnly?: "offered";
	/**
	 * "reply": a payload of its own; "ack": only if asked for (REPLY_ACK); "status": a
	 * u64 in any case, not 0 when it fails.
	 */
	readonly answer: "reply" | "ack" | "status";
	/** The status of failure, if it is not 1. */
	readonly failure?: bigint;
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
	SET_LOG_BASE: {
		request: 6,
		payload: "log",
		fds: 1,
		needs: "LOG_SHMFD",
		answer: "reply",
	},
	SET_LOG_FD: { request: 7, payload: "none", fds: 1, answer: "ack" },
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
	IOTLB_MSG: { request: 22, payload: "iotlb", fds: 0, answer: "status" },
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
	POSTCOPY_ADVISE: {
		request: 28,
		payload: "none",
		fds: 0,
		needs: "PAGEFAULT",
		answer: "reply",
	},
	POSTCOPY_LISTEN: {
		request: 29,
		payload: "none",
		fds: 0,
		needs: "PAGEFAULT",
		answer: "ack",
	},
	POSTCOPY_END: {
		request: 30,
		payload: "none",
		fds: 0,
		needs: "PAGEFAULT",
		answer: "status",
	},
	GET_INFLIGHT_FD: {
		request: 31,
		payload: "inflight",
		fds: 0,
		needs: "INFLIGHT_SHMFD",
		answer: "reply",
	},
	SET_INFLIGHT_FD: {
		request: 32,
		payload: "inflight",
		fds: 1,
		needs: "INFLIGHT_SHMFD",
		answer: "ack",
	},
	RESET_DEVICE: {
		request: 34,
		payload: "none",
		fds: 0,
		needs: "RESET_DEVICE",
		answer: "ack",
	},
	VRING_KICK: {
		request: 35,
		payload: "state",
		fds: 0,
		needs: "INBAND_NOTIFICATIONS",
		answer: "ack",
	},
	GET_MAX_MEM_SLOTS: {
		request: 36,
		payload: "none",
		fds: 0,
		needs: "CONFIGURE_MEM_SLOTS",
		answer: "reply",
	},
	ADD_MEM_REG: {
		request: 37,
		payload: "region",
		fds: 1,
		needs: "CONFIGURE_MEM_SLOTS",
		answer: "ack",
	},
	REM_MEM_REG: {
		request: 38,
		payload: "region",
		fds: "stray",
		needs: "CONFIGURE_MEM_SLOTS",
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
	SET_DEVICE_STATE_FD: {
		request: 42,
		payload: "transfer",
		fds: 1,
		needs: "DEVICE_STATE",
		answer: "status",
		failure: 0x101n, // bit 8: no descriptor comes along
	},
	CHECK_DEVICE_STATE: {
		request: 43,
		payload: "none",
		fds: 0,
		needs: "DEVICE_STATE",
		answer: "status",
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

interface Refusal {
	readonly name: string;
	readonly reason: string;
	/**
	 * Its answer is a payload of its own: an ack would be taken for it, so refusing it
	 * closes the connection.
	 */
	readonly replies?: true;
}

/** Messages of the specification that are refused. */
const REFUSED: Readonly<Record<number, Refusal>> = {
	19: { name: "SEND_RARP", reason: "this is no network device" },
	20: { name: "NET_SET_MTU", reason: "this is no network device" },
	23: {
		name: "SET_VRING_ENDIAN",
		reason: "rings are little-endian (CROSS_ENDIAN is not offered)",
	},
	26: {
		name: "CREATE_CRYPTO_SESSION",
		reason: "this is no crypto device",
		replies: true,
	},
	27: { name: "CLOSE_CRYPTO_SESSION", reason: "this is no crypto device" },
	33: { name: "GPU_SET_SOCKET", reason: "this is no graphics device" },
	41: {
		name: "GET_SHARED_OBJECT",
		reason: "there are no shared objects (SHARED_OBJECT is not offered)",
		replies: true,
	},
	44: {
		name: "GET_SHMEM_CONFIG",
		reason: "there are no shared memory regions (SHMEM is not offered)",
		replies: true,
	},
};

/** Why a request without a row is refused. */
export function refusalOf(request: number): string {
	return `not supported: ${REFUSED[request]?.reason ?? "unknown number"}`;
}

/** How to speak of a request: the specification's name, or its number. */
export function describeRequest(request: number): string {
	return messageName(request) ?? REFUSED[request]?.name ?? `request ${request}`;
}

/** Whether describeRequest has a name for it. */
export function isKnown(request: number | undefined): boolean {
	if (request === undefined) return false;
	return messageName(request) !== undefined || request in REFUSED;
}

/** Whether a request of that number can be answered by an ack. */
export function canAck(request: number): boolean {
	const name = messageName(request);
	return name
		? MESSAGES[name].answer === "ack"
		: REFUSED[request]?.replies !== true;
}

/** Requests of the other direction, on the channel of SET_BACKEND_REQ_FD. */
export const BACKEND_IOTLB_MSG = 1;
export const BACKEND_CONFIG_CHANGE_MSG = 2;
export const BACKEND_VRING_CALL = 4;
export const BACKEND_VRING_ERR = 5;

/** Fields of the header's flags. */
export const FLAG_VERSION = 1;
export const FLAG_VERSION_MASK = 3;
export const FLAG_REPLY = 1 << 2;
export const FLAG_NEED_REPLY = 1 << 3;

/** Bit of the fdIndex payload: no descriptor comes along. */
export const NO_FD = 1n << 8n;

/** Flag of SET_VRING_ADDR: writes to the used ring are logged. */
export const VRING_F_LOG = 1;

/** Types of IOTLB messages. */
export const IOTLB_MISS = 1;
export const IOTLB_UPDATE = 2;
export const IOTLB_INVALIDATE = 3;

/** Directions of a device state. */
export const STATE_SAVE = 0;
export const STATE_LOAD = 1;
/** The only phase of the transfer that there is. */
export const STATE_PHASE_STOPPED = 0;

/** In a SET_MEM_TABLE. */
export const MAX_REGIONS = 8;
/** What GET_MAX_MEM_SLOTS says: VHC_MEM_MAX_REGIONS. */
export const MAX_MEM_SLOTS = 512;
export const MAX_CONFIG = 256;
export const MAX_RING_SIZE = 32768;
