// SPDX-License-Identifier: MIT
/**
 * The demonstration: serves a RAM disk, drives it from the other end of its socket, checks every
 * block, measures, and leaves nothing behind. `make demo`, or `deno task demo`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import kleur from "kleur";
import { bar, progressText } from "../src/cli/progress.ts";
import { formatSize } from "../src/cli/size.ts";
import { type PerfProgress, runPerf } from "../src/engine/perf.ts";

const DISK_SIZE = 512 * 1024 * 1024;

// Deno, and newer Nodes, run the sources; Node 20 what tsc made of them.
const suffix = import.meta.url.endsWith(".ts") ? "ts" : "js";
const main = fileURLToPath(
	new URL(`../src/cli/main.${suffix}`, import.meta.url),
);
const runtime = "Deno" in globalThis ? ["run", "-A"] : [];

function vhostctl(...args: string[]): [string, string[]] {
	return [process.execPath, [...runtime, main, ...args]];
}

function say(text = ""): void {
	process.stdout.write(`${text}\n`);
}

function title(text: string): void {
	say(`\n${kleur.bold().cyan(text)}`);
}

function typed(args: readonly string[]): void {
	const words = args.map((arg) => (/[[\]{}"]/.test(arg) ? `'${arg}'` : arg));
	say(kleur.dim(`$ vhostctl ${words.join(" ")}`));
}

function ended(child: ChildProcess): Promise<number> {
	return new Promise((resolve, reject) => {
		child.once("error", reject);
		child.once("exit", (code) => resolve(code ?? 1));
	});
}

/** Runs a command as a user would, with its output. */
async function show(...args: string[]): Promise<void> {
	typed(args);
	const [command, words] = vhostctl(...args);
	const code = await ended(spawn(command, words, { stdio: "inherit" }));
	if (code !== 0) throw new Error(`vhostctl ${args[0]} ended with ${code}`);
}

/** Starts `vhostctl serve` and waits until it is ready. */
async function serve(args: string[]): Promise<ChildProcess> {
	typed(args);
	const [command, words] = vhostctl(...args);
	const child = spawn(command, words, { stdio: ["ignore", "pipe", "inherit"] });
	const lines = createInterface({ input: child.stdout });
	const ready = new Promise<void>((resolve) => {
		lines.once("line", (line) => {
			say(line);
			resolve();
		});
	});
	const failed = ended(child).then((code) => {
		throw new Error(`vhostctl serve ended with ${code}`);
	});
	failed.catch(() => {});
	await Promise.race([ready, failed]);
	return child;
}

/** A progress bar: one line on a terminal, elsewhere a line for each quarter. */
function progressBar() {
	let before: PerfProgress | undefined;
	let quarter = 0;
	return (now: PerfProgress) => {
		const text = `${now.phase === "verify" ? "read " : "write"} ${progressText(now, before)}`;
		const reached = Math.floor(now.fraction * 4);
		if (process.stdout.isTTY) process.stdout.write(`\r${text}\x1b[K`);
		else if (reached !== quarter) say(text);
		before = now;
		quarter = reached;
	};
}

const WHOLE_DISK = {
	rw: "write",
	blockSize: 4096,
	iodepth: 32,
	queues: 1,
	verify: true,
	mode: "poll",
} as const;

/** Writes the whole disk, reads it back, checks every block. */
async function verify(socket: string): Promise<void> {
	const result = await runPerf({ socket, ...WHOLE_DISK }, progressBar());
	const blocks = DISK_SIZE / WHOLE_DISK.blockSize;
	if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
	if (result.verifyErrors > 0)
		throw new Error(
			`${result.verifyErrors} blocks differ, the first at byte ${result.firstBad}`,
		);
	if (result.verified !== blocks || result.write.count !== blocks)
		throw new Error(`only ${result.verified} of ${blocks} blocks were checked`);
	say(`${bar(1)} 100%`);
	say(
		`${kleur.green("✔")} ${formatSize(DISK_SIZE)} written and read back: ${blocks} blocks of 4 KiB, each with its crc32c, none differs`,
	);
}

/** Shows statistics while a load runs. */
async function statsUnderLoad(socket: string, rpc: string): Promise<void> {
	const over = new AbortController();
	let begun = () => {};
	const running = new Promise<void>((resolve) => {
		begun = resolve;
	});
	const load = runPerf(
		{
			socket,
			...WHOLE_DISK,
			rw: "randrw",
			verify: false,
			queues: 2,
			seconds: 30,
			signal: over.signal,
		},
		({ ios }) => {
			if (ios > 0) begun();
		},
	);
	const stats = Promise.race([running, load])
		.then(() => show("stats", "-r", rpc))
		.finally(() => over.abort());
	await Promise.all([load, stats]);
}

function qemu(socket: string): string {
	return [
		"qemu-system-x86_64 -accel kvm -cpu host -m 1G \\",
		"    -object memory-backend-memfd,id=mem0,size=1G,share=on \\",
		"    -machine q35,memory-backend=mem0 \\",
		`    -chardev socket,id=disk0,path=${socket} \\`,
		"    -device vhost-user-blk-pci,chardev=disk0,num-queues=1",
	].join("\n");
}

async function demonstrate(dir: string): Promise<void> {
	const rpc = join(dir, "rpc.sock");
	const socket = join(dir, "vm0");
	title("An instance, with a RAM disk behind a vhost-user-blk controller");
	const server = await serve([
		...["serve", "--log-level", "warning", "-S", dir, "-r", rpc],
		...["--bdev", `malloc:name=disk0,size=${DISK_SIZE / 1024 / 1024}M`],
		...["--blk", "vm0=disk0"],
	]);
	// Not server.kill(): Deno then tells the signal instead of the exit code.
	const stop = () => {
		if (server.exitCode === null && server.pid)
			process.kill(server.pid, "SIGTERM");
	};
	process.once("exit", stop);
	try {
		await show("bdev", "list", "-r", rpc);
		await show("blk", "list", "-r", rpc);
		title("The disk from the other end of the socket, as a virtual machine");
		await verify(socket);
		title("Throughput and latency");
		for (const load of [
			["--rw", "randread", "--iodepth", "32"],
			["--rw", "randwrite", "--iodepth", "32"],
			["--rw", "randread", "--iodepth", "1"],
		])
			await show("perf", "--socket", socket, ...load, "--time", "2");
		title("What the instance sees, while a load of two queues runs");
		await statsUnderLoad(socket, rpc);
		title("The same disk for a virtual machine");
		say(qemu(socket));
		title("The end");
	} finally {
		process.off("exit", stop);
		const over = server.exitCode === null ? ended(server) : server.exitCode;
		stop();
		const code = await over;
		if (code !== 0) process.exitCode = code;
	}
}

const dir = mkdtempSync(join(tmpdir(), "vhostctl-demo-"));
const clean = () => rmSync(dir, { recursive: true, force: true });
process.once("exit", clean);
for (const signal of ["SIGINT", "SIGTERM"] as const)
	process.once(signal, () => process.exit(1));
try {
	await demonstrate(dir);
	clean();
	say("The instance has ended; its sockets and its directory are gone.");
} catch (error) {
	say(kleur.red(`demo: ${error instanceof Error ? error.message : error}`));
	process.exitCode = 1;
}
