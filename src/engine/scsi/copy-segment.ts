// SPDX-License-Identifier: MIT
// One block device to block device segment of EXTENDED COPY (SPC-4 6.4.6.3).
import { Buffer } from "node:buffer";
import type { CopySegment, CopyTarget } from "./copy-list.ts";
import { COPY_LIMITS } from "./copy-list.ts";
import {
	ASC,
	type Asc,
	type ForwardedSense,
	SENSE_KEY,
	type Sense,
	SenseError,
	STATUS,
} from "./sense.ts";
import {
	type CopyPeer,
	type Medium,
	type MediumErrno,
	MediumError,
	type Nexus,
	type Outcome,
} from "./task.ts";

/** A target descriptor and the logical unit that it is. */
export interface CopyEnd {
	readonly target: CopyTarget;
	readonly peer: CopyPeer;
}

/** What a segment is processed for, and with. */
export interface SegmentContext {
	readonly nexus: Nexus;
	/** Bytes that a segment before left over. */
	readonly residual: Buffer;
	/** Called between two chunks; throws to end the copy. */
	goOn(): void;
	/** So many bytes more were written. */
	transferred(bytes: number): void;
}

/** What is to be read and written, in blocks of the one and of the other. */
interface Plan {
	readonly sourceLba: number;
	readonly sourceBlocks: number;
	readonly destinationLba: number;
	readonly destinationBlocks: number;
	/** The last block is filled up with zeroes. */
	readonly padded: boolean;
	/** What is left over is kept for the next segment. */
	readonly keep: boolean;
}

/** Offsets in the segment descriptor, for field pointers. */
const AT = { source: 4, destination: 6, blocks: 10, from: 12, to: 20 } as const;

/** Sense data of a segment that cannot be processed. */
export function copyAborted(
	asc: Asc,
	details: Pick<Sense, "field" | "forwarded" | "information"> = {},
): SenseError {
	return new SenseError({ key: SENSE_KEY.COPY_ABORTED, asc, ...details });
}

function pointing(asc: Asc, byte: number): SenseError {
	return copyAborted(asc, { field: { in: "segment", byte } });
}

/** Throws unless the nexus may now read (write) a logical unit. */
function checkAccess(
	{ peer }: CopyEnd,
	from: ForwardedSense["from"],
	nexus: Nexus,
): void {
	const access = from === "source" ? "read" : "write";
	const refusal = peer.refusal(nexus, access);
	if (refusal) throw thirdParty(from, refusal);
}

/** What a logical unit said to the copy manager, passed on. */
function thirdParty(
	from: ForwardedSense["from"],
	outcome: Outcome,
): SenseError {
	const forwarded: ForwardedSense =
		outcome.kind === "check"
			? { from, status: STATUS.CHECK_CONDITION, sense: outcome.sense }
			: {
					from,
					status: outcome.kind === "status" ? outcome.status : STATUS.BUSY,
				};
	return copyAborted(ASC.THIRD_PARTY_DEVICE_FAILURE, { forwarded });
}

/** The sense that READ or WRITE would have ended with. */
function senseOf(from: ForwardedSense["from"], errno: MediumErrno): Sense {
	const { MEDIUM_ERROR, DATA_PROTECT, HARDWARE_ERROR } = SENSE_KEY;
	if (errno === "ENOSPC")
		return { key: DATA_PROTECT, asc: ASC.SPACE_ALLOCATION_FAILED };
	if (errno !== "EIO")
		return { key: HARDWARE_ERROR, asc: ASC.INTERNAL_TARGET_FAILURE };
	const asc = from === "source" ? ASC.UNRECOVERED_READ_ERROR : ASC.WRITE_ERROR;
	return { key: MEDIUM_ERROR, asc };
}

/** Does something with a medium; what that fails with is passed on. */
async function attempt<T>(
	from: ForwardedSense["from"],
	work: () => Promise<T>,
): Promise<T> {
	try {
		return await work();
	} catch (error) {
		if (!(error instanceof MediumError)) throw error;
		const sense = senseOf(from, error.errno);
		throw thirdParty(from, { kind: "check", sense });
	}
}

/** The address of a range in a logical unit; throws if it is not in it. */
function addressOf(
	medium: Medium,
	lba: bigint,
	blocks: number,
	byte: number,
): number {
	// NO ADDITIONAL SENSE: the field pointer says it, and no command was sent to anyone.
	if (lba + BigInt(blocks) > BigInt(medium.numBlocks))
		throw pointing(ASC.NO_ADDITIONAL_SENSE, byte);
	return Number(lba);
}

/** Bytes of data that do not fill a block, and what becomes of them (SPC-4 6.4.6, PAD and CAT). */
function inexact(
	segment: CopySegment,
	source: CopyEnd,
	destination: CopyEnd,
): { padded: boolean; keep: boolean } {
	if (segment.concatenate) return { padded: false, keep: true };
	const { pad: sourcePad } = source.target;
	const { pad: destinationPad } = destination.target;
	if (!sourcePad && !destinationPad)
		throw copyAborted(ASC.UNEXPECTED_INEXACT_SEGMENT);
	// What is left of the source is dropped if it pads, else it waits; what is
	// missing for the destination is padded if that pads, else it waits.
	if (segment.countsDestination) return { padded: false, keep: !sourcePad };
	return { padded: destinationPad, keep: !destinationPad };
}

