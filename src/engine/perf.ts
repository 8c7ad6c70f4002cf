// SPDX-License-Identifier: MIT
/**
 * Drives a vhost-user-blk or vhost-user-scsi socket, ours or another program's, with a load that
 * runs in C.
 */
import process from "node:process";
import {
	errnoName,
	LOAD_BLK,
	LOAD_SCSI,
	MODE_INTERRUPT,
	MODE_POLL,
	native,
} from "../ffi/native.ts";
import { fromErrno, VhostctlError } from "./errors.ts";
import { blkShape, type DiskShape, usableSize } from "./perf-limits.ts";
import { watchDevice } from "./perf-watch.ts";
import { createRuntime, type Runtime } from "./runtime.ts";
import {
	FIRST_REQUEST_RING,
	findScsiDisk,
	lunAddress,
	PROBE_BYTES,
	type UnitAddress,
} from "./scsi-initiator.ts";
import { allocStatsPage, type OpStats, type Stats } from "./stats.ts";
import {
	ALL_FEATURES,
	connectFrontend,
	type Frontend,
	type FrontendOptions,
} from "./vhost-user/frontend.ts";
import { VIRTIO_F } from "./virtio/features.ts";

/** In the order of enum vhc_load_rw. */
export const PERF_RW = [
	"read",
	"write",
	"randread",
	"randwrite",
	"randrw",
] as const;
export type PerfRw = (typeof PERF_RW)[number];
export type PerfMode = "poll" | "interrupt";

export interface PerfOptions {
	/** Path of the device's vhost-user socket. */
	readonly socket: string;
	/** The device is a virtio-scsi one, and this the disk to drive. Default: a virtio-blk device. */
	readonly unit?: UnitAddress;
	readonly rw: PerfRw;
	/** Bytes a request: a multiple of the device's block size. */
	readonly blockSize: number;
	/** Requests in flight on each queue, 1 to 1024. */
	readonly iodepth: number;
	readonly queues: number;
	/**
	 * Requests a second of all queues, evenly spaced: 1 to 1e9. What is due while all of `iodepth`
	 * are in flight is made up for, of the last 100 ms. Default: as many as go.
	 */
	readonly rate?: number;
	/** Bytes of the device to use, from its start. Default: all whole requests of it. */
	readonly size?: number;
	/** Stop after so long. Without this and `ios` the load goes over the size once. */
	readonly seconds?: number;
	/** Stop after so many requests. */
	readonly ios?: number;
	/** Write blocks with a crc32c and check what is read, in the end all that was written. */
	readonly verify: boolean;
	readonly mode: PerfMode;
	/** Split rings, also if the device offers packed ones, which are taken else. */
	readonly split?: boolean;
	/** The device keeps what it works on in memory that outlives it. */
	readonly inflight?: boolean;
	/** The device marks what it writes, as if the machine were being migrated. */
	readonly logDirty?: boolean;
	/**
	 * Seconds that the device may be away, to go on with it then: with `inflight`. Default: a
	 * device that goes away ends the load.
	 */
	readonly reconnectSeconds?: number;
	/** Processor to pin the load's thread to. */
	readonly cpu?: number;
	/** Ends the load early; what was done until then is the result. */
	readonly signal?: AbortSignal;
}

export interface PerfProgress {
	/** Of the whole load, from 0 to 1, or of what it wrote being read back. */
	readonly fraction: number;
	readonly phase: "run" | "verify";
	/** Requests and bytes done so far, without those read back. */
	readonly ios: number;
	readonly bytes: number;
	readonly elapsedNs: number;
}

/** What was done, as the driver saw it. Blocks read back in the end are in `verified` only. */
export interface PerfResult {
	readonly elapsedNs: number;
	readonly read: OpStats;
	readonly write: OpStats;
	/** Blocks read and checked, how many differed, and the first of those as a byte offset. */
	readonly verified: number;
	readonly verifyErrors: number;
	readonly firstBad: number;
	/** Processor time of this process while the load ran. */
	readonly userCpuNs: number;
	readonly systemCpuNs: number;
}

const PROGRESS_MS = 200;
/** Largest ring that back ends are known to take. */
const MAX_RING = 1024;
const DESCRIPTORS_A_REQUEST = 3;
/** Kept the same, so that a later load can check what an earlier one wrote. */
const SEED = 0x76686f7374n;

