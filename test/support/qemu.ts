// SPDX-License-Identifier: MIT
// Guests in QEMU with software emulation: Debian's cloud kernel on an initramfs of ours.
import { readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import {
	consoleTail,
	type Device,
	type Guest,
	openLine,
	runner,
} from "./guest.ts";
import { guestImage } from "./guest-image.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	within,
} from "./processes.ts";

const PROCESSORS = 2;
// QEMU keeps what it translated across a reset, and undoes that store by store while the
// next kernel clears the pages: with its own limit, 1 GiB, a reset may take minutes.
const TRANSLATED_MIB = 64;
const KERNEL_OPTIONS = [
	"console=ttyS0 quiet panic=-1",
	"mitigations=off", // emulated, they cost a third of the time
	"rdinit=/scripts/init.sh",
	"VHC_TTY=ttyS1 VHC_SCRIPTS=/scripts VHC_MODULES=/modules/*.ko",
].join(" ");

/** Gives one command to the QEMU monitor at path. */
function monitor(path: string, command: string): Promise<void> {
	return new Promise((resolve, reject) => {
		const socket = createConnection(path, () => {
			for (const execute of ["qmp_capabilities", command])
				socket.write(JSON.stringify({ execute }));
		});
		let answers = 0;
		let text = "";
		socket.setEncoding("utf8").on("data", (data: string) => {
			text += data;
			answers = text.split('"return"').length - 1;
			if (answers === 2) socket.end();
		});
		socket.on("error", reject);
		socket.on("close", () =>
			answers === 2 ? resolve() : reject(new Error(`${command}: ${text}`)),
		);
	});
}

/** What QEMU calls the number of request queues. */
const QUEUES = { blk: "num-queues", scsi: "num_queues" };

function deviceArguments(devices: Device[]): string[] {
	return devices.flatMap(({ kind, socket, queues }, i) => [
		"-chardev",
		`socket,id=chardev${i},path=${socket}`,
		"-device",
		`vhost-user-${kind}-pci,chardev=chardev${i},${QUEUES[kind]}=${queues}`,
	]);
}

/** Boots a guest with two processors. */
export async function bootQemu(devices: Device[]): Promise<Guest> {
	const { kernel, initramfs } = guestImage();
	const dir = makeTempDir();
	const log = join(dir, "console");
	const qmp = join(dir, "qmp");
	const machine = startProcess(
		"qemu-system-x86_64",
		[
			...[
				"-accel",
				`tcg,thread=multi,tb-size=${TRANSLATED_MIB}`,
				"-cpu",
				"Nehalem",
				"-smp",
				`${PROCESSORS}`,
			],
			...["-object", "memory-backend-memfd,id=mem0,size=512M,share=on"],
			...["-machine", "pc,memory-backend=mem0", "-m", "512M"],
			...["-nodefaults", "-display", "none"],
			...["-kernel", kernel, "-initrd", initramfs],
			"-append",
			KERNEL_OPTIONS,
			// The console goes to a file, the agent's line is standard input and output.
			...["-serial", `file:${log}`, "-serial", "stdio"],
			...["-qmp", `unix:${qmp},server=on,wait=off`],
			...deviceArguments(devices),
		],
		{ interactive: true },
	);
	const console = () => {
		try {
			return readFileSync(log, "utf8");
		} catch {
			return ""; // not opened yet
		}
	};
	const context = () =>
		`${consoleTail(console())}\n--- QEMU ---\n${machine.stderr()}`;
	const { stdin, stdout } = machine.child;
	if (!stdin || !stdout) throw new Error("QEMU has no standard streams");
	const line = openLine(stdout, stdin, context);
	void machine.exited.then((code) => line.fail(`QEMU ended (${code})`));
	const kill = async () => {
		await machine.kill();
		removeTempDir(dir);
	};
	try {
		await line.ready();
	} catch (error) {
		await kill();
		throw error;
	}
	return {
		...runner(() => line, context),
		reboot: async () => {
			const ready = line.ready();
			line.request("busybox reboot -f").catch(() => {});
			await ready;
		},
		reset: async () => {
			const ready = line.ready();
			await monitor(qmp, "system_reset");
			await ready;
		},
		powerOff: async () => {
			line.request("busybox poweroff -f").catch(() => {});
			await within(machine.exited, 20_000, () => `power off${context()}`);
			removeTempDir(dir);
		},
		kill,
		console,
	};
}
