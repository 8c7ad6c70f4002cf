// SPDX-License-Identifier: MIT
import * as v from "valibot";
import { ERRORS } from "../errors.ts";
import type { Method } from "./schema/types.ts";
import { METHODS } from "./schema.ts";

const INTRO = `<!-- Made from src/engine/control/schema by \`npm run docs\`. -->
# Methods of the control socket

\`vhostctl serve\` listens on a Unix socket (\`-r\`) for JSON-RPC 2.0, with SPDK's methods, parameters and results where SPDK has the method.

- Only this user and root may connect. The socket has mode 0600.
- Requests follow each other with nothing, or white space, between them. Several may be under way; a response goes out when its request has ended, one to a line. \`id\` tells which is which.
- A batch, an array of at most 128 requests, is answered by one array.
- A request without \`id\` is carried out and not answered.
- A request has at most 1 MiB and 32 levels. Beyond that, and after JSON that is broken, the connection is closed with error -32700.
- \`"jsonrpc": "2.0"\` may be left out. Unknown parameters are refused.
- Sizes are in bytes, times in nanoseconds, unless a parameter says otherwise. Where SPDK gives ticks, a tick is 1 ns.

\`vhostctl rpc METHOD [PARAMETERS]\` calls any of them.

## Errors

\`error.message\` says what was wrong, with the parameter's name if one was. \`error.code\` and \`error.data.code\` are one of these; \`error.data.text\` is what SPDK says then:
`;

const WHEN = {
	startup: "Only before framework_start_init.",
	always: "Also before framework_start_init.",
	running: "",
};

function typeOf(schema: v.GenericSchema): string {
	const pipe = "pipe" in schema ? (schema.pipe as v.GenericSchema[]) : [];
	const inner = pipe[0];
	if (inner !== undefined && inner !== schema) return typeOf(inner);
	if ("wrapped" in schema) return typeOf(schema.wrapped as v.GenericSchema);
	if ("item" in schema)
		return `array of ${typeOf(schema.item as v.GenericSchema)}`;
	if ("options" in schema) return (schema.options as string[]).join(", ");
	if ("literal" in schema) return typeof schema.literal;
	return schema.type;
}

function describe(schema: v.GenericSchema): string {
	const own = v.getDescription(schema);
	if (own !== undefined) return own;
	return "wrapped" in schema ? describe(schema.wrapped as v.GenericSchema) : "";
}

/** The shape of a result, as TypeScript would write it. */
function outline(schema: v.GenericSchema, indent = ""): string {
	const deeper = `${indent}  `;
	if ("wrapped" in schema) {
		const inner = outline(schema.wrapped as v.GenericSchema, indent);
		return schema.type === "nullable" ? `${inner} | null` : inner;
	}
	if ("pipe" in schema) {
		const [inner] = schema.pipe as v.GenericSchema[];
		if (inner !== undefined && inner !== schema) return outline(inner, indent);
	}
	if ("entries" in schema) {
		const entries = Object.entries(
			schema.entries as Record<string, v.GenericSchema>,
		).map(([key, value]) => {
			const mark = value.type === "optional" ? "?" : "";
			return `${deeper}${key}${mark}: ${outline(value, deeper)}`;
		});
		return `{\n${entries.join("\n")}\n${indent}}`;
	}
	if ("item" in schema)
		return `${outline(schema.item as v.GenericSchema, indent)}[]`;
	if (schema.type === "union" && "options" in schema) {
		const options = schema.options as v.GenericSchema[];
		return options.map((option) => outline(option, indent)).join(" | ");
	}
	if (schema.type === "record" && "value" in schema) {
		return `{ [name]: ${outline(schema.value as v.GenericSchema, indent)} }`;
	}
	if ("literal" in schema) return String(schema.literal);
	return schema.type;
}

function parameterRow([name, schema]: [string, v.GenericSchema]): string {
	const required = schema.type === "optional" ? "" : "yes";
	return `| \`${name}\` | ${typeOf(schema)} | ${required} | ${describe(schema)} |`;
}

function section([name, method]: [string, Method]): string {
	const rows = Object.entries(method.params.entries).map(parameterRow);
	const parts = [
		`### ${name}`,
		[
			method.description,
			WHEN[method.when ?? "running"],
			method.own && "Not in SPDK.",
		]
			.filter(Boolean)
			.join(" "),
	];
	if (rows.length === 0) parts.push("No parameters.");
	else {
		parts.push(
			["| parameter | type | required | |", "|---|---|---|---|", ...rows].join(
				"\n",
			),
		);
	}
	if (method.example) {
		const example = JSON.stringify(method.example);
		parts.push(`\`\`\`sh\nvhostctl rpc ${name} '${example}'\n\`\`\``);
	}
	parts.push(`Result:\n\n\`\`\`ts\n${outline(method.result)}\n\`\`\``);
	return parts.join("\n\n");
}

/** What is the same for all of them is told once. */
function absentSection(entries: readonly [string, Method][]): string[] {
	const [, first] = entries[0] ?? [];
	if (!first) return [];
	const names = entries.map(([name]) => `\`${name}\``).join(", ");
	return ["## Methods without effect", first.description, names];
}

function errorTable(): string {
	const rows = Object.entries(ERRORS)
		.filter(([code]) => code !== "E_USAGE")
		.map(
			([code, { rpc, errno, text }]) =>
				`| ${rpc} | ${code} | ${errno} | ${text} |`,
		);
	return [
		"| code | data.code | errno | data.text |",
		"|---|---|---|---|",
		...rows,
	].join("\n");
}

/** docs/rpc.md. */
export function renderReference(): string {
	const all = Object.entries<Method>(METHODS);
	const isAbsent = ([, { params }]: [string, Method]) =>
		params.type === "loose_object";
	const parts = [
		`${INTRO}\n${errorTable()}`,
		"## Methods",
		...all.filter((entry) => !isAbsent(entry)).map(section),
		...absentSection(all.filter(isAbsent)),
	];
	return `${parts.join("\n\n")}\n`;
}
