// SPDX-License-Identifier: MIT
/** vhostctl scsi: vhost-user-scsi controllers, each a socket that serves SCSI targets. */
import { MAX_LUN, MAX_TARGET } from "../engine/virtio/scsi-address.ts";
import { attached } from "./attach.ts";
import type { Call } from "./bdev-kinds.ts";
import {
	type CommandOption,
	type Given,
	type Group,
	JSON_OUTPUT,
	RPC_SOCKET,
} from "./command.ts";
import { addTargetCall } from "./controller-specs.ts";
import {
	CONTROLLER_OPTIONS,
	controllerParams,
	createController,
	deleteController,
	getControllers,
	IN_PROCESS,
	SOCKET_DIR,
} from "./controllers.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine, table } from "./output.ts";
import { count, parseCount } from "./size.ts";

const TARGET: CommandOption = {
	usage: "--target <n>",
	help: `Number of the target, 0 to ${MAX_TARGET}`,
};

export const scsi: Group = {
	name: "scsi",
	summary:
		"Create, list and delete vhost-user-scsi controllers; add and remove targets",
	commands: [
		{
			usage: "create <name>",
			summary:
				"Create a controller, a socket of that name in the instance's socket directory, and print the socket's path",
			options: [
				{
					usage: "--bdev <bdev>",
					help: "Block device to add as a target, from 0 on; with --in-process its SPEC, as serve's --bdev; repeatable",
					repeats: true,
				},
				{
					usage: "--delay",
					help: "Have no socket yet: scsi start makes it",
				},
				...CONTROLLER_OPTIONS,
				IN_PROCESS,
				SOCKET_DIR,
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl scsi create vm0 --bdev disk0 --bdev disk1",
			run: create,
		},
		{
			usage: "start <name>",
			summary: "Make the socket of a controller that was created with --delay",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl scsi start vm0",
			run: start,
		},
		{
			usage: "add-target <name>",
			summary:
				"Add a block device, which running machines see at once, and print the number of its target",
			options: [
				{ usage: "--bdev <bdev>", help: "Block device to add" },
				{ ...TARGET, help: `${TARGET.help} (default: the first free)` },
				{
					usage: "--lun <n>",
					help: `Number of the logical unit in the target, 0 to ${MAX_LUN} (default: 0)`,
				},
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl scsi add-target vm0 --bdev disk2 --target 5",
			run: addTarget,
		},
		{
			usage: "remove-target <name>",
			summary:
				"Remove a target, once its I/O has ended; running machines see it at once",
			options: [
				TARGET,
				{
					usage: "--lun <n>",
					help: "Remove only this logical unit of it (default: all)",
				},
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl scsi remove-target vm0 --target 5",
			run: removeTarget,
		},
		{
			usage: "list [name]",
			summary: "List vhost-user-scsi controllers and their targets",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl scsi list",
			run: list,
		},
		{
			usage: "delete <name>",
			summary: "Delete a controller, which has no target any more",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl scsi delete vm0",
			run: (given) => deleteController(given, "scsi"),
		},
	],
};

async function create(given: Given): Promise<void> {
	const [ctrlr = ""] = given.args;
	const delay = given.flag("delay");
	if (delay && given.flag("in-process"))
		throw new UsageError("--delay has no use for --in-process");
	const controller = controllerParams(ctrlr, given.text);
	const calls = (bdevs: readonly string[]): Call[] => [
		{
			method: "vhost_create_scsi_controller",
			params: { ...controller, ...(delay ? { delay } : {}) },
		},
		...bdevs.map((bdev) => addTargetCall(ctrlr, bdev)),
	];
	await createController(given, controller, given.list("bdev"), calls);
}

async function start(given: Given): Promise<void> {
	const [ctrlr = ""] = given.args;
	const done = await attached(given, (client) =>
		client.call("vhost_start_scsi_controller", { ctrlr }),
	);
	if (given.flag("json")) printJson(done);
}

async function addTarget(given: Given): Promise<void> {
	const [ctrlr = ""] = given.args;
	const { method, params } = addTargetCall(
		ctrlr,
		given.required("bdev"),
		given.parsed("target", count(0, MAX_TARGET)),
		given.parsed("lun", count(0, MAX_LUN)),
	);
	const target = await attached(given, (client) =>
		client.call(method as string, params),
	);
	if (given.flag("json")) printJson(target);
	else printLine(String(target));
}

async function removeTarget(given: Given): Promise<void> {
	const [ctrlr = ""] = given.args;
	const scsi_target_num = parseCount(
		given.required("target"),
		"--target",
		0,
		MAX_TARGET,
	);
	const lun = given.parsed("lun", count(0, MAX_LUN));
	const done = await attached(given, (client) =>
		client.call("vhost_scsi_controller_remove_target", {
			ctrlr,
			scsi_target_num,
			...(lun === undefined ? {} : { lun }),
		}),
	);
	if (given.flag("json")) printJson(done);
}

async function list(given: Given): Promise<void> {
	const [name] = given.args;
	const controllers = await attached(given, (client) =>
		getControllers(client, "scsi", name),
	);
	if (given.flag("json")) return printJson(controllers);
	const columns = [
		{ title: "name" },
		{ title: "target", right: true },
		{ title: "lun", right: true },
		{ title: "bdev" },
		{ title: "cpumask" },
		{ title: "front ends", right: true },
		{ title: "socket" },
	];
	const rows = controllers.flatMap(({ backend_specific, ...one }) => {
		const units = backend_specific.scsi.flatMap(({ scsi_dev_num, luns }) =>
			luns.map(({ id, bdev_name }) => [
				String(scsi_dev_num),
				String(id),
				bdev_name,
			]),
		);
		const rest = [one.cpumask, String(one.sessions.length), one.socket];
		return (units.length > 0 ? units : [["-", "-", "-"]]).map((unit) => [
			one.ctrlr,
			...unit,
			...rest,
		]);
	});
	printLine(await table(columns, rows));
}
