// SPDX-License-Identifier: MIT
/** What is measured: sockets that perf drives, and the bounds beside them. */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import {
	DISK_DIR,
	DRIVER_CPU,
	MEMORY_DIR,
	pinned,
	program,
	TARGET_CPU,
	vhostctl,
} from "./machine.ts";
import { cpuTime, type Daemon, output, startDaemon } from "./process.ts";
import { type Measurement, parseFio, type Workload } from "./workloads.ts";

export interface Target {
	readonly name: string;
	/** Whether it has such a thing. */
	takes(workload: Workload): boolean;
	measure(workload: Workload): Promise<Measurement>;
	stop(): Promise<void>;
}

export interface Shape {
	/** Bytes of every disk and array. */
	readonly size: number;
	/** Seconds for each measurement. */
	readonly seconds: number;
	/** How often each is made. */
	readonly rounds: number;
	/** A directory for sockets. */
	readonly dir: string;
}

/** A process that runs while targets are made, for those that need files. */
export interface Files {
	readonly memory: string;
	readonly disk: string;
}

export function filesFor(tag: string): Files {
	return {
		memory: join(MEMORY_DIR, `vhostctl-bench-${tag}.img`),
		disk: join(DISK_DIR, `vhostctl-bench-${tag}.img`),
	};
}

/** Writes a file whole: what was never written is read without touching the disk. */
export async function fillFile(path: string, size: number): Promise<void> {
	const chunk = new Uint8Array(1 << 20).map((_, i) => (i * 2654435761) >>> 13);
	const file = await open(path, "w");
	try {
		for (let at = 0; at < size; at += chunk.length) await file.write(chunk);
		await file.sync();
	} finally {
		await file.close();
	}
}

/** A disk behind a vhost-user socket: of a SCSI controller, its first. */
export interface Disk {
	readonly socket: string;
	readonly scsi?: boolean;
	/** Options of the driver's; default: split rings, as everybody's devices have them. */
	readonly driver?: readonly string[];
}

function diskOptions({ socket, scsi, driver = ["--split"] }: Disk): string[] {
	const unit = scsi ? ["--target", "0"] : [];
	return ["--socket", socket, ...unit, ...driver];
}

function perfCommand(
	disk: Disk,
	{ rw, blockSize, depth }: Workload,
	limit: readonly string[],
): string[] {
	const args = ["perf", "--json", ...diskOptions(disk), "--rw", rw];
	const shape = ["--bs", String(blockSize), "--iodepth", String(depth)];
	const cpu = ["--cpu", String(DRIVER_CPU)];
	return pinned(DRIVER_CPU, vhostctl(...args, ...shape, ...cpu, ...limit));
}

/** As fio and perf both read it. */
function milliseconds(seconds: number): string {
	return `${Math.round(seconds * 1000)}ms`;
}

/** One run of perf against a disk. pid: the process behind it, if known. */
export async function perf(
	disk: Disk,
	workload: Workload,
	seconds: number,
	pid?: number,
): Promise<Measurement> {
	const before = pid === undefined ? Number.NaN : cpuTime(pid);
	const command = perfCommand(disk, workload, [
		"--time",
		milliseconds(seconds),
	]);
	const text = await output(command);
	const cpu = pid === undefined ? Number.NaN : cpuTime(pid) - before;
	return parseFio(text, workload, cpu);
}

/** Writes all of a disk once, so that no memory of it is missing. */
export async function fillDisk(disk: Disk, size: number): Promise<void> {
	const args = ["perf", "--json", ...diskOptions(disk), "--rw", "write"];
	await output(
		vhostctl(
			...args,
			"--bs",
			"128K",
			"--iodepth",
			"32",
			"--size",
			String(size),
		),
	);
}

function socketTarget(
	name: string,
	disk: Disk,
	shape: Shape,
	daemon?: Daemon,
): Target {
	return {
		name,
		// What SCSI costs shows where requests are small; they are what it is compared by.
		takes: ({ rw }) => !disk.scsi || rw === "randread",
		measure: (workload) => perf(disk, workload, shape.seconds, daemon?.pid),
		stop: async () => daemon?.stop(),
	};
}

/** The controller of each target of ours, and the bdev behind it. */
export const CTRLR = "disk";
export const BDEV = "bench";

export interface OurOptions {
	/** Behind a SCSI controller. */
	readonly scsi?: boolean;
	/** Written once before it is measured. */
	readonly fill?: boolean;
}

