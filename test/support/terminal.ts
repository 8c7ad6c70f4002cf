// SPDX-License-Identifier: MIT
// vhostctl on a terminal of its own, by script(1).
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { vhostctl } from "./instance.ts";
import {
	makeTempDir,
	type Process,
	removeTempDir,
	startProcess,
	waitUntil,
	within,
} from "./processes.ts";

const PATIENCE_MS = 20_000;
export const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l";
export const LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l";

export interface Terminal {
	/** Of vhostctl. */
	readonly pid: number;
	/** All that was written to the terminal. */
	output(): string;
	type(keys: string): void;
	resize(rows: number, columns: number): void;
	/** The modes that the terminal is in, as stty -g has them; those from before vhostctl. */
	modes(): string;
	readonly modesBefore: string;
	/** The lines of the last whole frame, without escape sequences. */
	frame(): string[];
	/** Waits for text to be on the screen. */
	shows(pattern: RegExp): Promise<void>;
	/** Waits for the end of vhostctl; gives its exit code, as a shell has it. */
	ended(): Promise<number>;
	/** The terminal goes away. */
	hangUp(): Promise<void>;
}

function read(path: string): string {
	return existsSync(path) ? readFileSync(path, "utf8").trim() : "";
}

/** Runs vhostctl on a terminal of 24 lines of 80 columns while `work` is done. */
export async function onTerminal(
	args: readonly string[],
	work: (terminal: Terminal) => Promise<void>,
): Promise<void> {
	const dir = makeTempDir();
	const file = (name: string) => join(dir, name);
	const [command, words] = vhostctl(...args);
	const quoted = [command, ...words].map((word) => `'${word}'`).join(" ");
	const shell = [
		"stty rows 24 cols 80",
		`tty > ${file("tty")}`,
		`stty -g > ${file("before")}`,
		`bash -c 'echo $$ > ${file("pid")}; exec "$@"' - ${quoted}`,
		`echo $? > ${file("code")}.new`,
		`stty -g > ${file("after")}`,
		`mv ${file("code")}.new ${file("code")}`,
	].join("\n");
	const script: Process = startProcess("script", ["-qec", shell, "/dev/null"], {
		interactive: true,
	});
	let output = "";
	script.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
		output += text;
	});
	const stty = (...words: string[]) =>
		execFileSync("stty", ["-F", read(file("tty")), ...words], {
			encoding: "utf8",
		}).trim();
	try {
		await waitUntil(
			() => read(file("pid")) !== "" && output.includes(ENTER),
			PATIENCE_MS,
			() => `it takes the terminal\n${output}`,
		);
		const pid = Number(read(file("pid")));
		await work({
			pid,
			output: () => output,
			type: (keys) => void script.child.stdin?.write(keys),
			resize: (rows, columns) =>
				void stty("rows", `${rows}`, "cols", `${columns}`),
			modes: () => stty("-g"),
			modesBefore: read(file("before")),
			frame: () => lastFrame(output),
			shows: (pattern) =>
				waitUntil(
					() => pattern.test(lastFrame(output).join("\n")),
					PATIENCE_MS,
					() => `${pattern} on\n${lastFrame(output).join("\n")}`,
				),
			async ended() {
				await waitUntil(
					() => existsSync(file("code")),
					PATIENCE_MS,
					() => `it ends\n${output}`,
				);
				assert.equal(read(file("after")), read(file("before")), "modes");
				await within(script.exited, PATIENCE_MS, () => "script(1) ends");
				return Number(read(file("code")));
			},
			async hangUp() {
				await script.kill();
			},
		});
	} finally {
		await script.kill();
		removeTempDir(dir);
	}
}

/** What the last frame that is complete shows. */
function lastFrame(output: string): string[] {
	const frames = output.split("\x1b[H").slice(1);
	const whole = frames.filter((frame) => frame.includes("\x1b[J"));
	const [frame = ""] = (whole.at(-1) ?? "").split("\x1b[J");
	return (
		frame
			// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
			.replace(/\x1b\[[\d;?]*[A-Za-z]/g, "")
			.split(/\r*\n/)
	);
}

/** Fails unless the process ends. */
export function assertEnds(pid: number): Promise<void> {
	return waitUntil(
		() => {
			try {
				process.kill(pid, 0);
				return false;
			} catch {
				return true;
			}
		},
		PATIENCE_MS,
		() => `process ${pid} ends`,
	);
}
