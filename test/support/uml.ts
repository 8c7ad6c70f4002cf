// SPDX-License-Identifier: MIT
// Guests in user-mode-linux: a Linux kernel as a process, on the host's own files (read-only).
import {
	consoleTail,
	type Device,
	type Guest,
	type Line,
	openLine,
	runner,
} from "./guest.ts";
import { projectPath } from "./instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	within,
} from "./processes.ts";
import { thinFio } from "./thin-fio.ts";

const SCRIPTS = projectPath("test/guest/scripts");
const VIRTIO_TYPES = { blk: 2, scsi: 8 };
/** In an order that they can be loaded in. */
const MODULES = [
	"drivers/block/virtio_blk",
	"drivers/scsi/scsi_common",
	"drivers/scsi/scsi_mod",
	"lib/crc64",
	"lib/crc64-rocksoft",
	"block/t10-pi",
	"drivers/scsi/sd_mod",
	"drivers/scsi/sg",
	"drivers/scsi/virtio_scsi",
].map((module) => `/usr/lib/uml/modules/*/kernel/${module}.ko`);

interface Boot {
	process: Process;
	line: Line;
}

async function boot(
	devices: Device[],
	dir: string,
	log: string[],
): Promise<Boot> {
	const process = startProcess(
		"linux.uml",
		[
			"mem=256M",
			`uml_dir=${dir}`, // its management socket
			"root=/dev/root",
			"rootfstype=hostfs",
			"rootflags=/",
			"ro",
			`init=${SCRIPTS}/init.sh`,
			...devices.map(
				({ socket, kind }) =>
					`virtio_uml.device=${socket}:${VIRTIO_TYPES[kind]}`,
			),
			// The console goes to standard error, the agent's line is standard input and output.
			"con=null",
			"con0=null,fd:2",
			"ssl=null",
			"ssl0=fd:0,fd:1",
			"VHC_TTY=ttyS0",
			`VHC_SCRIPTS=${SCRIPTS}`,
			`VHC_MODULES=${MODULES.join(",")}`,
			`VHC_FIO=${thinFio()}`,
		],
		// Guest memory is a file in TMPDIR: it must be on a tmpfs.
		{ interactive: true, env: { TMPDIR: "/dev/shm" } },
	);
	const { stdin, stdout } = process.child;
	if (!stdin || !stdout) throw new Error("linux.uml has no standard streams");
	const line = openLine(stdout, stdin, () =>
		consoleTail(log.join("") + process.stderr()),
	);
	void process.exited.then((code) => {
		log.push(process.stderr());
		line.fail(`linux.uml ended (${code})`);
	});
	try {
		await line.ready();
	} catch (error) {
		await process.kill();
		throw error;
	}
	return { process, line };
}

/** Boots a guest with one processor. */
export async function bootUml(devices: Device[]): Promise<Guest> {
	const log: string[] = [];
	const dir = makeTempDir();
	let now = await boot(devices, dir, log);
	const console = () =>
		log.join("") + (now.process.alive() ? now.process.stderr() : "");
	const context = () => consoleTail(console());
	return {
		...runner(() => now.line, context),
		reboot: async () => {
			const ready = now.line.ready();
			// Its answer never comes: the next start takes its place.
			now.line.request("busybox reboot -f").catch(() => {});
			await ready;
		},
		reset: async () => {
			await now.process.kill();
			now = await boot(devices, dir, log);
		},
		powerOff: async () => {
			now.line.request("busybox poweroff -f").catch(() => {});
			await within(now.process.exited, 20_000, () => `power off${context()}`);
			removeTempDir(dir);
		},
		kill: async () => {
			await now.process.kill();
			removeTempDir(dir);
		},
		console,
	};
}
