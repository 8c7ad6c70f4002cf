// SPDX-License-Identifier: MIT
/** The terminal's alternate screen, and giving the terminal back however the program ends. */
import process from "node:process";
import type { WriteStream } from "node:tty";

export interface Screen {
	/** Replaces what is shown. */
	show(text: string): void;
	restore(): void;
}

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

/** Takes the whole terminal; where `stream` is none, texts follow one another. */
export function fullScreen(stream: WriteStream): Screen {
	if (!stream.isTTY)
		return {
			show: (text) => void stream.write(`${text}\n\n`),
			restore: () => {},
		};
	let entered = true;
	const restore = () => {
		if (entered) stream.write(LEAVE);
		entered = false;
	};
	stream.write(ENTER);
	process.once("exit", restore);
	return {
		show(text) {
			// A terminal that does not tell its size says 0.
			const lines = text.split("\n").slice(0, stream.rows || undefined);
			const body = lines.join(`${CLEAR_LINE}\r\n`);
			stream.write(`${HOME}${body}${CLEAR_LINE}${CLEAR_BELOW}`);
		},
		restore() {
			restore();
			process.off("exit", restore);
		},
	};
}
