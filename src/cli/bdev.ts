// SPDX-License-Identifier: MIT
/** vhostctl bdev: the block devices of a running instance. */
import type { Client } from "../engine/control/client.ts";
import type { Result } from "../engine/control/schema.ts";
import { VhostctlError } from "../engine/errors.ts";
import { attached } from "./attach.ts";
import { createCall, kindOf, methodFor } from "./bdev-kinds.ts";
import { qos } from "./bdev-qos.ts";
import {
	STACKED_COMMANDS,
	STACKED_KINDS,
	STACKED_OPTIONS,
} from "./bdev-stacked.ts";
import { type Given, type Group, JSON_OUTPUT, RPC_SOCKET } from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine, table } from "./output.ts";
import { formatSize, parseSize, quoted } from "./size.ts";

const MIB = 1024 * 1024;
const SETTINGS = [
	...["size", "block-size", "path", "pages", "node", "base", "count"],
	...["read-latency", "read-p99", "write-latency", "write-p99"],
	...["uuid", "vendor", "product", "serial"],
];

export const bdev: Group = {
	name: "bdev",
	summary: "Create, list, delete, resize and limit block devices",
	commands: [
		{
			usage: "create <kind> [name]",
			summary:
				"Create a block device and print its name; kinds: malloc (RAM), null, file; on another: delay, error, passthru, split",
			options: [
				{
					usage: "--size <size>",
					help: "malloc, null: size, as 512M or 10G; split: of each part",
				},
				{
					usage: "--block-size <size>",
					help: "Logical block size (default: 512, for a file what it asks for)",
				},
				{ usage: "--path <path>", help: "file: regular file or block device" },
				{ usage: "--readonly", help: "file: open it read-only" },
				{
					usage: "--uuid <uuid>",
					help: "UUID (default: one made of kind, name and path)",
				},
				{
					usage: "--vendor <text>",
					help: "Vendor that SCSI guests see, up to 8 characters (default: VHOSTCTL)",
				},
				{
					usage: "--product <text>",
					help: "Product that SCSI guests see, up to 16 characters (default: the kind's)",
				},
				{
					usage: "--serial <text>",
					help: "Serial number that SCSI guests see, up to 32 characters (default: the name)",
				},
				{
					usage: "--pages <size>",
					help: "malloc: 4K, thp, or hugepages of 2M or 1G (default: thp)",
				},
				{ usage: "--node <n>", help: "malloc: NUMA node of the memory" },
				...STACKED_OPTIONS,
				RPC_SOCKET,
				JSON_OUTPUT,
			],
			example: "vhostctl bdev create malloc disk0 --size 1G --block-size 4K",
			run: create,
		},
		{
			usage: "list [name]",
			summary: "List block devices",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl bdev list",
			run: list,
		},
		{
			usage: "delete <name>",
			summary:
				"Delete a block device; what is stored in a file stays there, and parts go together",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl bdev delete disk0",
			run: remove,
		},
		{
			usage: "resize <name> [size]",
			summary:
				"Resize a malloc or null device; for a file, take over the size that the file now has",
			options: [RPC_SOCKET, JSON_OUTPUT],
			example: "vhostctl bdev resize disk0 2G",
			run: resize,
		},
		qos,
		...STACKED_COMMANDS,
	],
};

async function create(given: Given): Promise<void> {
	const [kind = "", name] = given.args;
	const settings = new Map<string, string>();
	if (name !== undefined) settings.set("name", name);
	for (const setting of SETTINGS) {
		const value = given.text(setting);
		if (value !== undefined) settings.set(setting, value);
	}
	if (given.flag("readonly")) settings.set("readonly", "");
	const label = (setting: string) =>
		setting === "name" ? "a name" : `--${setting}`;
	const { method, params } = createCall(kind, settings, { label, prefix: "" });
	const made = await attached(given, (client) => client.call(method, params));
	if (given.flag("json")) printJson(made);
	else if (made === true) printLine(`EE_${settings.get("base")}`);
	else printLine([made].flat().join("\n"));
}

async function list(given: Given): Promise<void> {
	const [name] = given.args;
	const [bdevs, controllers] = await attached(given, (client) =>
		Promise.all([
			client.call("bdev_get_bdevs", name === undefined ? {} : { name }),
			client.call("vhost_get_controllers", {}),
		]),
	);
	if (given.flag("json")) return printJson(bdevs);
	const owners = (bdev: string) =>
		controllers.flatMap((one) => usesOf(one, bdev)).join(" ");
	const columns = [
		{ title: "name" },
		{ title: "kind" },
		{ title: "size", right: true },
		{ title: "block size", right: true },
		{ title: "uuid" },
		{ title: "used by" },
	];
	const rows = bdevs.map((one) => [
		one.name,
		kindOf(one.product_name),
		formatSize(one.block_size * one.num_blocks),
		String(one.block_size),
		one.uuid,
		owners(one.name),
	]);
	printLine(await table(columns, rows));
}

type Controller = Result<"vhost_get_controllers">[number];

/** How a controller serves a bdev, if it does: `vm0`, or `vm0:TARGET:LUN`. */
function usesOf(controller: Controller, bdev: string): string[] {
	const { ctrlr, backend_specific: specific } = controller;
	if ("block" in specific) return specific.block.bdev === bdev ? [ctrlr] : [];
	return specific.scsi.flatMap(({ scsi_dev_num, luns }) =>
		luns
			.filter(({ bdev_name }) => bdev_name === bdev)
			.map(({ id }) => `${ctrlr}:${scsi_dev_num}:${id}`),
	);
}

async function remove(given: Given): Promise<void> {
	const [name = ""] = given.args;
	const done = await attached(given, async (client) => {
		const { product_name, driver_specific } = await find(client, name);
		const method = methodFor(product_name, "delete");
		const { split } = driver_specific as { split?: { base_bdev: string } };
		return client.call(
			method,
			split ? { base_bdev: split.base_bdev } : { name },
		);
	});
	if (given.flag("json")) printJson(done);
}

async function resize(given: Given): Promise<void> {
	const [name = "", size] = given.args;
	const done = await attached(given, async (client) => {
		const { product_name } = await find(client, name);
		const isFile = kindOf(product_name) === "file";
		if (Object.hasOwn(STACKED_KINDS, kindOf(product_name)))
			throw new UsageError(
				`${name} has the size that its base gives it: resize that`,
			);
		if (isFile && size !== undefined)
			throw new UsageError(
				`${name} is a file: resize the file, then run vhostctl bdev resize ${name}`,
			);
		return isFile
			? client.call(methodFor(product_name, "rescan"), { name })
			: client.call(methodFor(product_name, "resize"), {
					name,
					new_size: mebibytes(size),
				});
	});
	if (given.flag("json")) printJson(done);
}

/** The control socket takes new sizes in MiB, as SPDK's does. */
function mebibytes(size: string | undefined): number {
	if (size === undefined) throw new UsageError("the new size is missing");
	const bytes = parseSize(size, "the size");
	if (bytes === 0 || bytes % MIB !== 0)
		throw new UsageError(
			`the size is ${quoted(size)}: want a multiple of 1M to resize to`,
		);
	return bytes / MIB;
}

async function find(client: Client, name: string) {
	const [found] = await client.call("bdev_get_bdevs", { name });
	if (!found)
		throw new VhostctlError("E_NOT_FOUND", `there is no bdev ${name}`);
	return found;
}
