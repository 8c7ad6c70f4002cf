// SPDX-License-Identifier: MIT
import { readFileSync } from "node:fs";
import { VhostctlError } from "./errors.ts";

const MAX_CPUS = 4096;

function malformed(text: string): VhostctlError {
	return new VhostctlError(
		"E_INVALID",
		`'${text}' is not a CPU mask: give hexadecimal bits (0x5) or a list ([0,2-3])`,
	);
}

function expandRange(range: string, whole: string): number[] {
	const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(range.trim());
	if (!match) throw malformed(whole);
	const first = Number(match[1]);
	const last = Number(match[2] ?? match[1]);
	if (last < first || last >= MAX_CPUS) throw malformed(whole);
	return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function expandBits(bits: string, whole: string): number[] {
	if (bits.length > MAX_CPUS / 4) throw malformed(whole);
	const cpus: number[] = [];
	for (let mask = BigInt(`0x${bits}`), cpu = 0; mask > 0n; mask >>= 1n, cpu++) {
		if (mask & 1n) cpus.push(cpu);
	}
	return cpus;
}

/** Reads a comma-separated list of processors and ranges, as in "0,2-3". */
export function parseCpuList(list: string, whole = list): number[] {
	const cpus = list.split(",").flatMap((range) => expandRange(range, whole));
	return [...new Set(cpus)].sort((a, b) => a - b);
}

/**
 * Reads a CPU mask in either of SPDK's forms: hexadecimal bits with or without
 * 0x, or a list in brackets. Returns the processors in ascending order, at
 * least one. Throws E_INVALID.
 */
export function parseCpumask(text: string): number[] {
	const list = /^\[(.+)\]$/.exec(text.trim());
	if (list?.[1] !== undefined) return parseCpuList(list[1], text);
	const bits = /^(?:0x)?([0-9a-f]+)$/i.exec(text.trim());
	const cpus = bits?.[1] === undefined ? [] : expandBits(bits[1], text);
	if (cpus.length === 0) throw malformed(text);
	return cpus;
}

/** Writes processors as hexadecimal bits without 0x, as SPDK does. */
export function formatCpumask(cpus: readonly number[]): string {
	return cpus
		.reduce((mask, cpu) => mask | (1n << BigInt(cpu)), 0n)
		.toString(16);
}

/** The processors that this process may run on. */
export function allowedCpus(): number[] {
	const status = readFileSync("/proc/self/status", "utf8");
	const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1];
	return list === undefined ? [0] : parseCpuList(list);
}
