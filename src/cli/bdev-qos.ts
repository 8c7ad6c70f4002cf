// SPDX-License-Identifier: MIT
/** vhostctl bdev qos: what the users of a block device may do in a second. */
import { VhostctlError } from "../engine/errors.ts";
import { attached } from "./attach.ts";
import {
	type Command,
	type Given,
	JSON_OUTPUT,
	RPC_SOCKET,
} from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson, printLine, table } from "./output.ts";
import { formatSize, parseCount, parseSize, quoted } from "./size.ts";

const MIB = 1024 * 1024;
const NONE = "none";

/** The control socket takes bandwidths in MiB, as SPDK's does. */
function parseBandwidth(text: string, name: string): number {
	const bytes = text === NONE ? 0 : parseSize(text, name);
	if (bytes % MIB === 0) return bytes / MIB;
	throw new UsageError(
		`${name} is ${quoted(text)}: want a multiple of 1M, or none`,
	);
}

function parseRate(text: string, name: string): number {
	return text === NONE ? 0 : parseCount(text, name, 0, 2 ** 50);
}

/** Options, what each is of the method, and how people read and write it. */
const LIMITS = [
	{
		option: "iops",
		parameter: "rw_ios_per_sec",
		parse: parseRate,
		format: (value: number) => String(value),
	},
	...(
		[
			["bandwidth", "rw_mbytes_per_sec"],
			["read-bandwidth", "r_mbytes_per_sec"],
			["write-bandwidth", "w_mbytes_per_sec"],
		] as const
	).map(([option, parameter]) => ({
		option,
		parameter,
		parse: parseBandwidth,
		format: (value: number) => `${formatSize(value * MIB)}/s`,
	})),
];

export const qos: Command = {
	usage: "qos <name>",
	summary:
		"Limit what all users of a block device may do in a second; show the limits",
	options: [
		{ usage: "--iops <n>", help: "Reads and writes; 0 or none: no limit" },
		{
			usage: "--bandwidth <size>",
			help: "Bytes read and written, as 100M; 0 or none: no limit",
		},
		{ usage: "--read-bandwidth <size>", help: "Bytes read" },
		{ usage: "--write-bandwidth <size>", help: "Bytes written" },
		RPC_SOCKET,
		JSON_OUTPUT,
	],
	example: "vhostctl bdev qos disk0 --iops 20000 --write-bandwidth 50M",
	run,
};

async function run(given: Given): Promise<void> {
	const [name = ""] = given.args;
	const limits = LIMITS.flatMap(({ option, parameter, parse }) => {
		const value = given.parsed(option, parse);
		return value === undefined ? [] : [[parameter, value] as const];
	});
	if (limits.length === 0) return show(given, name);
	const done = await attached(given, (client) =>
		client.call("bdev_set_qos_limit", {
			name,
			...Object.fromEntries(limits),
		}),
	);
	if (given.flag("json")) printJson(done);
}

async function show(given: Given, name: string): Promise<void> {
	const [found] = await attached(given, (client) =>
		client.call("bdev_get_bdevs", { name }),
	);
	if (!found) throw new VhostctlError("E_NOT_FOUND", `no bdev ${name}`);
	const limits = found.assigned_rate_limits;
	if (given.flag("json")) return printJson(limits);
	const rows = LIMITS.map(({ option, parameter, format }) => {
		const value = limits[parameter] ?? 0;
		return [option, value === 0 ? NONE : format(value)];
	});
	const columns = [{ title: "limit" }, { title: "a second", right: true }];
	printLine(await table(columns, rows));
}