/** vhostctl serve with one disk behind one controller. */
export async function ourTarget(
	name: string,
	bdev: string,
	shape: Shape,
	{ scsi = false, fill = false }: OurOptions = {},
): Promise<Target & { readonly disk: Disk; readonly rpc: string }> {
	const id = name.replace(/\W+/g, "-");
	const dir = join(shape.dir, id);
	const socket = join(dir, CTRLR);
	const rpc = join(shape.dir, `${id}.rpc`);
	const serve = vhostctl("serve", "-S", dir, "-r", rpc);
	const controller = [scsi ? "--scsi" : "--blk", `${CTRLR}=${BDEV}`];
	const disk = ["--bdev", bdev, ...controller, "--log-level", "error"];
	const daemon = await startDaemon(
		pinned(TARGET_CPU, [...serve, "-m", `[${TARGET_CPU}]`, ...disk]),
		() => existsSync(socket) && existsSync(rpc),
	);
	const target = socketTarget(name, { socket, scsi }, shape, daemon);
	try {
		if (fill) await fillDisk({ socket, scsi }, shape.size);
	} catch (error) {
		await target.stop();
		throw error;
	}
	return { ...target, disk: { socket, scsi }, rpc };
}

/** qemu-storage-daemon, with a thread of its own for the disk: faster than without. */
export async function qemuTarget(
	name: string,
	blockdev: string,
	shape: Shape,
): Promise<Target> {
	const socket = join(shape.dir, `${name.replace(/\W+/g, "-")}.sock`);
	const daemon = await startDaemon(
		pinned(TARGET_CPU, [
			"qemu-storage-daemon",
			...["--object", "iothread,id=thread"],
			...["--blockdev", `${blockdev},node-name=disk`],
			"--export",
			`type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=1,iothread=thread,addr.type=unix,addr.path=${socket}`,
		]),
		() => existsSync(socket),
	);
	return socketTarget(name, { socket }, shape, daemon);
}

/** Any other program's socket. */
export function peerTarget(name: string, socket: string, shape: Shape): Target {
	return socketTarget(name, { socket }, shape);
}

/** A loop that copies random blocks: what a RAM disk's memory can do at most. */
export function copyLoop(shape: Shape): Target {
	return {
		name: "copy loop",
		takes: ({ rw }) => rw !== "read",
		measure({ rw, blockSize, depth }) {
			const command = [
				program("copy_loop"),
				...["--size", String(shape.size), "--bs", String(blockSize)],
				...["--depth", String(depth), "--time", String(shape.seconds * 1000)],
				...(rw === "randwrite" ? ["--write"] : []),
			];
			return output(pinned(TARGET_CPU, command)).then((text) => {
				const { iops, bytes_per_second: bytesPerSecond } = JSON.parse(text);
				return { iops, bytesPerSecond, cpuPerIo: 1e9 / iops };
			});
		},
		stop: async () => {},
	};
}

/** A cache line between the two processors: what a round trip takes at least. */
export function pingPong(shape: Shape): Target {
	return {
		name: "ping-pong",
		takes: ({ rw, depth }) => rw === "randread" && depth === 1,
		measure() {
			const command = [
				program("ping_pong"),
				...["--cpus", `${TARGET_CPU},${DRIVER_CPU}`],
				...["--time", String(shape.seconds * 1000)],
			];
			return output(command).then((text) => {
				const { round_trip_ns: p50 } = JSON.parse(text);
				return { iops: 1e9 / p50, bytesPerSecond: 0, p50 };
			});
		},
		stop: async () => {},
	};
}

/** fio on the file itself, with its io_uring engine and O_DIRECT, on the target's processor. */
export function fioTarget(file: string, shape: Shape): Target {
	return {
		name: "fio io_uring, disk",
		takes: () => true,
		measure(workload) {
			const { rw, blockSize, depth } = workload;
			const command = [
				...["fio", "--name=bench", `--filename=${file}`, "--ioengine=io_uring"],
				...["--direct=1", `--rw=${rw}`, `--bs=${blockSize}`],
				...[`--iodepth=${depth}`, `--size=${shape.size}`, "--time_based"],
				...[`--runtime=${milliseconds(shape.seconds)}`, "--output-format=json"],
			];
			return output(pinned(TARGET_CPU, command)).then((text) =>
				parseFio(text, workload),
			);
		},
		stop: async () => {},
	};
}
