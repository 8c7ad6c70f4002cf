// SPDX-License-Identifier: MIT
/** vhostctl blk: vhost-user-blk controllers, each a socket that serves one block device. */
import { attached } from "./attach.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import { cpumask } from "./cpus.ts";
import { UsageError } from "./errors.ts";
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
				{
					usage: "--cpumask <cpus>",
					help: "Processors to serve it on, as 0x3, [0,1-3] or 0,1-3 (default: all of the instance's)",
				},
				{
					usage: "--in-process",
					help: "Serve it from this process until a signal, without an instance",
				},
				{
					usage: "-S, --socket-dir <dir>",
					help: "With --in-process: directory of the socket (default: see vhostctl(1))",
				},
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl blk create vm0 --bdev disk0",
			run: create,
		},
		{
			usage: "list [name]",
			summary: "List controllers",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl blk list",
			run: list,
		},
		{
			usage: "delete <name>",
			summary: "Delete a controller and its socket",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl blk delete vm0",
			run: remove,
		},
	],
};

async function create(given: Given): Promise<void> {
	const [name = ""] = given.args;
	const bdev = given.required("bdev");
	const params = {
		ctrlr: name,
		...(given.flag("readonly") ? { readonly: true } : {}),
		...cpumaskParam(given),
	};
	if (given.flag("in-process")) {
		if (given.text("rpc-socket") !== undefined)
			throw new UsageError("--in-process has no use for --rpc-socket");
		const { serveOne } = await import("./in-process.ts");
		return serveOne(given, bdev, params);
	}
	if (given.text("socket-dir") !== undefined)
		throw new UsageError("--socket-dir goes with --in-process");
	const made = await attached(given, async (client) => {
		await client.call("vhost_create_blk_controller", {
			...params,
			dev_name: bdev,
		});
		return client.call("vhost_get_controllers", { name });
	});
	if (given.flag("json")) printJson(made[0]);
	else printLine(made[0]?.socket ?? "");
}

function cpumaskParam(given: Given): { cpumask?: string } {
	const text = given.text("cpumask");
	return text === undefined ? {} : { cpumask: cpumask(text) };
}

async function list(given: Given): Promise<void> {
	const [name] = given.args;
	const controllers = await attached(given, (client) =>
		client.call("vhost_get_controllers", name === undefined ? {} : { name }),
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

async function remove(given: Given): Promise<void> {
	const [name = ""] = given.args;
	const done = await attached(given, (client) =>
		client.call("vhost_delete_controller", { ctrlr: name }),
	);
	if (given.flag("json")) printJson(done);
}
