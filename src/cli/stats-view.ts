// SPDX-License-Identifier: MIT
/** The live screen as lines of text. */
import kleur from "kleur";
import { formatNs, formatRate, formatSize } from "./size.ts";
import { sparkline } from "./sparkline.ts";
import { type History, LENGTH } from "./stats-history.ts";
import type { Activity } from "./stats-interval.ts";
import type { BdevRow, ReactorRow, RingRow, Rows } from "./stats-rows.ts";

/** What rows can be sorted by, with the key that does it. */
export const SORTS = [
	["name", "n"],
	["IOPS", "i"],
	["throughput", "t"],
	["latency", "l"],
	["depth", "d"],
] as const;
export type Sort = (typeof SORTS)[number][0];

export interface View {
	sort: Sort;
	reversed: boolean;
	/** Lines of the tables that are above the screen. */
	scroll: number;
	help: boolean;
}

interface Column<T> {
	readonly title: string;
	/** Characters; the names' and the curves' columns share what is left. */
	readonly width: number;
	/** Marked when rows are sorted by it. */
	readonly sort?: Sort;
	text(row: T): string;
}

const NAME_MIN = 12;
const NAME_MAX = 40;
const CURVE_MIN = 6;

/** In so many characters, with an ellipsis for what is cut off. */
function fit(text: string, width: number, right = false): string {
	const letters = [...text];
	if (letters.length > width)
		return `${letters.slice(0, Math.max(0, width - 1)).join("")}…`;
	const blank = " ".repeat(width - letters.length);
	return right ? blank + text : text + blank;
}

const rate = (value: number) => (value === 0 ? "-" : formatRate(value));
const bytes = (value: number) =>
	value === 0 ? "-" : `${formatSize(Math.round(value))}/s`;
const time = (ns: number) => (ns === 0 ? "-" : formatNs(ns));
const percent = (share: number) => `${(share * 100).toFixed(1)}%`;
/** Requests in flight; a tenth tells a busy disk from an idle one. */
const depth = (value: number) =>
	value === 0 ? "-" : value < 100 ? value.toFixed(1) : value.toFixed(0);

const REACTOR_COLUMNS: readonly Column<ReactorRow>[] = [
	{ title: "CPU", width: 4, text: ({ reactor }) => String(reactor.cpu) },
	{ title: "MODE", width: 9, text: ({ reactor }) => reactor.mode },
	{ title: "BUSY", width: 6, text: ({ busy }) => percent(busy) },
	{ title: "ASLEEP", width: 6, text: ({ asleep }) => percent(asleep) },
	{ title: "RINGS", width: 5, text: ({ reactor }) => String(reactor.rings) },
	{ title: "POLLED", width: 6, text: ({ reactor }) => String(reactor.polled) },
];

const IOPS: Column<Activity> = {
	title: "IOPS",
	width: 6,
	sort: "IOPS",
	text: ({ iops }) => rate(iops),
};
const P99: Column<Activity> = {
	title: "P99",
	width: 8,
	sort: "latency",
	text: ({ p99Ns }) => time(p99Ns),
};
const DEPTH: Column<Activity> = {
	title: "DEPTH",
	width: 5,
	sort: "depth",
	text: (row) => depth(row.depth),
};

const BDEV_COLUMNS: readonly Column<BdevRow>[] = [
	IOPS,
	{
		title: "READ",
		width: 11,
		sort: "throughput",
		text: ({ reading }) => bytes(reading),
	},
	{ title: "WRITE", width: 11, text: ({ writing }) => bytes(writing) },
	{ title: "P50", width: 8, text: ({ p50Ns }) => time(p50Ns) },
	P99,
	DEPTH,
];

const RING_COLUMNS: readonly Column<RingRow>[] = [
	{
		title: "ON",
		width: 3,
		text: ({ reactor }) => (reactor === undefined ? "" : String(reactor)),
	},
	IOPS,
	{
		title: "THROUGHPUT",
		width: 11,
		sort: "throughput",
		text: ({ throughput }) => bytes(throughput),
	},
	P99,
	DEPTH,
	{ title: "KICK/s", width: 6, text: ({ kicks }) => rate(kicks) },
	{ title: "CALL/s", width: 6, text: ({ calls }) => rate(calls) },
];

/** Only where there are any: it is at the cost of names and curves. */
const DELAYED: Column<RingRow> = {
	title: "LATE/s",
	width: 6,
	text: ({ delayed }) => rate(delayed),
};

interface Section<T> {
	readonly title: string;
	readonly columns: readonly Column<T>[];
	readonly rows: readonly T[];
	name(row: T): string;
	curve(row: T, width: number): string;
}

function sectionLines<T>(
	section: Section<T>,
	view: View,
	width: number,
): string[] {
	const { title, columns, rows } = section;
	if (rows.length === 0) return [];
	const fixed = columns.reduce((sum, column) => sum + column.width + 1, 0);
	const longest = Math.max(...rows.map((row) => [...section.name(row)].length));
	const left = width - fixed - 1;
	const nameWidth = Math.max(
		NAME_MIN,
		Math.min(longest, NAME_MAX, left - CURVE_MIN),
	);
	const curveWidth = Math.min(LENGTH, left - nameWidth);
	const mark = (column: Column<T>) =>
		column.sort === view.sort ? `▾${column.title}` : column.title;
	const head = [
		fit(view.sort === "name" ? `▾${title}` : title, nameWidth),
		...columns.map((column) => fit(mark(column), column.width, true)),
	].join(" ");
	const body = rows.map((row) =>
		[
			fit(section.name(row), nameWidth),
			...columns.map((column) => fit(column.text(row), column.width, true)),
			...(curveWidth > 0 ? [section.curve(row, curveWidth)] : []),
		].join(" "),
	);
	const cut = (line: string) => [...line].slice(0, width).join("").trimEnd();
	return [kleur.bold(fit(head, width).trimEnd()), ...body.map(cut), ""];
}

