// SPDX-License-Identifier: MIT
/** The initiator's side of virtio-scsi: what a load has to know of a disk before it starts. */
import { Buffer } from "node:buffer";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../ffi/native.ts";
import { VhostctlError } from "./errors.ts";
import type { DiskShape } from "./perf-limits.ts";
import { ASC, SENSE_KEY, STATUS } from "./scsi/sense.ts";
import type { Frontend } from "./vhost-user/frontend.ts";
import { encodeAddress } from "./virtio/scsi-address.ts";
import { SCSI_RESPONSE } from "./virtio/scsi-codes.ts";
import { DEFAULT_SIZES } from "./virtio/scsi-config.ts";

/** Rings before those of requests: control and event (virtio 5.6.2). */
export const FIRST_REQUEST_RING = 2;

/** Bytes of the front end's memory that finding out takes. */
export const PROBE_BYTES = 4096;

/** A logical unit of a controller: target and LUN, 0 to 255 each. */
export interface UnitAddress {
	readonly target: number;
	readonly lun: number;
}

/** VHC_LUN_ADDRESS of a logical unit. */
export function lunAddress({ target, lun }: UnitAddress): number {
	return (target << 16) | lun;
}

/** Sizes of struct virtio_scsi_cmd_req and _resp (virtio 5.6.6.1). */
const CDB_AT = 19;
const SENSE_AT = 12;
const REQUEST_BYTES = CDB_AT + DEFAULT_SIZES.cdbSize;
const RESPONSE_BYTES = SENSE_AT + DEFAULT_SIZES.senseSize;
/** Where they lie in the memory, and where data-in. */
const RESPONSE_AT = 64n;
const DATA_AT = 512n;

/** A device that is busy, or has news for us, is asked so often and this far apart. */
const ATTEMPTS = 100;
const RETRY_MS = 10;
const TIMEOUT_MS = 30_000;
/** Looks for the answer between two pauses. */
const SPINS = 100;

const PERIPHERAL_ABSENT = 3;
const DIRECT_ACCESS = 0;
const VPD_BLOCK_LIMITS = 0xb0;

export interface Reply {
	/** VIRTIO_SCSI_S_*. */
	readonly response: number;
	readonly status: number;
	/** Sense key and additional sense code; 0 without sense data. */
	readonly key: number;
	readonly asc: number;
	readonly data: Buffer;
}

/** Sends a CDB with so much room for data-in. */
export type Send = (cdb: readonly number[], room?: number) => Promise<Reply>;

/** Reads struct virtio_scsi_cmd_resp, with sense data in either format (SPC-4 4.5). */
export function decodeReply(bytes: Buffer, data: Buffer): Reply {
	const length = Math.min(bytes.readUInt32LE(0), DEFAULT_SIZES.senseSize);
	return {
		response: bytes.readUInt8(11),
		status: bytes.readUInt8(10),
		...decodeSense(bytes.subarray(SENSE_AT, SENSE_AT + length)),
		data,
	};
}

function decodeSense(sense: Buffer): { key: number; asc: number } {
	const descriptor = ((sense[0] ?? 0) & 0x7e) === 0x72;
	const [key, asc] = descriptor ? [1, 2] : [2, 12];
	if (sense.length < asc + 2) return { key: 0, asc: 0 };
	return { key: (sense[key] ?? 0) & 0x0f, asc: sense.readUInt16BE(asc) };
}

/** Waits until the device has used the chain on the ring. Throws E_IO, E_CONNECT. */
async function untilUsed(ring: bigint, gone: () => boolean): Promise<void> {
	const end = performance.now() + TIMEOUT_MS;
	for (let i = 1; native.driverRingGet(ring) === undefined; i++) {
		if (gone()) throw new VhostctlError("E_CONNECT", "the device hung up");
		if (performance.now() > end)
			throw new VhostctlError("E_IO", "requests are not answered");
		await (i % SPINS === 0 ? sleep(1) : new Promise(setImmediate));
	}
}

function makeSend(frontend: Frontend, address: UnitAddress): Send {
	const { addr } = frontend.memory;
	const { handle } = frontend.rings[FIRST_REQUEST_RING] ?? { handle: 0n };
	let gone = false;
	void frontend.closed.then(() => {
		gone = true;
	});
	const responseAt = addr + RESPONSE_AT;
	const dataAt = addr + DATA_AT;
	return async (cdb, room = 0) => {
		const header = Buffer.alloc(REQUEST_BYTES);
		encodeAddress(address.target, address.lun).copy(header);
		header.set(cdb, CDB_AT);
		native.copyIn(addr, header);
		native.copyIn(responseAt, Buffer.alloc(RESPONSE_BYTES));
		native.driverRingAdd(
			handle,
			[{ addr, len: BigInt(REQUEST_BYTES) }],
			[
				{ addr: responseAt, len: BigInt(RESPONSE_BYTES) },
				...(room > 0 ? [{ addr: dataAt, len: BigInt(room) }] : []),
			],
			0n,
		);
		native.driverRingKick(handle);
		await untilUsed(handle, () => gone);
		const data = room > 0 ? native.copyOut(dataAt, room) : Buffer.alloc(0);
		return decodeReply(native.copyOut(responseAt, RESPONSE_BYTES), data);
	};
}

function isBusy({ response, status }: Reply): boolean {
	return (
		response === SCSI_RESPONSE.BUSY ||
		status === STATUS.BUSY ||
		status === STATUS.TASK_SET_FULL
	);
}

