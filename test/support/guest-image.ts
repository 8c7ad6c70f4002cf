// SPDX-License-Identifier: MIT
// The initramfs of QEMU guests: busybox, the tools that tests use with their libraries, the
// virtio modules and our scripts. Kept under build/guest, named for what went in.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
	cpSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	realpathSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { projectPath } from "./instance.ts";
import { makeTempDir, removeTempDir } from "./processes.ts";
import { FIO, REPLACED, thinFio } from "./thin-fio.ts";

const SG_TOOLS = [
	"sg_compare_and_write",
	"sg_dd",
	"sg_get_lba_status",
	"sg_inq",
	"sg_logs",
	"sg_luns",
	"sg_modes",
	"sg_opcodes",
	"sg_persist",
	"sg_prevent",
	"sg_raw",
	"sg_readcap",
	"sg_requests",
	"sg_reset",
	"sg_rtpg",
	"sg_sanitize",
	"sg_senddiag",
	"sg_start",
	"sg_sync",
	"sg_turs",
	"sg_unmap",
	"sg_verify",
	"sg_vpd",
	"sg_wr_mode",
	"sg_write_same",
	"sg_write_verify",
	"sg_xcopy",
];
const TOOLS = [
	"/bin/busybox",
	FIO,
	"/sbin/mke2fs",
	"/sbin/e2fsck",
	"/sbin/blkdiscard",
	"/usr/bin/flock",
	"/usr/bin/lsscsi",
	...SG_TOOLS.map((name) => `/usr/bin/${name}`),
];
const LINKS = { "sbin/mkfs.ext4": "mke2fs", "sbin/fsck.ext4": "e2fsck" };
const MODULES = [
	"virtio_pci",
	"virtio_blk",
	"virtio_scsi",
	"virtio-rng",
	"sd_mod",
	"sg",
];
const SCRIPTS = projectPath("test/guest/scripts");
/** Programs of ours: each a file of C, linked statically. */
const PROGRAMS = projectPath("test/guest/programs");
const CACHE = projectPath("build/guest");

export interface GuestImage {
	kernel: string;
	initramfs: string;
}

/** Debian's cloud kernel, the newest by name. */
function findKernel(): { kernel: string; modules: string } {
	const release = readdirSync("/boot")
		.filter((name) => /^vmlinuz-.*cloud/.test(name))
		.map((name) => name.slice("vmlinuz-".length))
		.filter((name) => existsSync(`/lib/modules/${name}`))
		.sort()
		.at(-1);
	if (!release)
		throw new Error("no cloud kernel: apt-get install linux-image-cloud-amd64");
	return {
		kernel: `/boot/vmlinuz-${release}`,
		modules: `/lib/modules/${release}`,
	};
}

/** The files of modules and of what they depend on, in an order they can be loaded in. */
function moduleFiles(folder: string): string[] {
	const dependencies = new Map<string, string[]>();
	for (const line of readFileSync(join(folder, "modules.dep"), "utf8").split(
		"\n",
	)) {
		const [file, rest] = line.split(":");
		if (file)
			dependencies.set(file, rest?.trim().split(/\s+/).filter(Boolean) ?? []);
	}
	const files = new Set<string>();
	const add = (file: string) => {
		for (const dependency of dependencies.get(file) ?? []) add(dependency);
		files.add(file);
	};
	for (const module of MODULES) {
		const file = [...dependencies.keys()].find(
			(each) => basename(each).split(".")[0] === module,
		);
		if (!file) throw new Error(`no module ${module} in ${folder}`);
		add(file);
	}
	return [...files].map((file) => join(folder, file));
}

/** The libraries that a program is linked with, as ldd tells. */
function libraries(program: string): string[] {
	const env = { ...process.env, LD_LIBRARY_PATH: thinFio() };
	const { stdout } = spawnSync("ldd", [program], { encoding: "utf8", env });
	// Of a static program ldd says so, and names no file.
	return stdout.match(/\/\S+/g) ?? [];
}

function identity(files: string[]): string {
	const hash = createHash("sha256");
	for (const file of files) {
		const { size, mtimeMs } = statSync(file);
		hash.update(`${file} ${size} ${mtimeMs}\n`);
	}
	// How it is put together matters too.
	hash.update(readFileSync(new URL(import.meta.url)));
	return hash.digest("hex").slice(0, 16);
}

function copy(from: string, tree: string, to = from): void {
	mkdirSync(dirname(join(tree, to)), { recursive: true });
	cpSync(realpathSync(from), join(tree, to));
}

function compile(source: string, tree: string): void {
	const program = join(tree, "bin", basename(source, ".c"));
	mkdirSync(dirname(program), { recursive: true });
	execFileSync("gcc", ["-O2", "-static", "-o", program, source]);
}

function build(
	target: string,
	tools: string[],
	modules: string[],
	sources: string[],
): void {
	const work = makeTempDir();
	const tree = join(work, "tree");
	const thin = thinFio();
	for (const file of tools)
		copy(file, tree, file.replace(thin, "/lib/x86_64-linux-gnu"));
	for (const source of sources) compile(source, tree);
	modules.forEach((file, i) => {
		copy(file, tree, `modules/${String(i).padStart(2, "0")}-${basename(file)}`);
	});
	for (const name of readdirSync(SCRIPTS))
		copy(join(SCRIPTS, name), tree, `scripts/${name}`);
	for (const [link, to] of Object.entries(LINKS))
		symlinkSync(to, join(tree, link));
	for (const folder of ["proc", "sys", "dev"]) mkdirSync(join(tree, folder));
	mkdirSync(dirname(target), { recursive: true });
	const partial = `${target}.${process.pid}`;
	execFileSync(
		"sh",
		["-c", 'find . | /bin/busybox cpio -o -H newc >"$0"', partial],
		{ cwd: tree, stdio: "ignore" },
	);
	renameSync(partial, target);
	removeTempDir(work);
}

/** Gives kernel and initramfs, which is made where it does not exist yet. */
export function guestImage(): GuestImage {
	const { kernel, modules: folder } = findKernel();
	const modules = moduleFiles(folder);
	const tools = [
		...new Set([
			...TOOLS,
			"/etc/mke2fs.conf",
			...TOOLS.flatMap(libraries),
			// ldd tells one name of a library that has several.
			...REPLACED.map((name) => join(thinFio(), name)),
		]),
	];
	const [scripts = [], sources = []] = [SCRIPTS, PROGRAMS].map((folder) =>
		readdirSync(folder).map((name) => join(folder, name)),
	);
	const key = identity([kernel, ...modules, ...tools, ...scripts, ...sources]);
	const initramfs = join(CACHE, `${key}.cpio`);
	if (!existsSync(initramfs)) {
		// Only the latest is of use.
		rmSync(CACHE, { recursive: true, force: true });
		build(initramfs, tools, modules, sources);
	}
	return { kernel, initramfs };
}
