// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import * as layout from "../../src/ffi/layout.ts";
import {
	ABI_VERSION,
	LibraryError,
	libraryPath,
	openLibrary,
} from "../../src/ffi/library.ts";
import * as bindings from "../../src/ffi/native.ts";
import { SYMBOLS } from "../../src/ffi/symbols.ts";
import { readHeader } from "../support/header.ts";
import { projectPath } from "../support/instance.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

const { decode, encode, LAYOUTS } = layout;
const { NativeError, native } = bindings;
const header = readHeader();
const folder = makeTempDir();
after(() => removeTempDir(folder));

/** Compiles a C program that includes the header, runs it, gives what it printed. */
function runC(body: string): string {
	const source = join(folder, "program.c");
	const program = join(folder, "program");
	writeFileSync(
		source,
		`#include <stddef.h>\n#include <stdio.h>\n#include "vhostctl.h"\nint main(void) {\n${body}\nreturn 0; }\n`,
	);
	const include = projectPath("c/include");
	execFileSync("gcc", ["-std=c11", "-I", include, "-o", program, source]);
	return execFileSync(program, { encoding: "utf8" });
}

let stubs = 0;

function compileStub(source: string): string {
	const library = join(folder, `stub${stubs++}.so`);
	const args = ["-shared", "-fPIC", "-x", "c", "-o", library, "-"];
	execFileSync("gcc", args, { input: source });
	return library;
}

test("the symbol table is the header: names, results, parameters", () => {
	assert(header.prototypes.length > 60);
	const fromHeader = Object.fromEntries(
		header.prototypes.map(({ name, result, params }) => [
			name,
			{ result, params },
		]),
	);
	assert.deepEqual(SYMBOLS, fromHeader);
});

test("the library exports what the header declares, and nothing else", () => {
	const declared = header.prototypes.map(({ name }) => name).sort();
	const nm = execFileSync("nm", ["-D", "--defined-only", libraryPath()], {
		encoding: "utf8",
	});
	const exported = nm
		.trim()
		.split("\n")
		.map((line) => line.split(/\s+/))
		// The version node itself is an absolute symbol.
		.filter(([, kind]) => kind !== "A")
		.map(([, , name = ""]) => name.replace(/@.*/, ""))
		.sort();
	assert.deepEqual(exported, declared);
	const map = readFileSync(projectPath("c/libvhostctl.map"), "utf8");
	const listed = [...map.matchAll(/^\t(vhc_\w+);/gm)].map(([, name]) => name);
	assert.deepEqual(listed.sort(), declared);
});

test("every function of the library has its typed wrapper", () => {
	const camel = (name: string) =>
		name
			.slice("vhc_".length)
			.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
	assert.deepEqual(
		Object.keys(native).sort(),
		header.prototypes.map(({ name }) => camel(name)).sort(),
	);
});

test("structs lie as the C compiler lays them", () => {
	assert.deepEqual(
		Object.entries(LAYOUTS).map(([name, { fields }]) => ({
			name,
			fields: Object.keys(fields),
		})),
		header.structs,
	);
	const lines = header.structs.flatMap(({ name, fields }) => [
		`printf("${name} %zu\\n", sizeof(struct ${name}));`,
		...fields.map(
			(field) =>
				`printf("${name}.${field} %zu %zu\\n", offsetof(struct ${name}, ${field}), sizeof(((struct ${name} *)0)->${field}));`,
		),
	]);
	const expected = Object.entries(LAYOUTS).flatMap(([name, each]) => [
		`${name} ${each.size}`,
		...Object.entries(each.offsets).map(
			([field, at]) =>
				`${name}.${field} ${at} ${layout.fieldSize(each, field)}`,
		),
	]);
	assert.deepEqual(runC(lines.join("\n")).trim().split("\n"), expected);
});

test("the header orders its structs as the library counts them", () => {
	assert.deepEqual(
		native.abiSizes(),
		Object.values(LAYOUTS).map(({ size }) => size),
	);
	assert.equal(native.abiVersion(), ABI_VERSION);
});

test("constants are the header's", () => {
	const constants = Object.entries({
		...layout,
		...bindings,
		ABI_VERSION,
	}).filter((entry): entry is [string, number] => typeof entry[1] === "number");
	assert(constants.length > 20);
	const lines = constants.map(
		([name]) => `printf("${name} %lld\\n", (long long)VHC_${name});`,
	);
	assert.deepEqual(
		runC(lines.join("\n")).trim().split("\n"),
		constants.map(([name, value]) => `${name} ${value}`),
	);
});

