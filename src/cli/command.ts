// SPDX-License-Identifier: MIT
/** Commands as data, and running them through cac. */
import { type CAC, cac } from "cac";
import {
	canonical,
	firstArgument,
	isGiven,
	keyOf,
	type OptionShape,
	unmark,
} from "./argv.ts";
import { UsageError } from "./errors.ts";

export interface CommandOption {
	/** As shown: `-r, --rpc-socket <path>`, `--json`. */
	readonly usage: string;
	readonly help: string;
	readonly repeats?: boolean;
}

/** What a command's words said. Names are the long ones, with dashes. */
export interface Given {
	/** Arguments, in order; those left out are missing. */
	readonly args: readonly string[];
	flag(name: string): boolean;
	text(name: string): string | undefined;
	/** As text(), for an option that must be there. */
	required(name: string): string;
	/** What `parse` makes of an option's text and its `--name`; undefined if it was not given. */
	parsed<T>(
		name: string,
		parse: (text: string, name: string) => T,
	): T | undefined;
	list(name: string): string[];
}

export interface Command {
	/** Name and arguments, as shown: `create <name>`. Starts with an argument, or is empty, in a
	 * group that is one command. */
	readonly usage: string;
	readonly summary: string;
	readonly options: readonly CommandOption[];
	/** Shown by --help, without the `$`. */
	readonly example: string;
	run(given: Given): Promise<void>;
}

export interface Group {
	readonly name: string;
	readonly summary: string;
	readonly commands: readonly Command[];
}

/** Every command has these. */
export const COMMON: readonly CommandOption[] = [
	{ usage: "-h, --help", help: "Show this and exit" },
];

/** Commands that talk to a running instance have this. */
export const RPC_SOCKET: CommandOption = {
	usage: "-r, --rpc-socket <path>",
	help: "Control socket of the instance (default: $VHOSTCTL_SOCKET, or see vhostctl(1))",
};

export const JSON_OUTPUT: CommandOption = {
	usage: "--json",
	help: "Print JSON",
};

/** Runs `words`, what followed the group's name, as one of the group's commands. */
export async function runGroup(
	group: Group,
	words: readonly string[],
): Promise<void> {
	const single = group.commands.length === 1;
	const all = [
		...COMMON,
		...group.commands.flatMap((command) => command.options),
	];
	const command = single
		? group.commands[0]
		: choose(group, words, all.map(shape));
	const cli = build(group);
	if (!command) return cli.outputHelp();
	const shapes = [...COMMON, ...command.options].map(shape);
	const argv = ["", "", ...canonical(words, shapes, !single)];
	try {
		cli.parse(argv, { run: false });
		// Help was printed by parse(), and left no command to run.
		if (cli.matchedCommand) await cli.runMatchedCommand();
	} catch (error) {
		if (error instanceof Error && error.name === "CACError")
			throw new UsageError(plainly(error.message, group, command));
		throw error;
	}
}

/** The command that `words` name; none when only help is asked for. */
function choose(
	group: Group,
	words: readonly string[],
	shapes: readonly OptionShape[],
): Command | undefined {
	const name = firstArgument(words, shapes);
	const known = group.commands.map(nameOf);
	if (name === undefined) {
		if (words.includes("--help") || words.includes("-h")) return undefined;
		throw new UsageError(
			`vhostctl ${group.name} needs a command: ${known.join(", ")}`,
		);
	}
	const command = group.commands.find((one) => nameOf(one) === name);
	if (!command)
		throw new UsageError(`unknown command ${group.name} ${name}`, {
			given: name,
			known,
		});
	return command;
}

function build(group: Group): CAC {
	const cli = cac(`vhostctl ${group.name}`);
	cli.globalCommand.helpCallback = (sections) => tidy(sections, cli, group);
	cli.showHelpOnExit = true;
	for (const option of COMMON) cli.option(option.usage, option.help);
	cli.usage("<command> [options]");
	const [first] = group.commands;
	if (first) cli.example(`  $ ${first.example}`);
	for (const command of group.commands) {
		const made = cli.command(command.usage, command.summary);
		for (const option of command.options)
			made.option(option.usage, option.help);
		made.usage(`${command.usage} [options]`.trim());
		made.example(`  $ ${command.example}`);
		made.action((...values: unknown[]) =>
			command.run(given(group, command, values.slice(0, -1), cli.options)),
		);
	}
	return cli;
}

interface Section {
	title?: string;
	body: string;
}

/** cac's help with the summary in front, and without what a reader does not need. */
function tidy(sections: Section[], cli: CAC, group: Group): Section[] {
	const summary = cli.matchedCommand?.description ?? group.summary;
	const single = group.commands.length === 1;
	const unneeded = (title: string | undefined) =>
		title === undefined ||
		title.startsWith("For more info") ||
		(single && title === "Commands");
	return [
		{ body: summary },
		...sections
			.filter(({ title }) => !unneeded(title))
			.map((section) => ({
				...section,
				// Of --no-… options cac has a default to tell, that of what they turn off.
				body: section.body.replace(/(?: \(default: true\))?[ \t]*$/gm, ""),
			})),
	];
}

function given(
	group: Group,
	command: Command,
	args: readonly unknown[],
	options: CAC["options"],
): Given {
	const list = (name: string) => {
		const value: unknown = options[keyOf(name)];
		return isGiven(name, value) ? unmark(value) : [];
	};
	return {
		args: args.filter((arg) => arg !== undefined).flatMap(unmark),
		flag: (name) => list(name).length > 0,
		text: (name) => list(name)[0],
		list,
		parsed(name, parse) {
			const value = list(name)[0];
			return value === undefined ? undefined : parse(value, `--${name}`);
		},
		required(name) {
			const value = list(name)[0];
			if (value === undefined)
				throw new UsageError(`${titleOf(group, command)} needs --${name}`);
			return value;
		},
	};
}

/** cac's complaint about arguments in this program's words. */
function plainly(message: string, group: Group, command: Command): string {
	const usage = `vhostctl ${group.name} ${command.usage}`.trim();
	const unused = /^Unused args: (.*)$/.exec(message)?.[1];
	if (unused)
		return `too many arguments: ${unused.replaceAll("\0", "")}; usage: ${usage}`;
	if (message.startsWith("missing required args"))
		return `missing arguments; usage: ${usage}`;
	return message;
}

/** `bdev create`, or `serve` for a group that is one command. */
function titleOf(group: Group, command: Command): string {
	return `${group.name} ${nameOf(command)}`.trim();
}

function nameOf(command: Command): string {
	return /^[a-z-]+/.exec(command.usage)?.[0] ?? "";
}

function shape(option: CommandOption): OptionShape {
	return {
		names: option.usage
			.replace(/\s*[<[].*$/, "")
			.split(/,\s*/)
			.map((name) => name.replace(/^-+/, "")),
		takesValue: option.usage.includes("<"),
		repeats: option.repeats === true,
	};
}
