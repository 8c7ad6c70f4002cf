// SPDX-License-Identifier: MIT
// SANITIZE (SBC-3 4.11 and 5.24): overwrite and block erase, behind the command or within it.
import { Buffer } from "node:buffer";
import { type Chunk, chunks, flush, repeated } from "./blocks.ts";
import { readParameterList } from "./buffers.ts";
import type { BackgroundWork, LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { notReady, writeProtected } from "./readiness.ts";
import {
	ASC,
	illegalRequest,
	invalidCdbField,
	invalidParameter,
	SENSE_KEY,
	type Sense,
	SenseError,
} from "./sense.ts";
import { type Command, GOOD, type Medium, type Outcome } from "./task.ts";

const IMMED = 0x80;
const AUSE = 0x20;
const PARAMETER_LIST_LENGTH = 7;

interface Fields {
	readonly immediate: boolean;
	/** AUSE: EXIT FAILURE MODE may end the failure of this operation. */
	readonly unrestricted: boolean;
	readonly listLength: number;
}

/** What is done with each part of the medium, once in a pass. */
type Pass = (chunk: Chunk) => Promise<void>;

/** A sanitize operation that goes on, or that failed. */
interface Sanitizing extends BackgroundWork {
	readonly unrestricted: boolean;
	failed: boolean;
	/** Resolves when it goes on no longer; never rejects. */
	readonly done: Promise<void>;
}

/** The operation that is the background work of a logical unit. */
const operations = new WeakMap<BackgroundWork, Sanitizing>();

const FAILED: Sense = {
	key: SENSE_KEY.MEDIUM_ERROR,
	asc: ASC.SANITIZE_COMMAND_FAILED,
};

function parse(cdb: Buffer): Fields {
	const flags = cdb.readUInt8(1);
	return {
		immediate: (flags & IMMED) !== 0,
		unrestricted: (flags & AUSE) !== 0,
		listLength: cdb.readUInt16BE(PARAMETER_LIST_LENGTH),
	};
}

/** The last operation, if it failed. Throws SenseError if one goes on. */
function failure(lu: LogicalUnit): Sanitizing | undefined {
	const last = lu.background && operations.get(lu.background);
	if (last?.failed) return last;
	if (lu.background) throw new SenseError(lu.background.sense());
	return undefined;
}

/** Throws SenseError if no new operation may begin. */
function checkStart(lu: LogicalUnit, { unrestricted }: Fields): void {
	const failed = failure(lu);
	// A restricted failure is not to be left by way of an unrestricted one (SBC-3 4.11.1).
	if (failed && !failed.unrestricted && unrestricted)
		throw invalidCdbField(1, 5);
	const sense = (failed ? undefined : notReady(lu)) ?? writeProtected(lu);
	if (sense) throw new SenseError(sense);
}

function refuseList({ listLength }: Fields): void {
	if (listLength !== 0) throw invalidCdbField(PARAMETER_LIST_LENGTH);
}

/** Resolves when the operation has ended, or at once when the command is aborted: it goes on then. */
async function ended(done: Promise<void>, signal: AbortSignal): Promise<void> {
	const aborted = new Promise<void>((resolve) => {
		if (signal.aborted) resolve();
		else signal.addEventListener("abort", () => resolve(), { once: true });
	});
	await Promise.race([done, aborted]);
}

async function sanitize(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
	passes: readonly Pass[],
): Promise<Outcome> {
	const work = start(lu, fields, passes);
	if (fields.immediate) return GOOD;
	await ended(work.done, command.signal);
	if (work.failed) throw new SenseError(FAILED);
	return GOOD;
}

function start(
	lu: LogicalUnit,
	{ unrestricted }: Fields,
	passes: readonly Pass[],
): Sanitizing {
	let cancelled = false;
	let progress = 0;
	const run = async () => {
		try {
			for await (const done of passOver(lu.medium, passes)) {
				if (cancelled) throw new Error("the logical unit goes away");
				progress = done;
			}
			lu.background = undefined;
		} catch {
			// Whatever it was: what is left on the medium must not be read (SBC-3 4.11.4).
			work.failed = true;
			lu.host.changed();
		}
	};
	let finished = () => {};
	const work: Sanitizing = {
		unrestricted,
		failed: false,
		done: new Promise((resolve) => {
			finished = resolve;
		}),
		sense: () =>
			work.failed
				? FAILED
				: {
						key: SENSE_KEY.NOT_READY,
						asc: ASC.SANITIZE_IN_PROGRESS,
						progress,
					},
		async cancel() {
			cancelled = true;
			await work.done;
		},
	};
	operations.set(work, work);
	// From here on all other commands are refused; those in progress end between two chunks.
	lu.background = work;
	run().then(finished);
	return work;
}

/** Does the passes; yields how far it is, from 0 to 1, after each chunk. */
async function* passOver(
	medium: Medium,
	passes: readonly Pass[],
): AsyncGenerator<number> {
	// Lets end what was begun before: nothing may be written behind our back.
	await medium.exclusive(async () => undefined);
	for (const [index, pass] of passes.entries()) {
		for (const chunk of chunks(medium, 0, medium.numBlocks)) {
			await pass(chunk);
			const part = (chunk.lba + chunk.blocks) / medium.numBlocks;
			yield (index + part) / passes.length;
		}
		await flush(medium);
	}
}

const LIST_HEADER = 4;
const INVERT = 0x80;

/** One pass that writes a pattern to all blocks. */
function overwritePass(medium: Medium, pattern: Buffer): Pass {
	const most = Math.min(medium.maxBlocks, medium.numBlocks);
	let copies: Buffer | undefined;
	return ({ lba, length }) => {
		copies ??= repeated(medium, pattern, most);
		return medium.write(lba, copies.subarray(0, length), false);
	};
}

/** The patterns of all passes, in order; inverted ones alternate so that the last is as given. */
function overwritePatterns(list: Buffer, blockSize: number): Buffer[] {
	const [flags = 0, reserved] = list;
	const count = flags & 0x1f;
	const length = list.readUInt16BE(2);
	if (flags & 0x60) throw invalidParameter(0, 6);
	if (count === 0) throw invalidParameter(0, 4);
	if (reserved) throw invalidParameter(1);
	if (length === 0 || length > blockSize) throw invalidParameter(2);
	if (LIST_HEADER + length > list.length)
		throw illegalRequest(ASC.PARAMETER_LIST_LENGTH_ERROR);
	const pattern = list.subarray(LIST_HEADER, LIST_HEADER + length);
	const inverted = Buffer.from(pattern.map((byte) => ~byte));
	return Array.from({ length: count }, (_, index) => {
		const plain = !(flags & INVERT) || (count - index) % 2 === 1;
		return plain ? pattern : inverted;
	});
}

async function overwrite(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	const { listLength } = fields;
	checkStart(lu, fields);
	if (listLength <= LIST_HEADER || listLength > LIST_HEADER + medium.blockSize)
		throw invalidCdbField(PARAMETER_LIST_LENGTH);
	const list = readParameterList(command, listLength);
	const patterns = overwritePatterns(list, medium.blockSize);
	const passes = patterns.map((pattern) => overwritePass(medium, pattern));
	return sanitize(lu, command, fields, passes);
}

async function blockErase(
	lu: LogicalUnit,
	command: Command,
	fields: Fields,
): Promise<Outcome> {
	const { medium } = lu;
	if (!medium.supports.unmap) throw invalidCdbField(1, 4);
	refuseList(fields);
	checkStart(lu, fields);
	const erase: Pass = ({ lba, blocks }) => medium.unmap(lba, blocks);
	return sanitize(lu, command, fields, [erase]);
}

/** Gives access to the medium again after a failure, whatever is on it. */
function exitFailureMode(
	lu: LogicalUnit,
	_command: Command,
	fields: Fields,
): Outcome {
	refuseList(fields);
	const failed = failure(lu);
	if (failed && !failed.unrestricted) throw invalidCdbField(1, 4);
	if (failed) lu.background = undefined;
	return GOOD;
}

interface Method {
	readonly action: number;
	readonly name: string;
	readonly execute: (
		lu: LogicalUnit,
		command: Command,
		fields: Fields,
	) => Outcome | Promise<Outcome>;
	readonly supported: (medium: Medium) => boolean;
}

const always = (): boolean => true;
const ifUnmapping = ({ supports }: Medium): boolean => supports.unmap;

const METHODS: readonly Method[] = [
	{
		action: 0x01,
		name: "OVERWRITE",
		execute: overwrite,
		supported: always,
	},
	{
		action: 0x02,
		name: "BLOCK ERASE",
		execute: blockErase,
		supported: ifUnmapping,
	},
	{
		action: 0x1f,
		name: "EXIT FAILURE MODE",
		execute: exitFailureMode,
		supported: always,
	},
];

export const sanitizeOperations: readonly Operation[] = METHODS.map(
	({ action, name, execute, supported }) =>
		operation({
			opcode: 0x48,
			serviceAction: action,
			name: `SANITIZE, ${name}`,
			reference: "SBC-3 5.24",
			usage: [0x48, IMMED | AUSE | action, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
			// It is what leads out of a failure, so it looks at readiness itself.
			access: "none",
			reservation: "write",
			// No time is recommended: it takes as long as the medium is large.
			timeout: 0,
			supported,
			parse,
			execute,
		}),
);
