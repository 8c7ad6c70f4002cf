// SPDX-License-Identifier: MIT
/** A line that is written over in place, on a terminal only. */
import type { WriteStream } from "node:tty";
import type { PerfProgress } from "../engine/perf.ts";
import { formatRate, formatSize } from "./size.ts";

export interface ProgressLine {
	show(progress: PerfProgress): void;
	clear(): void;
}

const WIDTH = 30;

/** A bar of WIDTH cells, `fraction` of them full. */
export function bar(fraction: number): string {
	const full = Math.round(Math.min(1, Math.max(0, fraction)) * WIDTH);
	return "█".repeat(full) + "░".repeat(WIDTH - full);
}

/** The text for where a load stands, with its rates since `before`. */
export function progressText(
	now: PerfProgress,
	before: PerfProgress | undefined,
): string {
	const seconds = (now.elapsedNs - (before?.elapsedNs ?? 0)) / 1e9;
	const rate = (count: number) => (seconds > 0 ? count / seconds : 0);
	const iops = rate(now.ios - (before?.ios ?? 0));
	const bytes = rate(now.bytes - (before?.bytes ?? 0));
	const part = `${Math.floor(now.fraction * 100)}%`.padStart(4);
	const doing =
		now.phase === "verify"
			? "reading back"
			: `${formatRate(iops)} IOPS, ${formatSize(Math.round(bytes))}/s`;
	return `${bar(now.fraction)} ${part}  ${doing}`;
}

/** Shows progress on `stream`; does nothing where that is no terminal. */
export function progressLine(stream: WriteStream): ProgressLine {
	let before: PerfProgress | undefined;
	return {
		show(now) {
			if (!stream.isTTY) return;
			stream.write(`\r${progressText(now, before)}\x1b[K`);
			before = now;
		},
		clear() {
			if (before) stream.write("\r\x1b[K");
			before = undefined;
		},
	};
}
