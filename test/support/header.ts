// SPDX-License-Identifier: MIT
// Reads c/include/vhostctl.h, which is written in a plain enough way for it.
import { readFileSync } from "node:fs";
import { projectPath } from "./instance.ts";

export interface Prototype {
	name: string;
	result: string;
	/** "type name", in the tags of src/ffi/symbols.ts. */
	params: string[];
}

export interface HeaderStruct {
	name: string;
	/** Names of the fields, in order. */
	fields: string[];
}

export interface Header {
	prototypes: Prototype[];
	structs: HeaderStruct[];
}

const SCALARS: Record<string, string> = {
	void: "void",
	int: "i32",
	int32_t: "i32",
	uint32_t: "u32",
	int64_t: "i64",
	uint64_t: "u64",
};

function tagOf(type: string, defined: ReadonlySet<string>): string {
	const plain = type
		.replace(/\bconst\b/g, "")
		.replace(/\s+/g, " ")
		.trim();
	const scalar = SCALARS[plain];
	if (scalar) return scalar;
	if (plain === "void *") return "pointer";
	if (plain === "char *") return "string";
	const [, struct] = /^struct (\w+) \*$/.exec(plain) ?? [];
	if (struct) return defined.has(struct) ? "buffer" : "handle";
	if (/ \*+$/.test(plain)) return "buffer";
	throw new Error(`a C type that the bindings do not know: ${type}`);
}

function parseParam(text: string, defined: ReadonlySet<string>): string {
	const [, type, name, array] =
		/^(.*?[\s*])(\w+)(\[\w*\])?$/.exec(text.trim()) ?? [];
	if (!type || !name) throw new Error(`not a parameter: ${text}`);
	return `${tagOf(array ? `${type} *` : type, defined)} ${name}`;
}

/** Every prototype and public struct of the header. Throws on what it cannot read. */
export function readHeader(): Header {
	const text = readFileSync(projectPath("c/include/vhostctl.h"), "utf8")
		.replace(/\/\*[\s\S]*?\*\//g, "")
		.replace(/^\s*#.*$/gm, "");
	const structs = [...text.matchAll(/^struct (\w+) \{([^}]*)\};/gm)].map(
		([, name = "", body = ""]) => ({
			name,
			fields: [...body.matchAll(/(\w+)(?:\[\w[^\]]*\])?;/g)].map(
				([, field = ""]) => field,
			),
		}),
	);
	const defined = new Set(structs.map(({ name }) => name));
	const prototypes = [
		...text.matchAll(/VHC_API\s+([^;()]*?[\s*])(vhc_\w+)\(([^)]*)\);/g),
	].map(([, result = "", name = "", list = ""]) => ({
		name,
		result: tagOf(result, defined),
		params:
			list.trim() === "void"
				? []
				: list.split(",").map((param) => parseParam(param, defined)),
	}));
	const declared = text.match(/VHC_API\s/g)?.length ?? 0;
	if (prototypes.length !== declared)
		throw new Error(`read ${prototypes.length} of ${declared} prototypes`);
	return { prototypes, structs };
}