function hasNews({ status, key }: Reply): boolean {
	return status === STATUS.CHECK_CONDITION && key === SENSE_KEY.UNIT_ATTENTION;
}

/** The same command until it is answered for good: without unit attentions and BUSY. */
async function insist(
	send: Send,
	cdb: readonly number[],
	room?: number,
): Promise<Reply> {
	for (let attempt = 1; ; attempt++) {
		const reply = await send(cdb, room);
		if (attempt === ATTEMPTS || !(isBusy(reply) || hasNews(reply)))
			return reply;
		if (isBusy(reply)) await sleep(RETRY_MS);
	}
}

const hex = (value: number, digits: number) =>
	value.toString(16).padStart(digits, "0");

/** Throws what a command's end means, unless it is GOOD. */
function expectGood(
	what: string,
	{ target, lun }: UnitAddress,
	reply: Reply,
): void {
	const { response, status, key, asc } = reply;
	if (response === SCSI_RESPONSE.OK && status === STATUS.GOOD) return;
	if (response === SCSI_RESPONSE.BAD_TARGET)
		throw new VhostctlError("E_NOT_FOUND", `there is no target ${target}`);
	if (response !== SCSI_RESPONSE.OK)
		throw new VhostctlError("E_IO", `${what}: response ${response}`);
	if (status === STATUS.RESERVATION_CONFLICT)
		throw new VhostctlError("E_BUSY", "another initiator has reserved it");
	if (status !== STATUS.CHECK_CONDITION)
		throw new VhostctlError("E_IO", `${what}: status ${hex(status, 2)}h`);
	if (asc === ASC.LUN_NOT_SUPPORTED) throw noLun(target, lun);
	throw new VhostctlError(
		"E_IO",
		`${what}: sense key ${hex(key, 1)}h, code ${hex(asc, 4)}h`,
	);
}

function noLun(target: number, lun: number): VhostctlError {
	return new VhostctlError("E_NOT_FOUND", `target ${target} has no LUN ${lun}`);
}

/** INQUIRY: throws unless a disk answers. */
async function checkDisk(send: Send, address: UnitAddress): Promise<void> {
	const reply = await insist(send, [0x12, 0, 0, 0, 36, 0], 36);
	expectGood("INQUIRY", address, reply);
	const [first = 0] = reply.data;
	if (first >> 5 === PERIPHERAL_ABSENT)
		throw noLun(address.target, address.lun);
	if ((first & 0x1f) !== DIRECT_ACCESS)
		throw new VhostctlError(
			"E_UNSUPPORTED",
			`no disk, but device type ${first & 0x1f}`,
		);
}

/** READ CAPACITY (16). */
async function readCapacity(
	send: Send,
	address: UnitAddress,
): Promise<{ blocks: number; blockSize: number }> {
	const cdb = [0x9e, 0x10, ...Array(8).fill(0), 0, 0, 0, 32, 0, 0];
	const reply = await insist(send, cdb, 32);
	expectGood("READ CAPACITY (16)", address, reply);
	return {
		blocks: Number(reply.data.readBigUInt64BE(0)) + 1,
		blockSize: reply.data.readUInt32BE(8),
	};
}

/** MODE SENSE (6): the WP bit. A device without mode pages is taken to be writable. */
async function isReadOnly(send: Send): Promise<boolean> {
	const { response, status, data } = await insist(
		send,
		[0x1a, 0x08, 0x3f, 0, 4, 0],
		4,
	);
	const told = response === SCSI_RESPONSE.OK && status === STATUS.GOOD;
	return told && ((data[2] ?? 0) & 0x80) !== 0;
}

/** MAXIMUM TRANSFER LENGTH of the block limits page, in blocks; undefined: none is told. */
async function maxTransfer(send: Send): Promise<number | undefined> {
	const cdb = [0x12, 1, VPD_BLOCK_LIMITS, 0, 64, 0];
	const { response, status, data } = await insist(send, cdb, 64);
	const told =
		response === SCSI_RESPONSE.OK &&
		status === STATUS.GOOD &&
		data[1] === VPD_BLOCK_LIMITS;
	return (told && data.readUInt32BE(8)) || undefined;
}

/**
 * Makes a logical unit ready, and tells its shape but for the queues. Throws E_NOT_FOUND, E_BUSY
 * (reserved), E_UNSUPPORTED, E_IO.
 */
export async function probe(
	send: Send,
	address: UnitAddress,
): Promise<Omit<DiskShape, "queues">> {
	await checkDisk(send, address);
	const ready = await insist(send, [0, 0, 0, 0, 0, 0]);
	expectGood("TEST UNIT READY", address, ready);
	const { blocks, blockSize } = await readCapacity(send, address);
	const most = await maxTransfer(send);
	return {
		bytes: blocks * blockSize,
		blockSize,
		readonly: await isReadOnly(send),
		...(most === undefined ? {} : { maxRequest: most * blockSize }),
	};
}

/**
 * Probes a logical unit over the first request ring of a front end, which nothing else uses. Throws
 * as probe(), and E_CONNECT.
 */
export async function findScsiDisk(
	frontend: Frontend,
	address: UnitAddress,
): Promise<DiskShape> {
	const queues = frontend.rings.length - FIRST_REQUEST_RING;
	return { ...(await probe(makeSend(frontend, address), address)), queues };
}
