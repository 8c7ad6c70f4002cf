// SPDX-License-Identifier: MIT
// A command of a request ring in the hands of this side, from its coming up to its one answer.
import { Buffer } from "node:buffer";
import { decode, LAYOUTS, SCSI_MAX_SENSE } from "../../ffi/layout.ts";
import {
	EXECUTE_DURABLE,
	EXECUTE_HELD,
	native,
	OP_READ,
	OP_WRITE,
} from "../../ffi/native.ts";
import { encodeSense, STATUS } from "../scsi/sense.ts";
import type { Command, Nexus, Outcome, Transfer } from "../scsi/task.ts";
import { SCSI_RESPONSE, type ScsiResponse } from "../virtio/scsi-codes.ts";
import type { RequestRing } from "./ring.ts";

const MIN_CDB = 16;
const MAX_RESIDUAL = 0xffffffff;

export interface ScsiRequest {
	readonly ring: RequestRing;
	readonly command: Command;
	/** The eight LUN bytes. */
	readonly lun: Buffer;
	readonly tag: bigint;
	readonly attribute: number;
	/** Its logical unit is held for it on its ring, being ORDERED. */
	readonly held: boolean;
	/** It was executed and failed: why, as a positive errno; else 0. */
	readonly errno: number;
	/** What it is to end with, whatever comes of it. */
	readonly aborted: ScsiResponse | undefined;
	/** Makes it end with that response. The first one stands. */
	abort(response: ScsiResponse): void;

	readonly answered: boolean;
	// One of these is the last that is done with it.
	/** Ends without the command having been executed. */
	respond(response: ScsiResponse): void;
	/** Ends with what a logical unit said, unless that is a transfer. */
	complete(
		outcome: Exclude<Outcome, { kind: "transfer" }>,
		descriptorSense: boolean,
	): void;
	/** Has the data moved; it ends with GOOD, or comes up again with errno. */
	execute(transfer: Transfer, blockSize: number): void;
}

const INFO_BYTES = LAYOUTS.vhc_request_info.size;

/** info: struct vhc_request_info and the beginning of data-out. */
export function makeRequest(
	ring: RequestRing,
	nexus: Nexus,
	handle: bigint,
	info: Buffer,
	errno: number,
): ScsiRequest {
	const fields = decode("vhc_request_info", info);
	const start = info.subarray(INFO_BYTES, INFO_BYTES + fields.copied);
	const dataOutLength = Number(fields.out_len);
	const dataInLength = Number(fields.in_len);
	const abortion = new AbortController();
	let aborted: ScsiResponse | undefined;
	let answered = false;
	let consumed = 0;

	/** Twice answered would be a use after free: better this side fails. */
	const answer = (): void => {
		if (answered) throw new Error("a SCSI command was answered twice");
		answered = true;
	};
	const readDataOut = (offset: number, length: number): Buffer => {
		if (answered) throw new Error("a SCSI command that has ended is read");
		const end = offset + length;
		consumed = Math.max(consumed, end);
		if (end <= start.length) return Buffer.from(start.subarray(offset, end));
		const data = native.requestRead(handle, offset, length);
		if (data.length !== length)
			throw new RangeError(`data-out ${offset}..${end} of ${dataOutLength}`);
		return data;
	};
	const end = (
		response: ScsiResponse,
		status: number,
		data?: Buffer,
		sense?: Buffer,
	): void => {
		answer();
		const written = data ? native.requestWrite(handle, 0, data) : 0;
		const left = dataOutLength + dataInLength - consumed - written;
		native.requestComplete(handle, {
			response,
			status,
			residual: Math.min(MAX_RESIDUAL, left),
			written,
			sense_len: sense?.length ?? 0,
			sense: sense ?? Buffer.alloc(0),
		});
	};
	/** Nothing was transferred by a command that did not come to its end. */
	const respond = (response: ScsiResponse): void => {
		consumed = 0;
		end(response, STATUS.GOOD);
	};

	return {
		ring,
		lun: Buffer.from(fields.lun),
		tag: fields.tag,
		attribute: fields.task_attr,
		held: fields.held !== 0,
		errno,
		command: {
			nexus,
			cdb: Buffer.from(
				fields.cdb.subarray(0, Math.max(MIN_CDB, fields.cdb_len)),
			),
			dataOutLength,
			dataInLength,
			readDataOut,
			signal: abortion.signal,
		},
		get aborted() {
			return aborted;
		},
		get answered() {
			return answered;
		},
		abort(response) {
			if (aborted !== undefined) return;
			aborted = response;
			abortion.abort();
		},
		respond,
		complete(outcome, descriptorSense) {
			if (aborted !== undefined) respond(aborted);
			else if (outcome.kind === "overrun") respond(SCSI_RESPONSE.OVERRUN);
			else if (outcome.kind === "status") end(SCSI_RESPONSE.OK, outcome.status);
			else if (outcome.kind === "good")
				end(SCSI_RESPONSE.OK, STATUS.GOOD, outcome.data);
			else {
				const sense = encodeSense(outcome.sense, descriptorSense);
				end(
					SCSI_RESPONSE.OK,
					STATUS.CHECK_CONDITION,
					outcome.data,
					sense.subarray(0, SCSI_MAX_SENSE),
				);
			}
		},
		execute({ op, lba, blocks, durable }, blockSize) {
			if (aborted !== undefined) return respond(aborted);
			answer();
			native.requestExecute(
				handle,
				op === "read" ? OP_READ : OP_WRITE,
				// Held or not: who holds it has waited for this, or this for him.
				EXECUTE_HELD | (durable ? EXECUTE_DURABLE : 0),
				BigInt(lba) * BigInt(blockSize),
				BigInt(blocks) * BigInt(blockSize),
			);
		},
	};
}
