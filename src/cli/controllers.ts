// SPDX-License-Identifier: MIT
/** What the commands of vhost-user-blk and vhost-user-scsi controllers share. */
import { resolve } from "node:path";
import type { Client } from "../engine/control/client.ts";
import type { Result } from "../engine/control/schema.ts";
import { VhostctlError } from "../engine/errors.ts";
import { attached } from "./attach.ts";
import type { Call } from "./bdev-kinds.ts";
import type { CommandOption, Given } from "./command.ts";
import { cpumask } from "./cpus.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine } from "./output.ts";

export const CPUMASK: CommandOption = {
	usage: "--cpumask <cpus>",
	help: "Processors to serve it on, as 0x3, [0,1-3] or 0,1-3 (default: all of the instance's)",
};
export const IN_PROCESS: CommandOption = {
	usage: "--in-process",
	help: "Serve it from this process until a signal, without an instance",
};
export const SOCKET_DIR: CommandOption = {
	usage: "-S, --socket-dir <dir>",
	help: "With --in-process: directory of the socket (default: see vhostctl(1))",
};

/** What controllers of both kinds are created with. */
export const CONTROLLER_OPTIONS: readonly CommandOption[] = [
	CPUMASK,
	{
		usage: "--client <path>",
		help: "Connect to the front end's socket there, whenever it is there, instead of listening",
	},
	{ usage: "--no-packed", help: "Do not offer packed virtqueues" },
	{
		usage: "--iommu",
		help: "Offer to serve a machine whose IOMMU covers the device (ACCESS_PLATFORM)",
	},
	{
		usage: "--inband",
		help: "Offer notifications by messages instead of eventfds, which is slow",
	},
];

type Listed = Result<"vhost_get_controllers">[number];
type Specific = Listed["backend_specific"];

/** By what vhost_get_controllers has in backend_specific. */
export type Kind = "block" | "scsi";
type Controller<K extends Kind> = Omit<Listed, "backend_specific"> & {
	readonly backend_specific: Extract<Specific, Record<K, unknown>>;
};

function isKind<K extends Kind>(
	kind: K,
	controller: Listed,
): controller is Listed & Controller<K> {
	return kind in controller.backend_specific;
}

/** All controllers of a kind, or the one of that name. Throws E_NOT_FOUND. */
export async function getControllers<K extends Kind>(
	client: Client,
	kind: K,
	name: string | undefined,
): Promise<Controller<K>[]> {
	const params = name === undefined ? {} : { name };
	const all = await client.call("vhost_get_controllers", params);
	const found = all.filter((one) => isKind(kind, one));
	if (name !== undefined && found.length === 0) {
		const other = kind === "scsi" ? "blk" : "scsi";
		throw new VhostctlError(
			"E_NOT_FOUND",
			`${name} is a vhost-user-${other} controller: see vhostctl ${other} list ${name}`,
		);
	}
	return found;
}

/** The name of a controller and what it is made with, as parameters of the methods that make one. */
export interface ControllerParams {
	readonly ctrlr: string;
	readonly cpumask?: string;
	readonly client?: string;
	readonly packed_ring?: boolean;
	readonly iommu?: boolean;
	readonly inband?: boolean;
}

/** What CONTROLLER_OPTIONS, or settings of the same names, say; each by its text, a flag by any. */
export function controllerParams(
	ctrlr: string,
	setting: (name: string) => string | undefined,
): ControllerParams {
	const cpus = setting("cpumask");
	const client = setting("client");
	const has = (name: string) => setting(name) !== undefined;
	return {
		ctrlr,
		...(cpus === undefined ? {} : { cpumask: cpumask(cpus) }),
		...(client === undefined ? {} : { client: resolve(client) }),
		...(has("no-packed") ? { packed_ring: false } : {}),
		...(has("iommu") ? { iommu: true } : {}),
		...(has("inband") ? { inband: true } : {}),
	};
}

/**
 * Makes the calls, the first of which makes a controller. If a later one fails, the controller goes
 * with what it was given: a script may try again.
 */
async function makeWhole(
	client: Client,
	ctrlr: string,
	[first, ...rest]: readonly Call[],
): Promise<void> {
	const make = ({ method, params }: Call) =>
		client.call(method as string, params);
	if (first) await make(first);
	const targets: number[] = [];
	try {
		for (const each of rest) targets.push(Number(await make(each)));
	} catch (error) {
		for (const scsi_target_num of targets)
			await client.call("vhost_scsi_controller_remove_target", {
				ctrlr,
				scsi_target_num,
			});
		await client.call("vhost_delete_controller", { ctrlr });
		throw error;
	}
}

/**
 * Makes a controller with `calls`, which get the names of its bdevs, and prints its socket's path,
 * in the instance or in this process: there `bdevs` are specs of bdevs to make.
 */
export async function createController(
	given: Given,
	controller: ControllerParams,
	bdevs: readonly string[],
	calls: (bdevs: readonly string[]) => readonly Call[],
): Promise<void> {
	if (given.flag("in-process")) {
		if (given.text("rpc-socket") !== undefined)
			throw new UsageError("--in-process has no use for --rpc-socket");
		const { serveOne } = await import("./in-process.ts");
		return serveOne(given, controller, bdevs, calls);
	}
	if (given.text("socket-dir") !== undefined)
		throw new UsageError("--socket-dir goes with --in-process");
	const [made] = await attached(given, async (client) => {
		await makeWhole(client, controller.ctrlr, calls(bdevs));
		return client.call("vhost_get_controllers", { name: controller.ctrlr });
	});
	if (given.flag("json")) printJson(made);
	else printLine(made?.socket ?? "");
}

/** Deletes the controller that is named first. */
export async function deleteController(
	given: Given,
	kind: Kind,
): Promise<void> {
	const [name = ""] = given.args;
	const done = await attached(given, async (client) => {
		await getControllers(client, kind, name);
		return client.call("vhost_delete_controller", { ctrlr: name });
	});
	if (given.flag("json")) printJson(done);
}
