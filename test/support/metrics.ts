// SPDX-License-Identifier: MIT
// Reading metrics as a scraper does.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { type IncomingMessage, request } from "node:http";

export interface Reply {
	readonly status: number;
	readonly headers: IncomingMessage["headers"];
	readonly body: string;
}

/** One request, to a port of this host or a Unix socket. */
export function ask(
	at: { port: number } | { socketPath: string },
	path = "/metrics",
	method = "GET",
): Promise<Reply> {
	return new Promise((resolve, reject) => {
		const asked = request(
			{ host: "127.0.0.1", ...at, path, method, agent: false },
			(reply) => {
				let body = "";
				reply.setEncoding("utf8").on("data", (text: string) => {
					body += text;
				});
				reply.on("end", () =>
					resolve({
						status: reply.statusCode ?? 0,
						headers: reply.headers,
						body,
					}),
				);
			},
		);
		asked.on("error", reject).end();
	});
}

/** Fails unless promtool has nothing to say against an exposition. */
export function assertChecked(text: string): void {
	const { status, stderr, stdout } = spawnSync(
		"promtool",
		["check", "metrics"],
		{ input: text, encoding: "utf8" },
	);
	assert.equal(status, 0, `${stderr}${stdout}`);
	assert.equal(stderr + stdout, "");
}

/** Values by name with labels, as the exposition has them. */
export function samples(text: string): Map<string, number> {
	return new Map(
		text
			.split("\n")
			.filter((line) => line !== "" && !line.startsWith("#"))
			.map((line) => {
				const blank = line.lastIndexOf(" ");
				return [line.slice(0, blank), Number(line.slice(blank + 1))];
			}),
	);
}

export interface Described {
	readonly name: string;
	readonly type: string;
	readonly labels: string;
	readonly help: string;
}

/** The families of an exposition, with the labels of their first sample. */
export function describedIn(text: string): Described[] {
	return [
		...text.matchAll(
			/^# HELP (\S+) (.*)\n# TYPE \S+ (\w+)\n\S*?(?:\{(.*)\})? /gm,
		),
	].map(([, name = "", help = "", type = "", pairs = ""]) => ({
		name,
		type,
		help,
		labels: [...pairs.matchAll(/(\w+)="/g)]
			.map(([, label]) => label)
			.filter((label) => label !== "le")
			.join(", "),
	}));
}