test("the header compiles alone, as C11 and as C++", () => {
	const file = projectPath("c/include/vhostctl.h");
	for (const language of ["c", "c++"]) {
		const args = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror"];
		const std = language === "c" ? "-std=c11" : "-std=c++17";
		const input = `#include "${file}"\n`;
		execFileSync("gcc", [...args, std, "-x", language, "-"], { input });
	}
});

test("a library of another ABI is refused, with the reason", () => {
	const sizes = Object.values(LAYOUTS).map(({ size }) => size);
	const stub = (version: number, bytes: number[]) =>
		compileStub(`
			#include <stdint.h>
			uint32_t vhc_abi_version(void) { return ${version}; }
			static const uint32_t sizes[] = {${bytes.join(",")}};
			int vhc_abi_sizes(uint32_t *out, uint32_t max) {
				for (uint32_t i = 0; i < max && i < ${bytes.length}; i++) out[i] = sizes[i];
				return ${bytes.length};
			}`);
	const refuses = (path: string, reason: RegExp) =>
		assert.throws(() => openLibrary(path), {
			name: "LibraryError",
			message: reason,
		});
	openLibrary(stub(ABI_VERSION, sizes)).close();
	refuses(
		stub(ABI_VERSION + 1, sizes),
		new RegExp(`ABI version ${ABI_VERSION + 1}, need ${ABI_VERSION}`),
	);
	refuses(
		stub(ABI_VERSION, sizes.slice(1)),
		new RegExp(`${sizes.length - 1} structs, need ${sizes.length}`),
	);
	const longer = sizes.map((size, i) => (i === 0 ? size + 8 : size));
	refuses(stub(ABI_VERSION, longer), /struct vhc_pages has 48 bytes, need 40/);
	refuses(compileStub("int unrelated;"), /not libvhostctl/);
	refuses(join(folder, "absent.so"), /no such library; build it/);
	const text = join(folder, "text.so");
	writeFileSync(text, "not a library");
	refuses(text, /cannot be loaded/);
	assert(new LibraryError("x") instanceof Error);
});

const WIDE = [
	0n,
	1n,
	2n ** 53n + 1n,
	2n ** 63n - 1n,
	2n ** 63n,
	2n ** 64n - 1n,
];

test("64-bit values cross unharmed: parameters, structs, out-parameters", () => {
	for (const value of WIDE)
		assert.equal(
			decode("vhc_iov", encode("vhc_iov", { addr: value })).addr,
			value,
		);
	const echo = openLibrary(
		compileStub(`
			#include <stdint.h>
			#include <string.h>
			uint32_t vhc_abi_version(void) { return ${ABI_VERSION}; }
			static const uint32_t sizes[] = {${Object.values(LAYOUTS).map(({ size }) => size)}};
			int vhc_abi_sizes(uint32_t *out, uint32_t max) {
				memcpy(out, sizes, sizeof(sizes));
				return max;
			}
			int vhc_mem_translate_user(void *mem, uint64_t a, uint64_t b, uint64_t *out) {
				return (uint64_t)(uintptr_t)mem == a && a == b ? (*out = b, 0) : -22;
			}
			int64_t vhc_load_buffer_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
				return (int64_t)((uint64_t)a << 32 | b) + c + d;
			}`),
	);
	for (const value of WIDE) {
		const out = Buffer.alloc(8);
		const result = echo.call(
			"vhc_mem_translate_user",
			value,
			value,
			value,
			out,
		);
		assert.equal(result, 0);
		assert.equal(out.readBigUInt64LE(), value);
	}
	const bytes = echo.call(
		"vhc_load_buffer_bytes",
		2 ** 31 - 1,
		2 ** 32 - 1,
		0,
		0,
	);
	assert.equal(bytes, 2n ** 63n - 1n);
	echo.close();
});

