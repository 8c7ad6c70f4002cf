// SPDX-License-Identifier: MIT
// Guests in QEMU with software emulation: Debian's cloud kernel on an initramfs of ours.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
	consoleTail,
	type Device,
	type Guest,
	type Line,
	openLine,
	runner,
} from "./guest.ts";
import { guestImage } from "./guest-image.ts";
import {
	makeTempDir,
	removeTempDir,
	type Process as StartedProcess,
	startProcess,
	waitUntil,
	within,
} from "./processes.ts";
import { openQmp, type Qmp } from "./qmp.ts";

const MIGRATION_MS = 120_000;
// QEMU keeps what it translated across a reset, and undoes that store by store while the
// next kernel clears the pages: with its own limit, 1 GiB, a reset may take minutes.
const TRANSLATED_MIB = 64;
const KERNEL_OPTIONS = [
	"console=ttyS0 quiet panic=-1",
	"mitigations=off", // emulated, they cost a third of the time
	"rdinit=/scripts/init.sh",
	"VHC_TTY=ttyS1 VHC_SCRIPTS=/scripts VHC_MODULES=/modules/*.ko",
].join(" ");

/** What QEMU calls the number of request queues. */
const QUEUES = { blk: "num-queues", scsi: "num_queues" };

/** What a guest is like, beside its devices. */
export interface Machine {
	/** Properties of QEMU's machine. Default: "pc". */
	type?: string;
	/** As QEMU's -m has it. Default: 512M. A multiple of 4 KiB. */
	memory?: string;
	/** What it is made of: reserved hugepages of this size. Default: plain pages. */
	hugepages?: "2M" | "1G" | undefined;
	/** Default: 2. */
	processors?: number;
	/** Added to the kernel's command line. */
	append?: string;
	/** More arguments, before the devices'. */
	args?: string[];
}

/** A guest in QEMU. */
export interface QemuGuest extends Guest {
	/** The monitor of the process that it is in. */
	qmp(): Qmp;
	/**
	 * Moves to a new process with these devices, which are like those it has. With postcopy it
	 * runs there before its memory has come.
	 */
	migrate(devices: Device[], postcopy?: boolean): Promise<void>;
}

function deviceArguments(devices: Device[]): string[] {
	return devices.flatMap((device, i) => {
		const { kind, socket, queues, properties = {}, reconnect } = device;
		const again = reconnect === undefined ? "" : `,reconnect=${reconnect}`;
		const more = Object.entries({ [QUEUES[kind]]: queues, ...properties });
		return [
			"-chardev",
			`socket,id=chardev${i},path=${socket}${again}`,
			"-device",
			[
				`vhost-user-${kind}-pci,chardev=chardev${i},id=disk${i}`,
				...more.map(([name, value]) => `${name}=${value}`),
			].join(","),
		];
	});
}

/** A process that a guest is in, or is to move to. */
interface Process {
	machine: StartedProcess;
	line: Line;
	qmp: Qmp;
	dir: string;
}

function machineArguments(machine: Machine, dir: string): string[] {
	const { kernel, initramfs } = guestImage();
	const { type = "pc", memory = "512M", processors = 2, hugepages } = machine;
	const size = memory.split(",")[0];
	const pages = hugepages ? `,hugetlb=on,hugetlbsize=${hugepages}` : "";
	return [
		...["-accel", `tcg,thread=multi,tb-size=${TRANSLATED_MIB}`],
		...["-cpu", "Nehalem", "-smp", `${processors}`],
		"-object",
		`memory-backend-memfd,id=mem0,size=${size},share=on${pages}`,
		...["-machine", `${type},memory-backend=mem0`, "-m", memory],
		...["-nodefaults", "-display", "none"],
		...["-kernel", kernel, "-initrd", initramfs],
		...["-append", `${KERNEL_OPTIONS} ${machine.append ?? ""}`],
		// The console goes to a file, the agent's line is standard input and output.
		...["-serial", `file:${join(dir, "console")}`, "-serial", "stdio"],
		...["-qmp", `unix:${join(dir, "qmp")},server=on,wait=off`],
		...(machine.args ?? []),
	];
}

