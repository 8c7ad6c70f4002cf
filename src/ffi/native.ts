// SPDX-License-Identifier: MIT
import { bdevs } from "./native/bdevs.ts";
import { loads } from "./native/loads.ts";
import { memory } from "./native/memory.ts";
import { reactors } from "./native/reactors.ts";
import { rings } from "./native/rings.ts";
import { transport } from "./native/transport.ts";

export { errnoName, NativeError } from "./native/call.ts";
export * from "./native/constants.ts";
export type { Iov, Pages, Piece, Region } from "./native/memory.ts";
export type { Chain } from "./native/rings.ts";

/**
 * The library's functions by their names without "vhc_"; c/include/vhostctl.h
 * tells what each does. The library is opened by the first call. A negative
 * result is thrown as NativeError; a library that does not fit as LibraryError.
 */
export const native = {
	...memory,
	...rings,
	...transport,
	...bdevs,
	...reactors,
	...loads,
};
