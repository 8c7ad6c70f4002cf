// SPDX-License-Identifier: MIT
/** vhostctl blk: vhost-user-blk controllers, each a socket that serves one block device. */
import { attached } from "./attach.ts";
import type { Call } from "./bdev-kinds.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import {
	CONTROLLER_OPTIONS,
	controllerParams,
	createController,
	deleteController,
	getControllers,
	IN_PROCESS,
	SOCKET_DIR,
} from "./controllers.ts";
import { printJson, printLine, table } from "./output.ts";

export const blk: Group = {
	name: "blk",
	summary: "Create, list and delete vhost-user-blk controllers",
	commands: [
		{
			usage: "create <name>",
			summary:
				"Create a controller, a socket of that name in the instance's socket directory, and print the socket's path",
			options: [
				{
					usage: "--bdev <bdev>",
					help: "Block device to serve; with --in-process its SPEC, as serve's --bdev",
				},
				{ usage: "--readonly", help: "Refuse writes" },
				...CONTROLLER_OPTIONS,
				IN_PROCESS,
				SOCKET_DIR,
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl blk create vm0 --bdev disk0",
			run: create,
		},
		{
			usage: "list [name]",
			summary: "List vhost-user-blk controllers",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl blk list",
			run: list,
		},
		{
			usage: "delete <name>",
			summary: "Delete a controller and its socket",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl blk delete vm0",
			run: (given) => deleteController(given, "block"),
		},
	],
};

async function create(given: Given): Promise<void> {
	const [ctrlr = ""] = given.args;
	const controller = controllerParams(ctrlr, given.text);
	const readonly = given.flag("readonly") ? { readonly: true } : {};
	const calls = ([dev_name = ""]: readonly string[]): Call[] => [
		{
			method: "vhost_create_blk_controller",
			params: { ...controller, ...readonly, dev_name },
		},
	];
	await createController(given, controller, [given.required("bdev")], calls);
}

async function list(given: Given): Promise<void> {
	const [name] = given.args;
	const controllers = await attached(given, (client) =>
		getControllers(client, "block", name),
	);
	if (given.flag("json")) return printJson(controllers);
	const columns = [
		{ title: "name" },
		{ title: "bdev" },
		{ title: "access" },
		{ title: "cpumask" },
		{ title: "front ends", right: true },
		{ title: "socket" },
	];
	const rows = controllers.map((one) => [
		one.ctrlr,
		one.backend_specific.block.bdev ?? "(gone)",
		one.backend_specific.block.readonly ? "read-only" : "read-write",
		one.cpumask,
		String(one.sessions.length),
		one.socket,
	]);
	printLine(await table(columns, rows));
}