/**
 * Connects to the device, runs the load and disconnects. `onProgress` is called a few times a
 * second. Requests that fail and blocks that differ are told in the result; what cannot be asked of
 * the device is E_INVALID or E_PERMISSION, a device that goes away E_CONNECT.
 */
export async function runPerf(
	options: PerfOptions,
	onProgress?: (progress: PerfProgress) => void,
): Promise<PerfResult> {
	const runtime = createRuntime();
	try {
		const frontend = await connectFrontend(
			runtime,
			options.socket,
			frontendOptions(options),
		);
		try {
			return await drive(runtime, frontend, options, onProgress);
		} finally {
			await frontend.close();
		}
	} catch (error) {
		throw fromErrno(error, options.socket);
	} finally {
		await runtime.close();
	}
}

/** The disk that a load drives, as people call it: its socket, and where it is behind that. */
export function perfDisk({ socket, unit }: PerfOptions): string {
	if (unit === undefined) return socket;
	return `${socket}, target ${unit.target}, LUN ${unit.lun}`;
}

/** What any device has; features of a device type mean nothing to another type. */
const COMMON_FEATURES = Object.values(VIRTIO_F).reduce((all, f) => all | f, 0n);

function frontendOptions(options: PerfOptions): FrontendOptions {
	const { blockSize, iodepth, queues, mode, unit, inflight } = options;
	const device = unit === undefined ? LOAD_BLK : LOAD_SCSI;
	const bytes = native.loadBufferBytes(device, blockSize, iodepth, queues);
	const all = unit === undefined ? ALL_FEATURES : COMMON_FEATURES;
	const features = options.split ? all & ~VIRTIO_F.RING_PACKED : all;
	const common = {
		...{ queueSize: ringSize(iodepth), mode, features },
		...(inflight ? { inflight } : {}),
	};
	const memoryBytes = Number(bytes);
	if (unit === undefined) return { ...common, queues, memoryBytes };
	return {
		...common,
		queues: FIRST_REQUEST_RING + queues,
		memoryBytes: Math.max(memoryBytes, PROBE_BYTES),
		configSize: 0,
	};
}

/**
 * Bits that tell what a block device can do, of which every one there is has some, and that SCSI
 * controllers do not have (virtio 5.2.3, 5.6.3).
 */
const BLK_ONLY = 0xfffff0n;

/** Finds out what the device is. Throws E_INVALID for the other type than was asked for. */
async function findDisk(
	frontend: Frontend,
	options: PerfOptions,
): Promise<DiskShape> {
	const { socket, unit } = options;
	const isBlk = (frontend.offered & BLK_ONLY) !== 0n;
	if (unit === undefined && isBlk) return blkShape(frontend);
	if (unit !== undefined && !isBlk) {
		return findScsiDisk(frontend, unit).catch((error) => {
			const { code, message } = fromErrno(error, "probe");
			throw new VhostctlError(code, `${perfDisk(options)}: ${message}`);
		});
	}
	throw new VhostctlError(
		"E_INVALID",
		isBlk
			? `${socket}: a vhost-user-blk device, which has no targets`
			: `${socket}: no vhost-user-blk device; of a vhost-user-scsi one, say which target`,
	);
}

/** Room for every request's descriptors, should the device not take indirect ones. */
function ringSize(iodepth: number): number {
	const wanted = 2 ** Math.ceil(Math.log2(iodepth * DESCRIPTORS_A_REQUEST));
	return Math.min(wanted, MAX_RING);
}

async function drive(
	runtime: Runtime,
	frontend: Frontend,
	options: PerfOptions,
	onProgress: ((progress: PerfProgress) => void) | undefined,
): Promise<PerfResult> {
	const disk = await findDisk(frontend, options);
	const size = usableSize(perfDisk(options), disk, {
		...options,
		writes: options.rw !== "read" && options.rw !== "randread",
	});
	const page = allocStatsPage();
	try {
		if (options.logDirty) await frontend.startLogging();
		const cpuBefore = process.cpuUsage();
		const result = await runLoad(
			runtime,
			frontend,
			{
				...loadConfig(frontend, options, page.address, size),
				...deviceConfig(options, disk),
			},
			options,
			(load) => {
				// A migration comes for what was marked again and again.
				frontend.takeDirty();
				onProgress?.(progressOf(load, page.read(), options, size));
			},
		);
		const cpu = process.cpuUsage(cpuBefore);
		const { read, write } = page.read().ops;
		return {
			elapsedNs: Number(result.elapsed_ns),
			read,
			write,
			verified: Number(result.verified),
			verifyErrors: Number(result.verify_errors),
			firstBad: Number(result.first_bad),
			userCpuNs: cpu.user * 1000,
			systemCpuNs: cpu.system * 1000,
		};
	} finally {
		page.free();
	}
}