function planOf(
	segment: CopySegment,
	source: CopyEnd,
	destination: CopyEnd,
	residual: number,
): Plan {
	const from = source.peer.medium;
	const to = destination.peer.medium;
	const unit = segment.countsDestination ? to : from;
	const bytes = segment.blocks * unit.blockSize;
	if (bytes > COPY_LIMITS.segmentBytes)
		throw pointing(ASC.INVALID_FIELD_IN_PARAMETER_LIST, AT.blocks);
	const sourceBlocks = segment.countsDestination
		? Math.ceil(Math.max(0, bytes - residual) / from.blockSize)
		: segment.blocks;
	const available = residual + sourceBlocks * from.blockSize;
	const whole = segment.countsDestination
		? segment.blocks
		: Math.floor(available / to.blockSize);
	const { padded, keep } =
		available === whole * to.blockSize
			? { padded: false, keep: false }
			: inexact(segment, source, destination);
	const destinationBlocks = whole + (padded ? 1 : 0);
	return {
		sourceLba: addressOf(from, segment.sourceLba, sourceBlocks, AT.from),
		sourceBlocks,
		destinationLba: addressOf(
			to,
			segment.destinationLba,
			destinationBlocks,
			AT.to,
		),
		destinationBlocks,
		padded,
		keep,
	};
}

/** Whether blocks would be overwritten before they are read, going forward. */
function overlapsBehind(from: Medium, to: Medium, plan: Plan): boolean {
	const { sourceLba, destinationLba, sourceBlocks } = plan;
	return (
		from === to &&
		destinationLba > sourceLba &&
		destinationLba < sourceLba + sourceBlocks
	);
}

/** Blocks of at most 1 MiB, and of at most what either medium takes at a time. */
function chunkBlocks(from: Medium, to: Medium): number {
	const bytes = Math.min(
		from.maxBlocks * from.blockSize,
		to.maxBlocks * to.blockSize,
	);
	return Math.max(1, Math.floor(bytes / from.blockSize));
}

/**
 * Processes a segment. Returns the bytes that are left over for the next one.
 * Throws SenseError, with the blocks that were not written as INFORMATION.
 */
export async function copySegment(
	segment: CopySegment,
	source: CopyEnd,
	destination: CopyEnd,
	context: SegmentContext,
): Promise<Buffer> {
	const plan = planOf(segment, source, destination, context.residual.length);
	const to = destination.peer.medium;
	let left = plan.destinationBlocks;
	const write = async (lba: number, data: Buffer) => {
		checkAccess(destination, "destination", context.nexus);
		await attempt("destination", () => to.write(lba, data, false));
		left -= data.length / to.blockSize;
		context.transferred(data.length);
	};
	const read = async (lba: number, blocks: number) => {
		context.goOn();
		checkAccess(source, "source", context.nexus);
		return attempt("source", () => source.peer.medium.read(lba, blocks));
	};
	try {
		const rest = overlapsBehind(source.peer.medium, to, plan)
			? await copyBackward(plan, source.peer.medium, context, read, write)
			: await copyForward(plan, source.peer.medium, to, context, read, write);
		if (to.supports.flush) await attempt("destination", () => to.flush());
		return plan.keep ? rest : Buffer.alloc(0);
	} catch (error) {
		if (!(error instanceof SenseError)) throw error;
		if (error.sense.key !== SENSE_KEY.COPY_ABORTED) throw error;
		throw new SenseError({ ...error.sense, information: BigInt(left) });
	}
}

type Read = (lba: number, blocks: number) => Promise<Buffer>;
type Write = (lba: number, data: Buffer) => Promise<void>;

/** Copies as it comes; what does not fill a block of the destination waits for more. */
async function copyForward(
	plan: Plan,
	from: Medium,
	to: Medium,
	{ residual }: SegmentContext,
	read: Read,
	write: Write,
): Promise<Buffer> {
	const step = chunkBlocks(from, to);
	let pending = residual;
	let lba = plan.destinationLba;
	let left = plan.destinationBlocks;
	const writeWhole = async () => {
		const most = Math.min(Math.floor(pending.length / to.blockSize), left);
		// A residual can make it a little more than a chunk.
		for (let done = 0; done < most; ) {
			const blocks = Math.min(most - done, to.maxBlocks);
			await write(lba, pending.subarray(0, blocks * to.blockSize));
			pending = pending.subarray(blocks * to.blockSize);
			lba += blocks;
			left -= blocks;
			done += blocks;
		}
	};
	for (let done = 0; done < plan.sourceBlocks; done += step) {
		const blocks = Math.min(step, plan.sourceBlocks - done);
		const data = await read(plan.sourceLba + done, blocks);
		pending = pending.length ? Buffer.concat([pending, data]) : data;
		await writeWhole();
	}
	await writeWhole();
	// What is pending may be in a buffer that the next read takes back.
	const rest = Buffer.from(pending);
	if (!plan.padded) return rest;
	const block = Buffer.alloc(to.blockSize);
	rest.copy(block);
	await write(lba, block);
	return Buffer.alloc(0);
}

/** Copies within a medium from the end to the start, as the destination covers what is to be read. */
async function copyBackward(
	plan: Plan,
	medium: Medium,
	{ residual }: SegmentContext,
	read: Read,
	write: Write,
): Promise<Buffer> {
	// Blocks would have to be put together from two places that move.
	if (residual.length) throw copyAborted(ASC.UNEXPECTED_INEXACT_SEGMENT);
	for (let end = plan.sourceBlocks; end > 0; ) {
		const blocks = Math.min(medium.maxBlocks, end);
		end -= blocks;
		const data = await read(plan.sourceLba + end, blocks);
		await write(plan.destinationLba + end, data);
	}
	return Buffer.alloc(0);
}