test("64-bit addresses cross unharmed through the library's own functions", () => {
	const flags = bindings.PAGES_SHARED;
	const pages = native.pagesAlloc({ size: 65536n, pageSize: 4096n, flags });
	const mem = native.memCreate();
	try {
		for (const base of [
			2n ** 53n + 4096n,
			2n ** 63n,
			2n ** 64n - 65536n * 2n,
		]) {
			const region = { gpa: base, userAddr: base, size: 65536n };
			native.memAddRegion(mem, { ...region, fd: pages.fd, offset: 0n });
			const [piece] = native.memTranslate(mem, base + 17n, 5n, 4);
			assert.equal(piece?.len, 5n);
			assert.equal(native.memTranslateUser(mem, base + 17n, 5n), piece?.addr);
			native.copyIn(piece?.addr ?? 0n, Buffer.from("hello"));
			assert.equal(native.copyOut(pages.addr + 17n, 5).toString(), "hello");
		}
	} finally {
		native.memRelease(mem);
		native.pagesFree(pages);
	}
});

test("tables are cloned and changed, and seen through views", () => {
	const pages = native.pagesAlloc({
		size: 65536n,
		pageSize: 4096n,
		flags: bindings.PAGES_SHARED,
	});
	const region = { gpa: 2n ** 32n, userAddr: 2n ** 63n, size: 65536n };
	const mem = native.memCreate();
	native.memAddRegion(mem, { ...region, fd: pages.fd, offset: 0n });
	const clone = native.memClone(mem);
	const view = native.memCreateView(mem);
	try {
		assert.deepEqual(
			native.memTranslate(clone, region.gpa, 8n, 1),
			native.memTranslate(mem, region.gpa, 8n, 1),
		);
		native.memRemoveRegion(clone, region);
		assert.throws(() => native.memTranslate(clone, region.gpa, 8n, 1));
		assert.throws(() => native.memRemoveRegion(clone, region), /ENOENT/);

		const shown = { iova: 2n ** 40n, size: 8192n, access: bindings.MEM_READ };
		native.memShow(view, { ...shown, userAddr: region.userAddr + 4096n });
		native.memHide(view, shown.iova, 4096n);
		assert.throws(() => native.memTranslate(view, shown.iova, 1n, 1));
		assert.deepEqual(
			native.memTranslate(view, shown.iova + 4096n, 8n, 1),
			native.memTranslate(mem, region.gpa + 8192n, 8n, 1),
		);

		native.copyIn(pages.addr, Buffer.from("here"));
		assert.equal(native.memNode(mem, region.userAddr), 0);
		assert.throws(() => native.memNode(mem, 0n), /EFAULT/);
		assert.throws(() => native.memCatchFaults(mem, -1), /EBADF/);
	} finally {
		for (const table of [mem, clone, view]) native.memRelease(table);
		native.pagesFree(pages);
	}
});

test("a dirty log has a bit for each page", () => {
	const flags = bindings.PAGES_SHARED;
	const pages = native.pagesAlloc({ size: 4096n, pageSize: 4096n, flags });
	const where = { fd: pages.fd, offset: 16n, size: 8n, signalFd: -1 };
	const log = native.logCreate(where);
	native.logMark(log, 9n * 4096n + 1n, 4096n);
	assert.throws(() => native.logMark(log, 63n * 4096n, 4097n), /ERANGE/);
	native.logRelease(log);
	const bits = native.copyOut(pages.addr, 32).readBigUInt64LE(16);
	assert.equal(bits, (1n << 9n) | (1n << 10n) | (1n << 63n));
	native.pagesFree(pages);
});

test("a negative result is thrown with its errno", () => {
	assert.throws(
		() => native.fdClose(-1),
		(error: unknown) => {
			assert(error instanceof NativeError);
			assert.deepEqual(
				[error.call, error.code, error.errno],
				["vhc_fd_close", "EBADF", 9],
			);
			return true;
		},
	);
	assert.equal(bindings.errnoName(22), "EINVAL");
	assert.equal(bindings.errnoName(98765), "E98765");
});

test("encoding refuses what a struct cannot hold", () => {
	assert.throws(() => encode("vhc_pages", { fd: 2 ** 31 }), RangeError);
	assert.throws(() => encode("vhc_pages", { kind: -1 }), RangeError);
	const serial = Buffer.alloc(21);
	assert.throws(() => encode("vhc_blk_config", { serial }), RangeError);
	const unknown = { nope: 1 } as object;
	assert.throws(() => encode("vhc_pages", unknown), /no field nope/);
});
