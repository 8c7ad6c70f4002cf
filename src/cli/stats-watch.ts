// SPDX-License-Identifier: MIT
/** vhostctl stats --watch: readings once a second, on a live screen or as lines. */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, connect } from "../engine/control/client.ts";
import { hasTerminal, openScreen, type Screen } from "./screen.ts";
import { onSignal } from "./signals.ts";
import { History } from "./stats-history.ts";
import { type Snapshot, sinceLast } from "./stats-interval.ts";
import { curvesOf, type Rows, rowsOf } from "./stats-rows.ts";
import { render, SORTS, type View } from "./stats-view.ts";

const PERIOD_MS = 1000;
const PAGE = 10;

export interface WatchOptions {
	/** Of the control socket. */
	readonly path: string;
	/** Of the one controller or bdev to watch. */
	readonly name: string | undefined;
	/** A line of JSON for each reading, instead of a screen. */
	readonly json: boolean;
}

/** Shows readings until a signal, q, or the end of the instance: that throws E_CONNECT. */
export async function watch(options: WatchOptions): Promise<void> {
	const stopped = new AbortController();
	const ending = onSignal(["SIGHUP"]);
	void ending.asked.then(() => stopped.abort());
	const output = options.json
		? jsonLines()
		: hasTerminal()
			? liveScreen(() => stopped.abort())
			: plainText();
	try {
		await follow(options, stopped.signal, output.show);
	} finally {
		output.close();
		ending.release();
	}
}

interface Output {
	show(now: Snapshot, before: Snapshot | undefined): void;
	close(): void;
}

/** Takes a reading each second. An instance that hung up may have a successor at once. */
async function follow(
	{ path, name }: WatchOptions,
	stopped: AbortSignal,
	show: Output["show"],
): Promise<void> {
	const aborted = new Promise<undefined>((done) =>
		stopped.addEventListener("abort", () => done(undefined), { once: true }),
	);
	const read = (from: Client) =>
		Promise.race([
			from.call("vhostctl_get_stats", { name, histograms: true }),
			aborted,
		]);
	let client = await connect(path);
	let before: Snapshot | undefined;
	try {
		while (!stopped.aborted) {
			const now = await read(client).catch(async (error: unknown) => {
				client = await connect(path).catch(() => {
					throw error;
				});
				before = undefined;
				return read(client);
			});
			if (now === undefined) return;
			show(now, before);
			before = now;
			await sleep(PERIOD_MS, undefined, { signal: stopped }).catch(() => {});
		}
	} finally {
		client.close();
	}
}

function jsonLines(): Output {
	return {
		show: (now, before) => {
			process.stdout.write(`${JSON.stringify(sinceLast(now, before))}\n`);
		},
		close() {},
	};
}

function newView(): View {
	return { sort: "IOPS", reversed: false, scroll: 0, help: false };
}

/** For a file or a pipe: one screen after the other, as long as they get. */
function plainText(): Output {
	const history = new History();
	return {
		show(now, before) {
			const rows = rowsOf(now, before);
			if (before) history.add(curvesOf(rows));
			const size = { columns: 80, rows: undefined };
			const lines = render(rows, newView(), history, size);
			process.stdout.write(`${lines.join("\n")}\n\n`);
		},
		close() {},
	};
}

/** What a key does to the view. */
const MOVES: Readonly<Record<string, (view: View) => void>> = {
	r: (view) => {
		view.reversed = !view.reversed;
	},
	"?": (view) => {
		view.help = !view.help;
		view.scroll = 0;
	},
	"\x1b[A": scrolls(-1),
	"\x1b[B": scrolls(1),
	"\x1b[5~": scrolls(-PAGE),
	"\x1b[6~": scrolls(PAGE),
	"\x1b[H": scrolls(Number.NEGATIVE_INFINITY),
	"\x1b[C": sortsNext(1),
	"\x1b[D": sortsNext(-1),
	...Object.fromEntries(
		SORTS.map(([sort, letter]) => [
			letter,
			(view: View) => {
				view.sort = sort;
			},
		]),
	),
};

function scrolls(lines: number): (view: View) => void {
	return (view) => {
		view.scroll = Math.max(0, view.scroll + lines);
	};
}

function sortsNext(step: number): (view: View) => void {
	return (view) => {
		const at = SORTS.findIndex(([sort]) => sort === view.sort);
		const next = SORTS[(at + step + SORTS.length) % SORTS.length];
		if (next) view.sort = next[0];
	};
}

const QUIT = ["q", "Q", "\x03"];

function liveScreen(quit: () => void): Output {
	const view = newView();
	const history = new History();
	let rows: Rows | undefined;
	const draw = () => {
		if (rows) screen.draw(render(rows, view, history, screen));
	};
	const screen: Screen = openScreen({
		key(key) {
			if (QUIT.includes(key)) return quit();
			// Cursor keys of terminals in application mode.
			MOVES[key.replace("\x1bO", "\x1b[")]?.(view);
			draw();
		},
		redraw: draw,
	});
	return {
		show(now, before) {
			rows = rowsOf(now, before);
			if (before) history.add(curvesOf(rows));
			draw();
		},
		close: screen.close,
	};
}
