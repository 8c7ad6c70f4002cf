// SPDX-License-Identifier: MIT

/**
 * The closed set of failures. A code tells a caller's mistake from a missing
 * object from a failure in the engine; the message says what and where.
 */
export type ErrorCode =
	| "E_INVALID" // a value is wrong
	| "E_NOT_FOUND" // no such object
	| "E_EXISTS" // the name is taken
	| "E_BUSY" // the object is in use
	| "E_IO" // a device or file failed
	| "E_NO_MEMORY" // out of memory, descriptors or space
	| "E_PERMISSION" // the system refused
	| "E_UNSUPPORTED" // neither we nor the peer can do it
	| "E_CONNECT" // nobody answers at the other end
	| "E_PROTOCOL" // the peer broke the protocol
	| "E_VERIFY" // data read back differed
	| "E_USAGE" // the command line is wrong
	| "E_PARSE" // not JSON
	| "E_REQUEST" // JSON, but not a request
	| "E_METHOD" // no such method
	| "E_INTERNAL"; // a defect in vhostctl

/**
 * What a code is elsewhere: process exit status, JSON-RPC error code, errno name, and
 * the words in which SPDK says it, which its users' scripts look for.
 */
export const ERRORS: Readonly<
	Record<ErrorCode, { exit: number; rpc: number; errno: string; text: string }>
> = {
	E_INTERNAL: { exit: 1, rpc: -32603, errno: "EFAULT", text: "Internal error" },
	E_INVALID: {
		exit: 2,
		rpc: -32602,
		errno: "EINVAL",
		text: "Invalid parameters",
	},
	E_USAGE: {
		exit: 2,
		rpc: -32602,
		errno: "EINVAL",
		text: "Invalid parameters",
	},
	E_PARSE: { exit: 2, rpc: -32700, errno: "EBADMSG", text: "Parse error" },
	E_REQUEST: {
		exit: 2,
		rpc: -32600,
		errno: "EBADMSG",
		text: "Invalid request",
	},
	E_METHOD: { exit: 2, rpc: -32601, errno: "ENOSYS", text: "Method not found" },
	E_NOT_FOUND: { exit: 3, rpc: -19, errno: "ENODEV", text: "No such device" },
	E_EXISTS: { exit: 4, rpc: -17, errno: "EEXIST", text: "File exists" },
	E_BUSY: {
		exit: 5,
		rpc: -16,
		errno: "EBUSY",
		text: "Device or resource busy",
	},
	E_IO: { exit: 6, rpc: -5, errno: "EIO", text: "Input/output error" },
	E_NO_MEMORY: {
		exit: 7,
		rpc: -12,
		errno: "ENOMEM",
		text: "Cannot allocate memory",
	},
	E_PERMISSION: {
		exit: 8,
		rpc: -1,
		errno: "EPERM",
		text: "Operation not permitted",
	},
	E_UNSUPPORTED: {
		exit: 9,
		rpc: -95,
		errno: "EOPNOTSUPP",
		text: "Operation not supported",
	},
	E_CONNECT: {
		exit: 10,
		rpc: -111,
		errno: "ECONNREFUSED",
		text: "Connection refused",
	},
	E_PROTOCOL: { exit: 11, rpc: -71, errno: "EPROTO", text: "Protocol error" },
	E_VERIFY: { exit: 12, rpc: -84, errno: "EILSEQ", text: "Data differ" },
};

/** The only error that leaves the engine on purpose. */
export class VhostctlError extends Error {
	override readonly name = "VhostctlError";
	readonly code: ErrorCode;
	readonly details: unknown;

	constructor(
		code: ErrorCode,
		message: string,
		options: { details?: unknown; cause?: unknown } = {},
	) {
		super(message, { cause: options.cause });
		this.code = code;
		this.details = options.details;
	}
}

const FROM_ERRNO: Readonly<Record<string, ErrorCode>> = {
	EINVAL: "E_INVALID",
	ERANGE: "E_INVALID",
	EOVERFLOW: "E_INVALID",
	EFAULT: "E_INVALID",
	E2BIG: "E_INVALID",
	EBADF: "E_INVALID",
	EISDIR: "E_INVALID",
	ENOTDIR: "E_INVALID",
	ENOTBLK: "E_INVALID",
	ENAMETOOLONG: "E_INVALID",
	ENOENT: "E_NOT_FOUND",
	ENODEV: "E_NOT_FOUND",
	ENXIO: "E_NOT_FOUND",
	EEXIST: "E_EXISTS",
	EADDRINUSE: "E_BUSY",
	EBUSY: "E_BUSY",
	EALREADY: "E_BUSY",
	ETXTBSY: "E_BUSY",
	ENOMEM: "E_NO_MEMORY",
	ENOSPC: "E_NO_MEMORY",
	EDQUOT: "E_NO_MEMORY",
	EMFILE: "E_NO_MEMORY",
	ENFILE: "E_NO_MEMORY",
	EAGAIN: "E_NO_MEMORY",
	EACCES: "E_PERMISSION",
	EPERM: "E_PERMISSION",
	EROFS: "E_PERMISSION",
	EOPNOTSUPP: "E_UNSUPPORTED",
	ENOTSUP: "E_UNSUPPORTED",
	ENOSYS: "E_UNSUPPORTED",
	ECONNREFUSED: "E_CONNECT",
	ECONNRESET: "E_CONNECT",
	EPIPE: "E_CONNECT",
	ENOTCONN: "E_CONNECT",
	ETIMEDOUT: "E_CONNECT",
	EPROTO: "E_PROTOCOL",
	EBADMSG: "E_PROTOCOL",
};

/**
 * Makes a VhostctlError of what the system or the library threw. `context` says
 * what was tried ("bdev Malloc0: cannot open /x"). Errors that carry no errno
 * name are E_INTERNAL; VhostctlErrors pass through.
 */
export function fromErrno(error: unknown, context: string): VhostctlError {
	if (error instanceof VhostctlError) return error;
	const message = messageOf(error);
	const errno = errnoName(error);
	const code =
		errno === undefined ? "E_INTERNAL" : (FROM_ERRNO[errno] ?? "E_IO");
	return new VhostctlError(code, `${context}: ${message}`, {
		cause: error,
		...(errno === undefined ? {} : { details: { errno } }),
	});
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}

function errnoName(error: unknown): string | undefined {
	if (!(error instanceof Error) || !("code" in error)) return undefined;
	const { code } = error;
	return typeof code === "string" && /^E[A-Z0-9]+$/.test(code)
		? code
		: undefined;
}

/** The code that a JSON-RPC error number stands for; E_IO for one we do not use. */
export function codeFromRpc(rpc: number): ErrorCode {
	for (const [code, { rpc: number }] of Object.entries(ERRORS))
		if (number === rpc) return code as ErrorCode;
	return "E_IO";
}
