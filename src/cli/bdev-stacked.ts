// SPDX-License-Identifier: MIT
/** Kinds of bdev that stack on another, and what is done to an error bdev. */
import type { Params } from "../engine/control/schema.ts";
import { attached } from "./attach.ts";
import { as, identity, type Kind, type Translate } from "./bdev-settings.ts";
import {
	type Command,
	type Given,
	JSON_OUTPUT,
	RPC_SOCKET,
} from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson } from "./output.ts";
import {
	count,
	parseChoice,
	parseCount,
	parseMicroseconds,
	parseSize,
	quoted,
} from "./size.ts";

const MIB = 1024 * 1024;

/** One latency; what is rare takes as long as the rest unless it is said. */
const latency =
	(parameter: "read" | "write"): Translate =>
	(value, name, settings) => {
		const average = parseMicroseconds(value, name);
		const rare = settings.get(`${parameter}-p99`);
		return {
			[`avg_${parameter}_latency`]: average,
			[`p99_${parameter}_latency`]:
				rare === undefined
					? average
					: parseMicroseconds(rare, `${parameter}-p99`),
		};
	};

/** It has been read with the average. */
const rare =
	(parameter: "read" | "write"): Translate =>
	(_, name, settings) => {
		if (!settings.has(`${parameter}-latency`))
			throw new UsageError(`${name} goes with ${parameter}-latency`);
		return {};
	};

const NO_LATENCY = {
	avg_read_latency: 0,
	p99_read_latency: 0,
	avg_write_latency: 0,
	p99_write_latency: 0,
};

const partSize: Translate = (value, name) => {
	const bytes = parseSize(value, name);
	if (bytes === 0 || bytes % MIB !== 0)
		throw new UsageError(
			`${name} is ${quoted(value)}: want a multiple of 1M for a part`,
		);
	return { split_size_mb: bytes / MIB };
};

export const STACKED_KINDS: Readonly<Record<string, Kind>> = {
	delay: {
		method: "bdev_delay_create",
		required: ["name", "base"],
		settings: {
			name: (value) => ({ ...NO_LATENCY, name: value }),
			base: as("base_bdev_name"),
			"read-latency": latency("read"),
			"read-p99": rare("read"),
			"write-latency": latency("write"),
			"write-p99": rare("write"),
			...identity,
		},
		products: ["delay"],
		methods: () => "bdev_delay",
	},
	error: {
		method: "bdev_error_create",
		required: ["base"],
		settings: { base: as("base_name"), ...identity },
		products: ["Error Injection Disk"],
		methods: () => "bdev_error",
	},
	passthru: {
		method: "bdev_passthru_create",
		required: ["name", "base"],
		settings: { name: as("name"), base: as("base_bdev_name"), ...identity },
		products: ["passthru"],
		methods: () => "bdev_passthru",
	},
	split: {
		method: "bdev_split_create",
		required: ["base", "count"],
		settings: {
			base: as("base_bdev"),
			count: (value, name) => ({ split_count: parseCount(value, name, 1) }),
			size: partSize,
		},
		products: ["Split Disk"],
		methods: () => "bdev_split",
	},
};

/** Options of `bdev create` for these kinds. */
export const STACKED_OPTIONS = [
	{
		usage: "--base <name>",
		help: "delay, error, passthru, split: the bdev to stack on",
	},
	{
		usage: "--read-latency <time>",
		help: "delay: how long reads take, as 500us or 5ms (default: 0us)",
	},
	{
		usage: "--read-p99 <time>",
		help: "delay: how long one read in a hundred takes (default: as the others)",
	},
	{
		usage: "--write-latency <time>",
		help: "delay: how long writes take (default: 0us)",
	},
	{
		usage: "--write-p99 <time>",
		help: "delay: how long one write in a hundred takes (default: as the others)",
	},
	{ usage: "--count <n>", help: "split: number of parts" },
];

type Injection = Params<"bdev_error_inject_error">;

const OPERATIONS = [
	...(["read", "write", "unmap", "flush", "write_zeroes"] as const),
	...(["all", "clear"] as const),
];
const FAULTS = {
	failure: "failure",
	pending: "pending",
	corrupt: "corrupt_data",
	nomem: "nomem",
} as const;
type Fault = keyof typeof FAULTS;

/** Options that are whole numbers, with their parameters. */
const NUMBERS = {
	count: "num",
	"queue-depth": "queue_depth",
	lba: "lba",
	blocks: "num_blocks",
	seed: "seed",
	offset: "corrupt_offset",
	value: "corrupt_value",
} as const;

export const STACKED_COMMANDS: Command[] = [
	{
		usage: "inject <name> <operation> [fault]",
		summary:
			"Have an error bdev do something to requests: failure, pending, corrupt or nomem to read, write, unmap, flush, write_zeroes or all; clear ends it",
		options: [
			{ usage: "--count <n>", help: "How many requests (default: 1)" },
			{
				usage: "--queue-depth <n>",
				help: "Only while the base has so many requests (default: 0)",
			},
			{ usage: "--lba <n>", help: "Only requests that touch this block" },
			{
				usage: "--blocks <n>",
				help: "Or one of so many from --lba on (default: up to the end)",
			},
			{
				usage: "--probability <p>",
				help: "Only this share of the requests, above 0 up to 1 (default: 1)",
			},
			{
				usage: "--seed <n>",
				help: "Of the sequence that says which those are (default: 0)",
			},
			{
				usage: "--offset <n>",
				help: "corrupt: which byte of a request's data (default: 0)",
			},
			{
				usage: "--value <n>",
				help: "corrupt: what it is XORed with, 1 to 255 (default: 255)",
			},
			RPC_SOCKET,
			JSON_OUTPUT,
		],
		example: "vhostctl bdev inject EE_disk0 read failure --count 3",
		run: inject,
	},
	{
		usage: "resume <name>",
		summary: "Let requests that an error bdev keeps go on",
		options: [RPC_SOCKET, JSON_OUTPUT],
		example: "vhostctl bdev resume EE_disk0",
		run: resume,
	},
];

function probability(given: Given): { probability?: number } {
	const text = given.text("probability");
	if (text === undefined) return {};
	if (!/^(0?\.\d+|0|1|1\.0+|0\.\d+)$/.test(text))
		throw new UsageError(
			`--probability is ${quoted(text)}: want a number above 0 up to 1, as 0.25`,
		);
	return { probability: Number(text) };
}

async function inject(given: Given): Promise<void> {
	const [name = "", what = "", how] = given.args;
	const operation = parseChoice(what, "the operation", OPERATIONS);
	if (how === undefined && operation !== "clear")
		throw new UsageError(
			`the fault is missing: want ${Object.keys(FAULTS).join(", ")}`,
		);
	const faults = Object.keys(FAULTS) as Fault[];
	const fault = parseChoice(how ?? "failure", "the fault", faults);
	const params: Injection = {
		name,
		io_type: operation,
		error_type: FAULTS[fault],
		...(fault === "corrupt" ? { corrupt_value: 255 } : {}),
		...probability(given),
	};
	for (const [option, parameter] of Object.entries(NUMBERS)) {
		const text = given.text(option);
		if (text !== undefined)
			Object.assign(params, { [parameter]: count(0)(text, `--${option}`) });
	}
	const done = await attached(given, (client) =>
		client.call("bdev_error_inject_error", params),
	);
	if (given.flag("json")) printJson(done);
}

async function resume(given: Given): Promise<void> {
	const [name = ""] = given.args;
	const done = await attached(given, (client) =>
		client.call("bdev_error_resume_pending", { name }),
	);
	if (given.flag("json")) printJson(done);
}
