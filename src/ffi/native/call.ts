// SPDX-License-Identifier: MIT
// Calling a function of the library, and what comes of it.
import { Buffer } from "node:buffer";
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { decode, LAYOUTS, type LayoutName, type StructOf } from "../layout.ts";
import { type Library, libraryPath, openLibrary } from "../library.ts";
import type { Args, SymbolName } from "../symbols.ts";

const ERRNO_NAMES = new Map(
	// EAGAIN is EWOULDBLOCK too: the first name is the one to use.
	Object.entries(constants.errno)
		.reverse()
		.map(([name, number]) => [number, name]),
);

/** The name of a positive errno, "E12345" for one the system does not name. */
export function errnoName(errno: number): string {
	return ERRNO_NAMES.get(errno) ?? `E${errno}`;
}

/** A function of the library failed. */
export class NativeError extends Error {
	override readonly name = "NativeError";
	/** Positive. */
	readonly errno: number;
	/** "ENOENT". */
	readonly code: string;
	/** The C function. */
	readonly call: string;

	constructor(call: string, errno: number) {
		const code = errnoName(errno);
		const [, text = code] = getSystemErrorMap().get(-errno) ?? [];
		super(`${text} (${call}: ${code})`);
		this.call = call;
		this.errno = errno;
		this.code = code;
	}
}

let opened: Library | undefined;

/** The library, which the first call opens. Throws LibraryError. */
export function library(): Library {
	opened ??= openLibrary(libraryPath());
	return opened;
}

/** Calls and returns the count; a negative result throws. */
export function check<N extends SymbolName>(name: N, ...args: Args<N>): number {
	const result = Number(library().call(name, ...args));
	if (result < 0) throw new NativeError(name, -result);
	return result;
}

/** Calls what writes one handle or address to its last parameter. */
export function produce(make: (out: Buffer) => number): bigint {
	const out = Buffer.alloc(8);
	make(out);
	return out.readBigUInt64LE();
}

export function produceStruct<N extends LayoutName>(
	name: N,
	make: (out: Buffer) => number,
): StructOf<N> {
	const out = Buffer.alloc(LAYOUTS[name].size);
	make(out);
	return decode(name, out);
}
