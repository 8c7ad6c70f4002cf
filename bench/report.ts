// SPDX-License-Identifier: MIT
/** The tables. */
import Table from "cli-table3";
import kleur from "kleur";
import { type Goal, isMet, missedBy, type Results } from "./goals.ts";
import { FEATURES } from "./instructions.ts";
import { type Measurement, WORKLOADS } from "./workloads.ts";

export function formatCount(n: number): string {
	if (n >= 1e6) return `${(n / 1e6).toFixed(2)}M`;
	if (n >= 1e3) return `${(n / 1e3).toFixed(1)}k`;
	return n.toFixed(0);
}

export function formatTime(ns: number | undefined): string {
	if (ns === undefined) return "–";
	if (ns >= 1e6) return `${(ns / 1e6).toFixed(2)} ms`;
	if (ns >= 1e3) return `${(ns / 1e3).toFixed(1)} µs`;
	return `${ns.toFixed(0)} ns`;
}

function row(target: string, m: Measurement): string[] {
	return [
		target,
		formatCount(m.iops),
		m.bytesPerSecond > 0 ? `${(m.bytesPerSecond / 1e9).toFixed(2)} GB/s` : "–",
		formatTime(m.p50),
		formatTime(m.p99),
		formatTime(m.p999),
		formatTime(m.cpuPerIo),
	];
}

function head(...titles: string[]): string[] {
	return titles.map((title) => kleur.bold(title));
}

/** One block of rows for each workload, so that what is compared stands together. */
export function measurementTable({ measured }: Results): string {
	const table = new Table({
		head: head("", "IOPS", "rate", "p50", "p99", "p99.9", "CPU an I/O"),
		colAligns: ["left", "right", "right", "right", "right", "right", "right"],
		style: { head: [], border: [], compact: true },
	});
	for (const { name } of WORKLOADS) {
		table.push([{ content: kleur.cyan(name), colSpan: 7 }]);
		for (const [target, of] of measured) {
			const m = of.get(name);
			if (m) table.push(row(target, m));
		}
	}
	return table.toString();
}

/** What features cost that cost much: ratios of IOPS. */
export function pairTable({ pairs = [] }: Results): string {
	const table = new Table({
		head: head("4K randread 32", "", "IOPS", "least", "most"),
		colAligns: ["left", "left", "right", "right", "right"],
		style: { head: [], border: [], compact: true },
	});
	for (const { disk, contrast, ratio, least, most } of pairs)
		table.push([
			disk,
			contrast,
			...[ratio, least, most].map((value) => `${value.toFixed(2)}×`),
		]);
	return table.toString();
}

/** Instructions of the device a request, and what features add to them. */
export function instructionTable({ instructions }: Results): string {
	const titles = FEATURES.map((feature) => `+ ${feature}`);
	const table = new Table({
		head: head("instructions an I/O", "", ...titles),
		colAligns: ["left", ...Array(1 + FEATURES.length).fill("right")],
		style: { head: [], border: [], compact: true },
	});
	for (const [ring, counts] of Object.entries(instructions ?? {}))
		table.push([
			ring,
			counts.plain.toFixed(1),
			...FEATURES.map((name) => (counts[name] - counts.plain).toFixed(1)),
		]);
	return table.toString();
}

/** What coalescing spares and costs, by rate. */
export function coalescingTable({ coalesced = [] }: Results): string {
	const calls = ["calls a second", "by the rule", "calls an I/O"];
	const times = ["mean", "p50", "p99", "added"];
	const table = new Table({
		head: head("rate", "delay base", "threshold", "IOPS", ...calls, ...times),
		colAligns: Array(11).fill("right"),
		style: { head: [], border: [], compact: true },
	});
	for (const one of coalesced) {
		const off = one.delayBaseUs === 0;
		table.push([
			formatCount(one.rate),
			off ? "off" : `${one.delayBaseUs} µs`,
			off ? "" : formatCount(one.iopsThreshold),
			formatCount(one.ios),
			formatCount(one.calls),
			Number.isFinite(one.callsByRule) ? formatCount(one.callsByRule) : "any",
			(one.calls / one.ios).toFixed(3),
			...[one.mean, one.p50, one.p99].map(formatTime),
			off ? "" : formatTime(Math.max(0, one.added)),
		]);
	}
	return table.toString();
}

/** What is reached under limits. */
export function qosTable({ limited = [] }: Results): string {
	const table = new Table({
		head: head("limit", "reached", ""),
		colAligns: ["right", "right", "right"],
		style: { head: [], border: [], compact: true },
	});
	for (const { unit, limit, reached } of limited)
		table.push([
			`${limit} ${unit}`,
			reached.toFixed(1),
			`${((reached / limit) * 100).toFixed(2)}%`,
		]);
	return table.toString();
}

function verdict(goal: Goal): string {
	if (Number.isNaN(goal.value)) return kleur.yellow("not measured");
	if (isMet(goal)) return kleur.green("met");
	return kleur.red(`missed by ${missedBy(goal).toFixed(0)}%`);
}

export function goalTable(goals: readonly Goal[]): string {
	const table = new Table({
		head: head("", "is", "to be", ""),
		colAligns: ["left", "right", "right", "left"],
		style: { head: [], border: [], compact: true },
	});
	for (const goal of goals) {
		const figure = (value: number) =>
			`${value >= 20 ? value.toFixed(0) : value.toFixed(2)}${goal.unit}`;
		const sign = goal.sense === "at least" ? "≥" : "≤";
		table.push([
			goal.name,
			Number.isNaN(goal.value) ? "–" : figure(goal.value),
			`${sign} ${figure(goal.limit)}`,
			verdict(goal),
		]);
	}
	return table.toString();
}