type LoadConfig = Parameters<typeof native.loadCreate>[1];
type LoadResult = ReturnType<typeof native.loadResult>;

function loadConfig(
	frontend: Frontend,
	options: PerfOptions,
	stats: bigint,
	size: number,
): LoadConfig {
	return {
		stats,
		buffers: frontend.memory.addr,
		buffers_len: frontend.memory.size,
		gpa_delta: frontend.gpaDelta,
		size: BigInt(size),
		ios: BigInt(options.ios ?? 0),
		runtime_ns: BigInt(Math.round((options.seconds ?? 0) * 1e9)),
		seed: SEED,
		rw: PERF_RW.indexOf(options.rw),
		block_size: options.blockSize,
		iodepth: options.iodepth,
		rate: options.rate ?? 0,
		rwmix_read: 50,
		verify: options.verify ? 1 : 0,
		mode: options.mode === "poll" ? MODE_POLL : MODE_INTERRUPT,
		cpu: options.cpu ?? -1,
	};
}

/** The part that tells what kind of device it is. */
function deviceConfig({ unit }: PerfOptions, disk: DiskShape): LoadConfig {
	if (unit === undefined) return { device: LOAD_BLK };
	const address = lunAddress(unit);
	return { device: LOAD_SCSI, address, lba_size: disk.blockSize };
}

/** Runs one load to its end; a signal or the device's going away ends it early. */
async function runLoad(
	runtime: Runtime,
	frontend: Frontend,
	config: LoadConfig,
	{ socket: path, signal, reconnectSeconds = 0 }: PerfOptions,
	onTick: (result: LoadResult) => void,
): Promise<LoadResult> {
	let id = 0;
	const ended = new Promise<number>((resolve) => {
		id = runtime.registerLoad(resolve);
	});
	const first = config.device === LOAD_SCSI ? FIRST_REQUEST_RING : 0;
	const rings = frontend.rings.slice(first).map(({ handle }) => handle);
	const load = native.loadCreate(runtime.upcalls, { ...config, id }, rings);
	let running = true;
	const stop = () => {
		if (running) native.loadStop(load);
	};
	const timer = setInterval(() => onTick(native.loadResult(load)), PROGRESS_MS);
	const watch = watchDevice(frontend, path, reconnectSeconds, stop);
	signal?.addEventListener("abort", stop);
	try {
		native.loadStart(load);
		if (signal?.aborted) stop();
		const errno = await ended;
		const gone = watch.gone();
		if (gone) throw gone;
		if (errno !== 0) throw watch.away() ?? loadFailed(errno, path);
		return native.loadResult(load);
	} finally {
		running = false;
		await watch.end();
		clearInterval(timer);
		signal?.removeEventListener("abort", stop);
		runtime.unregisterLoad(id);
		native.loadRelease(load);
	}
}

function loadFailed(errno: number, path: string): VhostctlError {
	const name = errnoName(errno);
	if (name === "ETIMEDOUT")
		return new VhostctlError("E_IO", `${path}: requests are not answered`);
	return new VhostctlError(
		"E_PROTOCOL",
		`${path}: the device corrupted the ring (${name})`,
	);
}

function progressOf(
	load: LoadResult,
	{ ops: { read, write } }: Stats,
	options: PerfOptions,
	size: number,
): PerfProgress {
	const ios = read.count + write.count;
	const elapsedNs = Number(load.elapsed_ns);
	const once = size / options.blockSize;
	const byTime = elapsedNs / ((options.seconds ?? Infinity) * 1e9);
	const wanted =
		options.ios ?? (options.seconds === undefined ? once : Infinity);
	const run = Math.max(byTime, ios / wanted);
	const done = { ios, bytes: read.bytes + write.bytes, elapsedNs };
	if (run < 1 || !options.verify || write.count === 0)
		return { phase: "run", fraction: Math.min(1, run), ...done };
	const readBack = Math.max(0, Number(load.verified) - read.count);
	const fraction = Math.min(1, readBack / Math.min(once, write.count));
	return { phase: "verify", fraction, ...done };
}
