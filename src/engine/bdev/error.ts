// SPDX-License-Identifier: MIT
import {
	native,
	OP_FLUSH,
	OP_READ,
	OP_UNMAP,
	OP_WRITE,
	OP_WRITE_ZEROES,
} from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import type { Bdev } from "./bdev.ts";
import { createStackedBackend } from "./stacked.ts";

const OPERATIONS = {
	read: OP_READ,
	write: OP_WRITE,
	unmap: OP_UNMAP,
	flush: OP_FLUSH,
	write_zeroes: OP_WRITE_ZEROES,
} as const;
export type Operation = keyof typeof OPERATIONS;
export const ERROR_OPERATIONS = Object.keys(OPERATIONS) as readonly Operation[];

/** enum vhc_error_kind. */
const KINDS = { failure: 1, pending: 2, corrupt_data: 3, nomem: 4 } as const;
export type ErrorKind = keyof typeof KINDS;

/** What an error bdev is to do to the next requests of an operation: struct vhc_error_rule. */
export interface ErrorRule {
	readonly kind: ErrorKind;
	/** How many requests. */
	readonly num: number;
	/** Only while the base has so many of a reactor's. Default: 0. */
	readonly queueDepth?: number | undefined;
	/** Blocks of which it touches any; without numBlocks, to the end. Default: all. */
	readonly lba?: number | undefined;
	readonly numBlocks?: number | undefined;
	/** From 0, exclusive, to 1. Default: 1. */
	readonly probability?: number | undefined;
	/** Which requests it hits, if not all. Default: 0. */
	readonly seed?: number | undefined;
	/** corrupt_data: byte of the data, and what it is XORed with, 1 to 255. */
	readonly corruptOffset?: number | undefined;
	readonly corruptValue?: number | undefined;
}

export interface ErrorBackend extends Backend {
	readonly kind: "error";
	/** In place of the rules before of these operations; num 0 ends them. Throws E_INVALID. */
	inject(operations: readonly Operation[], rule: ErrorRule): void;
	/** Ends all rules. */
	clear(): void;
	/** Ends pending rules, and has what hangs go on. */
	resume(): void;
	/** Requests that hang. */
	hanging(): number;
	/** The rules that are still for some requests, so many in `num`. */
	rules(): [Operation, ErrorRule][];
}

export function isError(backend: Backend): backend is ErrorBackend {
	return backend.kind === "error";
}

/** Of 2^32; 0: always. */
function chanceOf(probability: number): number {
	if (!(probability > 0 && probability <= 1))
		throw new VhostctlError(
			"E_INVALID",
			`probability ${probability}: must be more than 0, up to 1`,
		);
	const chance = Math.max(1, Math.round(probability * 2 ** 32));
	return chance >= 2 ** 32 ? 0 : chance;
}

/** The bytes that a rule is for; length 0: all. */
function rangeOf(rule: ErrorRule, { blockSize, numBlocks }: Backend) {
	if (rule.lba === undefined && rule.numBlocks === undefined)
		return { offset: 0n, len: 0n };
	const first = rule.lba ?? 0;
	const count = rule.numBlocks ?? numBlocks - first;
	if (count < 1 || first >= numBlocks)
		throw new VhostctlError(
			"E_INVALID",
			`blocks from ${first} on: the bdev has ${numBlocks}`,
		);
	return {
		offset: BigInt(first) * BigInt(blockSize),
		len: BigInt(count) * BigInt(blockSize),
	};
}

function encodeRule(rule: ErrorRule, backend: Backend) {
	const corrupts = rule.kind === "corrupt_data";
	const value = rule.corruptValue ?? 0;
	if (corrupts && (value < 1 || value > 255))
		throw new VhostctlError(
			"E_INVALID",
			`corrupt_value ${value}: must be 1 to 255, as 0 changes nothing`,
		);
	return {
		kind: rule.num > 0 ? KINDS[rule.kind] : 0,
		num: rule.num,
		queue_depth: BigInt(rule.queueDepth ?? 0),
		...rangeOf(rule, backend),
		chance: chanceOf(rule.probability ?? 1),
		seed: BigInt(rule.seed ?? 0),
		corrupt_offset: BigInt(rule.corruptOffset ?? 0),
		corrupt_value: corrupts ? value : 0,
	};
}

/** A rule as bdev_get_bdevs shows it, and bdev_error_inject_error takes it. */
export function showRule(operation: Operation, rule: ErrorRule) {
	return {
		io_type: operation,
		error_type: rule.kind,
		num: rule.num,
		queue_depth: rule.queueDepth,
		lba: rule.lba,
		num_blocks: rule.numBlocks,
		probability: rule.probability,
		seed: rule.seed,
		corrupt_offset: rule.corruptOffset,
		corrupt_value: rule.corruptValue,
	};
}

/** Makes a bdev that does to requests what rules say. Throws E_NO_MEMORY. */
export function createErrorBackend(
	base: Bdev,
	reactors: readonly number[],
): ErrorBackend {
	const rules = new Map<Operation, ErrorRule>();
	const left = (operation: Operation) =>
		native.bdevErrorLeft(backend.handle, OPERATIONS[operation]);
	const live = () =>
		[...rules]
			.map(([operation, rule]): [Operation, ErrorRule] => [
				operation,
				{ ...rule, num: left(operation) },
			])
			.filter(([, { num }]) => num > 0);
	const backend = createStackedBackend({
		productName: "Error Injection Disk",
		made: { kind: "error" },
		base,
		reactors,
		create: (handle) => native.bdevErrorCreate(handle),
		describe: () => ({
			error_disk: {
				base_bdev: base.name,
				rules: live().map(([operation, rule]) => showRule(operation, rule)),
				pending: native.bdevErrorHanging(backend.handle),
			},
		}),
	});
	const inject = (operations: readonly Operation[], rule: ErrorRule) => {
		const encoded = encodeRule(rule, backend);
		const bits = operations.reduce(
			(sum, name) => sum | (1 << OPERATIONS[name]),
			0,
		);
		native.bdevErrorInject(backend.handle, bits, encoded);
		for (const operation of operations) rules.set(operation, rule);
	};
	return Object.assign(backend, {
		kind: "error" as const,
		inject,
		clear: () => inject(ERROR_OPERATIONS, { kind: "failure", num: 0 }),
		resume: () => void native.bdevErrorResume(backend.handle),
		rules: live,
		hanging: () => native.bdevErrorHanging(backend.handle),
	});
}