/** The greatest first; names from A on. */
function order(view: View) {
	const sign = view.reversed ? -1 : 1;
	const value = (row: Activity): number => {
		if (view.sort === "throughput") return row.throughput;
		if (view.sort === "latency") return row.p99Ns;
		return view.sort === "depth" ? row.depth : row.iops;
	};
	return <T extends Activity & { name: string }>(rows: readonly T[]): T[] =>
		rows.toSorted((a, b) => {
			const byName = a.name.localeCompare(b.name, "en", { numeric: true });
			const by = view.sort === "name" ? 0 : value(b) - value(a);
			return sign * (by || byName);
		});
}

function tables(
	rows: Rows,
	view: View,
	history: History,
	width: number,
): string[] {
	const sorted = order(view);
	const curve = ({ key }: { key: string }, columns: number) =>
		sparkline(history.of(key), columns, LENGTH);
	const controllers = sorted(rows.controllers).flatMap((controller) => [
		controller,
		// In their order: alike as they are, they would change places all the time.
		...controller.rings.map((ring) => ({ ...ring, name: `  ${ring.name}` })),
	]);
	return [
		...sectionLines<ReactorRow>(
			{
				title: "REACTOR",
				columns: REACTOR_COLUMNS,
				rows: rows.reactors,
				name: ({ reactor }) => String(reactor.id),
				curve: ({ key }, columns) =>
					sparkline(history.of(key), columns, LENGTH, 1),
			},
			{ ...view, sort: "IOPS" },
			width,
		),
		...sectionLines<BdevRow>(
			{
				title: "BDEV",
				columns: BDEV_COLUMNS,
				rows: sorted(rows.bdevs),
				name: ({ name }) => name,
				curve,
			},
			view,
			width,
		),
		...sectionLines<RingRow>(
			{
				title: "CONTROLLER, RING",
				columns: rows.coalesced ? [...RING_COLUMNS, DELAYED] : RING_COLUMNS,
				rows: controllers,
				name: ({ name }) => name,
				curve,
			},
			view,
			width,
		),
	];
}

const HELP = [
	"  n i t l d   sort by name, IOPS, throughput, latency (p99), depth",
	"  left right  the next of these       r  reverse",
	"  up down, page up and down, home     scroll",
	"  ?           this help               q  quit",
	"",
	"Figures are of the last second. DEPTH is how many requests were in flight,",
	"on average. P99 is what 99% of the requests did not exceed, from when they",
	"were found until their end could be seen. ON is a ring's reactor. Curves",
	"are of the last minute: the busy share of reactors, IOPS of the rest.",
	"LATE/s, where there are any: calls that coalescing put off.",
];

function uptime(ns: number): string {
	const seconds = Math.floor(ns / 1e9);
	const two = (value: number) => String(value).padStart(2, "0");
	const days = Math.floor(seconds / 86_400);
	const clock = [seconds / 3600, seconds / 60, seconds]
		.map((value, i) => Math.floor(value) % (i === 0 ? 24 : 60))
		.map(two)
		.join(":");
	return days > 0 ? `${days}d ${clock}` : clock;
}

function header({ total, uptimeNs }: Rows, width: number): string {
	const text = [
		`up ${uptime(uptimeNs)}`,
		`${formatRate(total.iops)} IOPS`,
		`${formatSize(Math.round(total.throughput))}/s`,
		`p99 ${time(total.p99Ns)}`,
		`p99.9 ${time(total.p999Ns)}`,
		`${total.errors} errors`,
	].join("  ");
	return kleur.inverse(fit(text, width));
}

function footer(view: View, width: number, below: number): string {
	const direction = view.reversed ? ", reversed" : "";
	const more = below > 0 ? `  ${below} more below` : "";
	const text = `sorted by ${view.sort}${direction}${more}  ? help  q quit`;
	return kleur.dim(fit(text, width).trimEnd());
}

export interface Size {
	readonly columns: number;
	/** How many lines there may be; undefined: as many as it takes, without a footer. */
	readonly rows: number | undefined;
}

/** All lines of the screen. Corrects view.scroll where it is beyond the end. */
export function render(
	rows: Rows,
	view: View,
	history: History,
	{ columns, rows: height }: Size,
): string[] {
	const top = header(rows, columns);
	const body = view.help ? HELP : tables(rows, view, history, columns);
	const lines = body.at(-1) === "" ? body.slice(0, -1) : body;
	if (height === undefined) return [top, ...lines];
	const room = Math.max(0, height - 2);
	view.scroll = Math.max(0, Math.min(view.scroll, lines.length - room));
	const shown = lines.slice(view.scroll, view.scroll + room);
	const below = lines.length - view.scroll - shown.length;
	const filled = [...shown, ...Array(room - shown.length).fill("")];
	return [top, ...filled, footer(view, columns, below)].slice(0, height);
}