function consoleOf(dir: string): string {
	try {
		return readFileSync(join(dir, "console"), "utf8");
	} catch {
		return ""; // not opened yet
	}
}

async function start(
	devices: Device[],
	machine: Machine,
	args: string[],
): Promise<Process> {
	const dir = makeTempDir();
	const started = startProcess(
		"qemu-system-x86_64",
		[...machineArguments(machine, dir), ...deviceArguments(devices), ...args],
		{ interactive: true },
	);
	const { stdin, stdout } = started.child;
	if (!stdin || !stdout) throw new Error("QEMU has no standard streams");
	const line = openLine(stdout, stdin, () => contextOf(dir, started));
	void started.exited.then((code) => line.fail(`QEMU ended (${code})`));
	try {
		const qmp = await openQmp(join(dir, "qmp"));
		return { machine: started, line, qmp, dir };
	} catch (error) {
		await started.kill();
		removeTempDir(dir);
		throw new Error(contextOf(dir, started), { cause: error });
	}
}

function contextOf(dir: string, machine: StartedProcess): string {
	return `${consoleTail(consoleOf(dir))}\n--- QEMU ---\n${machine.stderr()}`;
}

async function end({ machine, qmp, dir }: Process): Promise<void> {
	qmp.close();
	await machine.kill();
	removeTempDir(dir);
}

/** Waits until a migration is over. Fails if it failed. */
async function migrated(from: Qmp): Promise<void> {
	await waitUntil(
		async () => {
			const { status, "error-desc": reason } = await from.execute<{
				status?: string;
				"error-desc"?: string;
			}>("query-migrate");
			if (status === "failed" || status === "cancelled")
				throw new Error(`migration ${status}: ${reason}`);
			return status === "completed";
		},
		MIGRATION_MS,
		() => "the migration completes",
	);
}

/** Migrates a guest, and waits until it runs. */
async function move(
	from: Qmp,
	next: Process,
	postcopy: boolean,
): Promise<void> {
	const uri = `unix:${join(next.dir, "migration")}`;
	const capabilities = [{ capability: "postcopy-ram", state: postcopy }];
	for (const qmp of [from, next.qmp])
		await qmp.execute("migrate-set-capabilities", { capabilities });
	await from.execute("migrate-set-parameters", {
		"max-bandwidth": 2 ** 33,
		"downtime-limit": 500,
	});
	await next.qmp.execute("migrate-incoming", { uri });
	await from.execute("migrate", { uri });
	if (postcopy) await from.execute("migrate-start-postcopy");
	await migrated(from);
	await next.qmp.event("RESUME", MIGRATION_MS);
	if (postcopy) await migrated(next.qmp);
}

/** Boots a guest. */
export async function bootQemu(
	devices: Device[],
	machine: Machine = {},
): Promise<QemuGuest> {
	let now = await start(devices, machine, []);
	const context = () => contextOf(now.dir, now.machine);
	try {
		await now.line.ready();
	} catch (error) {
		await end(now);
		throw error;
	}
	return {
		...runner(() => now.line, context),
		qmp: () => now.qmp,
		reboot: async () => {
			const ready = now.line.ready();
			now.line.request("busybox reboot -f").catch(() => {});
			await ready;
		},
		reset: async () => {
			const ready = now.line.ready();
			await now.qmp.execute("system_reset");
			await ready;
		},
		async migrate(devices, postcopy = false) {
			const next = await start(devices, machine, ["-incoming", "defer"]);
			try {
				await move(now.qmp, next, postcopy);
			} catch (error) {
				const texts = [now, next].map((each) =>
					contextOf(each.dir, each.machine),
				);
				await end(next);
				throw new Error(texts.join("\n"), { cause: error });
			}
			const left = now;
			now = next;
			await end(left);
		},
		powerOff: async () => {
			now.line.request("busybox poweroff -f").catch(() => {});
			await within(now.machine.exited, 20_000, () => `power off${context()}`);
			now.qmp.close();
			removeTempDir(now.dir);
		},
		kill: () => end(now),
		console: () => consoleOf(now.dir),
	};
}
