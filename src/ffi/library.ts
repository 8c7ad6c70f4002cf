// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { LAYOUTS } from "./layout.ts";
import {
	type Args,
	type CType,
	type Result,
	SYMBOLS,
	type SymbolName,
} from "./symbols.ts";

/** VHC_ABI_VERSION of the header that this code was written to. */
export const ABI_VERSION = 4;

/** The library cannot be used: absent, unreadable, or built from another header. */
export class LibraryError extends Error {
	override readonly name = "LibraryError";
}

/** The part of ffi-rs that is used. Its own types have no bigint. */
interface FfiRs {
	DataType: Record<
		"Void" | "I32" | "U32" | "BigInt" | "U8Array" | "String" | "External",
		number
	>;
	open(params: { library: string; path: string }): void;
	close(library: string): void;
	load(params: {
		library: string;
		funcName: string;
		retType: number;
		paramsType: readonly number[];
		paramsValue: readonly unknown[];
	}): unknown;
	createExternalBuffer(external: object, length: number): Buffer;
}

/** An opened and checked library. */
export interface Library {
	readonly path: string;
	call<N extends SymbolName>(name: N, ...args: Args<N>): Result<N>;
	/** A view of len bytes at addr, valid as long as they stay mapped. */
	view(addr: bigint, len: number): Buffer;
	close(): void;
}

/** $VHOSTCTL_LIBRARY, or build/libvhostctl.so beside the nearest package.json above. */
export function libraryPath(): string {
	const named = process.env.VHOSTCTL_LIBRARY;
	if (named) return named;
	let folder = dirname(fileURLToPath(import.meta.url));
	while (!existsSync(join(folder, "package.json"))) {
		const parent = dirname(folder);
		if (parent === folder)
			throw new LibraryError("libvhostctl.so: no package.json above the code");
		folder = parent;
	}
	return join(folder, "build", "libvhostctl.so");
}

/**
 * Opens the library at path and compares its ABI version and struct sizes with
 * ours. Throws LibraryError.
 */
export function openLibrary(path: string): Library {
	if (!existsSync(path))
		throw new LibraryError(`${path}: no such library; build it with: make lib`);
	const ffi: FfiRs = createRequire(import.meta.url)("ffi-rs");
	const library = bind(ffi, path);
	try {
		checkAbi(library);
	} catch (cause) {
		library.close();
		if (cause instanceof LibraryError) throw cause;
		throw new LibraryError(`${path}: not libvhostctl: ${String(cause)}`, {
			cause,
		});
	}
	return library;
}

function bind(ffi: FfiRs, path: string): Library {
	const types: Record<CType, number> = {
		void: ffi.DataType.Void,
		i32: ffi.DataType.I32,
		u32: ffi.DataType.U32,
		i64: ffi.DataType.BigInt,
		u64: ffi.DataType.BigInt,
		handle: ffi.DataType.BigInt,
		buffer: ffi.DataType.U8Array,
		string: ffi.DataType.String,
		pointer: ffi.DataType.External,
	};
	try {
		ffi.open({ library: path, path });
	} catch (cause) {
		throw new LibraryError(`${path}: cannot be loaded: ${String(cause)}`, {
			cause,
		});
	}
	const prototypes = new Map(
		Object.entries(SYMBOLS).map(([name, { result, params }]) => [
			name,
			{
				retType: types[result],
				paramsType: params.map((p) => types[p.split(" ")[0] as CType]),
			},
		]),
	);
	const call = <N extends SymbolName>(name: N, ...args: Args<N>): Result<N> => {
		const prototype = prototypes.get(name);
		if (!prototype) throw new LibraryError(`no symbol ${name}`);
		const { retType, paramsType } = prototype;
		return ffi.load({
			library: path,
			funcName: name,
			retType,
			paramsType,
			paramsValue: args.map(toNative),
		}) as Result<N>;
	};
	return {
		path,
		call,
		view: (addr, len) =>
			ffi.createExternalBuffer(call("vhc_pointer", addr), len),
		close: () => ffi.close(path),
	};
}

/** ffi-rs takes 64-bit values as signed. */
function toNative(value: unknown): unknown {
	return typeof value === "bigint" ? BigInt.asIntN(64, value) : value;
}

function checkAbi(library: Library): void {
	const hint = "rebuild with: make lib";
	const version = library.call("vhc_abi_version");
	if (version !== ABI_VERSION)
		throw new LibraryError(
			`${library.path}: ABI version ${version}, need ${ABI_VERSION}; ${hint}`,
		);
	const layouts = Object.entries(LAYOUTS);
	const sizes = Buffer.alloc(4 * layouts.length);
	const count = library.call("vhc_abi_sizes", sizes, layouts.length);
	if (count !== layouts.length)
		throw new LibraryError(
			`${library.path}: ${count} structs, need ${layouts.length}; ${hint}`,
		);
	for (const [i, [name, { size }]] of layouts.entries()) {
		const actual = sizes.readUInt32LE(4 * i);
		if (actual !== size)
			throw new LibraryError(
				`${library.path}: struct ${name} has ${actual} bytes, need ${size}; ${hint}`,
			);
	}
}
