// SPDX-License-Identifier: MIT
// fio brings engines for Ceph, Gluster, RDMA and more, whose sixty libraries are most of an
// emulated guest's memory image and of the time in which fio starts. Guests get an empty library
// in the place of those: an engine that called into it would end fio.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
	existsSync,
	mkdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { projectPath } from "./instance.ts";

export const FIO = "/usr/bin/fio";
/** Each is the same empty one. */
export const REPLACED = [
	"libgfapi.so.0",
	"libibverbs.so.1",
	"libnbd.so.0",
	"libpmem.so.1",
	"libpmemblk.so.1",
	"librados.so.2",
	"librbd.so.1",
	"librdmacm.so.1",
];
/** What names of those libraries' functions, and of their versions, begin with. */
const FUNCTIONS = /^(rados|rbd)_/;
const VERSIONS = /^(GFAPI|IBVERBS|LIBNBD|LIBPMEM|LIBPMEMBLK|RDMACM)_/;
const EMPTY = "empty.so";

/** Of fio's undefined functions those of the replaced libraries, by their version if they have any. */
function functionsByVersion(): Map<string, string[]> {
	const table = execFileSync("nm", ["-D", "--undefined-only", FIO], {
		encoding: "utf8",
	});
	const functions = new Map<string, string[]>();
	for (const [, name = "", version = ""] of table.matchAll(
		/ U ([^@\s]+)(?:@(\S+))?/g,
	))
		if (version ? VERSIONS.test(version) : FUNCTIONS.test(name))
			functions.set(version, [...(functions.get(version) ?? []), name]);
	return functions;
}

function build(folder: string): void {
	const functions = [...functionsByVersion()];
	const source = functions
		.flatMap(([, names]) => names)
		.map((name) => `void ${name}(void) { __builtin_trap(); }\n`);
	const versions = functions
		.filter(([version]) => version)
		.map(([version, names]) => `${version} { ${names.join("; ")}; };\n`);
	writeFileSync(join(folder, "empty.c"), source.join(""));
	writeFileSync(join(folder, "empty.map"), versions.join(""));
	execFileSync(
		"gcc",
		[
			...["-shared", "-nostdlib", "-fPIC", "-w", "-o", EMPTY, "empty.c"],
			"-Wl,--version-script=empty.map",
		],
		{ cwd: folder },
	);
	for (const name of REPLACED) symlinkSync(EMPTY, join(folder, name));
}

/** The folder with the empty libraries, for LD_LIBRARY_PATH. Made where it does not exist yet. */
export function thinFio(): string {
	const { size, mtimeMs } = statSync(FIO);
	const key = createHash("sha256")
		.update(`${size} ${mtimeMs}`)
		.update(readFileSync(new URL(import.meta.url)))
		.digest("hex");
	const folder = projectPath("build/fio", key.slice(0, 16));
	if (existsSync(folder)) return folder;
	const partial = `${folder}.${process.pid}`;
	mkdirSync(dirname(folder), { recursive: true });
	mkdirSync(partial);
	build(partial);
	try {
		renameSync(partial, folder);
	} catch (error) {
		// Another test may have been quicker.
		rmSync(partial, { recursive: true });
		if (!existsSync(folder)) throw error;
	}
	return folder;
}
