// SPDX-License-Identifier: MIT
/** A terminal taken over for a live screen, and given back however the program ends. */
import { writeSync } from "node:fs";
import process from "node:process";

export interface Screen {
	readonly columns: number;
	readonly rows: number;
	/** Shows lines from the top on; what does not fit is cut off. */
	draw(lines: readonly string[]): void;
	/** Gives the terminal back. Idempotent. */
	close(): void;
}

export interface ScreenHandlers {
	/** A key: a character, or the escape sequence of a key that has none. */
	key(key: string): void;
	/** The size has changed, or the screen is ours again: draw. */
	redraw(): void;
}

// Alternate screen; no cursor; lines that are too long are cut off instead of wrapped.
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const KEYS = /\p{Cc}(?:\[[\d;]*[A-Za-z~]|O[A-Z])|./gsu;
const CTRL_Z = "\x1a";
/** Of a terminal that does not tell its size. */
const DEFAULT_SIZE = [80, 24] as const;

/** Whether standard input and output are a terminal that a screen can be on. */
export function hasTerminal(): boolean {
	return process.stdin.isTTY === true && process.stdout.isTTY === true;
}

/** At once: the process may be about to end. A terminal that is gone needs nothing. */
function write(text: string): void {
	try {
		writeSync(1, text);
	} catch {
		// It hung up.
	}
}

function rawMode(on: boolean): void {
	try {
		process.stdin.setRawMode(on);
	} catch {
		// It hung up.
	}
}

/** Takes the terminal; see hasTerminal. ^C comes as a key then. */
export function openScreen(handlers: ScreenHandlers): Screen {
	let shown = false;
	const enter = () => {
		if (shown) return;
		shown = true;
		rawMode(true);
		write(ENTER);
	};
	const leave = () => {
		if (!shown) return;
		shown = false;
		write(LEAVE);
		rawMode(false);
	};
	/** As the shell's job control has it; we go on from here once we are in the foreground again. */
	const suspend = () => {
		leave();
		process.kill(process.pid, "SIGSTOP");
	};
	const resume = () => {
		enter();
		handlers.redraw();
	};
	const read = (chunk: string) => {
		for (const key of chunk.match(KEYS) ?? [])
			if (key === CTRL_Z) suspend();
			else handlers.key(key);
	};
	const { stdin, stdout } = process;
	const size = () => {
		const [columns, rows] = stdout.getWindowSize();
		return columns > 0 && rows > 0 ? [columns, rows] : DEFAULT_SIZE;
	};
	stdin.setEncoding("utf8").on("data", read);
	process.once("exit", leave);
	process.on("SIGTSTP", suspend);
	process.on("SIGCONT", resume);
	process.on("SIGWINCH", handlers.redraw);
	enter();
	return {
		get columns() {
			return size()[0] ?? DEFAULT_SIZE[0];
		},
		get rows() {
			return size()[1] ?? DEFAULT_SIZE[1];
		},
		draw(lines) {
			if (!shown) return;
			const body = lines.slice(0, this.rows).join(`${CLEAR_LINE}\r\n`);
			stdout.write(`${HOME}${body}${CLEAR_LINE}${CLEAR_BELOW}`);
		},
		close() {
			leave();
			stdin.off("data", read).pause();
			process.off("exit", leave);
			process.off("SIGTSTP", suspend);
			process.off("SIGCONT", resume);
			process.off("SIGWINCH", handlers.redraw);
		},
	};
}
