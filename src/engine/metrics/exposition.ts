// SPDX-License-Identifier: MIT
// Prometheus' text exposition format, version 0.0.4. Written here because our figures are totals
// already: the client libraries count themselves, by inc() and observe(), and take no histogram.

export type Labels = Readonly<Record<string, string | number>>;

/** A value with the labels that tell it from others of its family. */
export interface Sample {
	readonly labels: Labels;
	readonly value: number;
}

/** Requests by what they took, with labels as a sample's. */
export interface Distribution {
	readonly labels: Labels;
	/** How many took at most so many seconds, for each of BOUNDS. */
	readonly cumulative: readonly number[];
	/** How many there were, and what they took together. */
	readonly count: number;
	readonly sum: number;
}

/** Figures of one name. */
export type Family = {
	readonly name: string;
	readonly help: string;
} & (
	| { readonly type: "counter" | "gauge"; readonly samples: readonly Sample[] }
	| { readonly type: "histogram"; readonly samples: readonly Distribution[] }
);

/** Upper bounds of histograms, in ns: 1, 2 and 5 of each decade from 1 µs to 10 s. */
export const BOUNDS_NS: readonly number[] = [3, 4, 5, 6, 7, 8, 9]
	.flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power))
	.concat(10 ** 10);

/** What HTTP calls the format. */
export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

const escapeHelp = (text: string) =>
	text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
const escapeLabel = (text: string) =>
	escapeHelp(text).replaceAll('"', String.raw`\"`);

function line(name: string, labels: Labels, value: number): string {
	const pairs = Object.entries(labels).map(
		([key, text]) => `${key}="${escapeLabel(String(text))}"`,
	);
	return `${name}${pairs.length > 0 ? `{${pairs.join(",")}}` : ""} ${value}`;
}

function histogram(name: string, of: Distribution): string[] {
	const { labels, cumulative, count, sum } = of;
	const bucket = (le: string | number, value: number) =>
		line(`${name}_bucket`, { ...labels, le }, value);
	return [
		...BOUNDS_NS.map((bound, i) => bucket(bound / 1e9, cumulative[i] ?? 0)),
		bucket("+Inf", count),
		line(`${name}_sum`, labels, sum),
		line(`${name}_count`, labels, count),
	];
}

/** The families as text; one without samples is left out. */
export function expose(families: readonly Family[]): string {
	const lines = families
		.filter(({ samples }) => samples.length > 0)
		.flatMap((family) => {
			const { name, help, type } = family;
			const body =
				family.type === "histogram"
					? family.samples.flatMap((one) => histogram(name, one))
					: family.samples.map((one) => line(name, one.labels, one.value));
			return [
				`# HELP ${name} ${escapeHelp(help)}`,
				`# TYPE ${name} ${type}`,
				...body,
			];
		});
	return `${lines.join("\n")}\n`;
}
