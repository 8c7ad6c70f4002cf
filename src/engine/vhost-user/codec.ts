// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { VhostctlError } from "../errors.ts";
import {
	FLAG_REPLY,
	FLAG_VERSION,
	FLAG_VERSION_MASK,
	MAX_CONFIG,
	MAX_REGIONS,
	NO_FD,
} from "./messages.ts";

// vhost-user, "Message Specification": numbers are in the machine's byte order,
// which is little-endian wherever this runs. Only syntax is checked here.

export const HEADER_SIZE = 12;
const REGION_SIZE = 32;
const CONFIG_HEADER_SIZE = 12;
const U64_MAX = (1n << 64n) - 1n;

export interface Message {
	request: number;
	flags: number;
	payload: Buffer;
}

export interface VringState {
	index: number;
	num: number;
}

export interface VringAddress {
	index: number;
	flags: number;
	/** User addresses. */
	desc: bigint;
	used: bigint;
	avail: bigint;
	/** Guest address. */
	log: bigint;
}

export interface MemoryRegion {
	gpa: bigint;
	size: bigint;
	userAddr: bigint;
	/** Where the region starts in its descriptor. */
	offset: bigint;
}

/** SET_LOG_BASE's part of the descriptor. */
export interface LogArea {
	size: bigint;
	offset: bigint;
}

export interface InflightArea {
	size: bigint;
	offset: bigint;
	numQueues: number;
	queueSize: number;
}

export interface IotlbMessage {
	iova: bigint;
	size: bigint;
	userAddr: bigint;
	/** 1: read, 2: write, 3: both. */
	access: number;
	type: number;
}

export interface StateTransfer {
	direction: number;
	phase: number;
}

/** Part of the configuration space. */
export interface ConfigSpace {
	offset: number;
	size: number;
	flags: number;
	/** May be longer or shorter than size in a GET_CONFIG. */
	data: Buffer;
}

function bad(what: string): VhostctlError {
	return new VhostctlError("E_PROTOCOL", what);
}

export function encodeMessage(
	request: number,
	flags: number,
	payload: Uint8Array = new Uint8Array(0),
): Buffer {
	const message = Buffer.alloc(HEADER_SIZE + payload.length);
	message.writeUInt32LE(request, 0);
	message.writeUInt32LE(flags | FLAG_VERSION, 4);
	message.writeUInt32LE(payload.length, 8);
	message.set(payload, HEADER_SIZE);
	return message;
}

export function encodeReply(request: number, payload: Uint8Array): Buffer {
	return encodeMessage(request, FLAG_REPLY, payload);
}

/** Splits a whole message. Throws E_PROTOCOL for a header that lies or is of another version. */
export function decodeMessage(data: Buffer): Message {
	if (data.length < HEADER_SIZE) throw bad(`a message of ${data.length} bytes`);
	const request = data.readUInt32LE(0);
	const flags = data.readUInt32LE(4);
	const size = data.readUInt32LE(8);
	if ((flags & FLAG_VERSION_MASK) !== FLAG_VERSION)
		throw bad(`version ${flags & FLAG_VERSION_MASK} in the header`);
	if (flags >>> 4 !== 0)
		throw bad(`reserved bits 0x${flags.toString(16)} in the header`);
	if (size !== data.length - HEADER_SIZE)
		throw bad(`${size} bytes announced, ${data.length - HEADER_SIZE} came`);
	return { request, flags, payload: data.subarray(HEADER_SIZE) };
}

function wantSize(payload: Buffer, size: number): void {
	if (payload.length !== size)
		throw bad(`a payload of ${payload.length} bytes, not ${size}`);
}

export function decodeNone(payload: Buffer): void {
	wantSize(payload, 0);
}

export function encodeU64(value: bigint): Buffer {
	const payload = Buffer.alloc(8);
	payload.writeBigUInt64LE(value);
	return payload;
}

export function decodeU64(payload: Buffer): bigint {
	wantSize(payload, 8);
	return payload.readBigUInt64LE();
}

export function encodeState({ index, num }: VringState): Buffer {
	const payload = Buffer.alloc(8);
	payload.writeUInt32LE(index, 0);
	payload.writeUInt32LE(num, 4);
	return payload;
}

export function decodeState(payload: Buffer): VringState {
	wantSize(payload, 8);
	return { index: payload.readUInt32LE(0), num: payload.readUInt32LE(4) };
}

export function encodeAddress(a: VringAddress): Buffer {
	const payload = Buffer.alloc(40);
	payload.writeUInt32LE(a.index, 0);
	payload.writeUInt32LE(a.flags, 4);
	for (const [i, value] of [a.desc, a.used, a.avail, a.log].entries())
		payload.writeBigUInt64LE(value, 8 + 8 * i);
	return payload;
}

/** Checks the alignment that virtio 2.7 asks for. */
export function decodeAddress(payload: Buffer): VringAddress {
	wantSize(payload, 40);
	const address = {
		index: payload.readUInt32LE(0),
		flags: payload.readUInt32LE(4),
		desc: payload.readBigUInt64LE(8),
		used: payload.readBigUInt64LE(16),
		avail: payload.readBigUInt64LE(24),
		log: payload.readBigUInt64LE(32),
	};
	if (address.flags > 1) throw bad(`vring flags ${address.flags}`);
	if (address.desc % 16n !== 0n) throw bad("descriptor table not 16-aligned");
	if (address.used % 4n !== 0n) throw bad("used ring not 4-aligned");
	if (address.avail % 2n !== 0n) throw bad("available ring not 2-aligned");
	return address;
}

/** A vring index with its descriptor, or without one. */
export function encodeFdIndex(index: number, hasFd: boolean): Buffer {
	return encodeU64(BigInt(index) | (hasFd ? 0n : NO_FD));
}

export function decodeFdIndex(payload: Buffer): {
	index: number;
	hasFd: boolean;
} {
	const value = decodeU64(payload);
	if (value >> 9n !== 0n) throw bad(`vring ${value}: reserved bits set`);
	return { index: Number(value & 0xffn), hasFd: (value & NO_FD) === 0n };
}

export function encodeMemory(regions: readonly MemoryRegion[]): Buffer {
	const payload = Buffer.alloc(8 + REGION_SIZE * regions.length);
	payload.writeUInt32LE(regions.length, 0);
	for (const [i, r] of regions.entries())
		for (const [j, value] of [r.gpa, r.size, r.userAddr, r.offset].entries())
			payload.writeBigUInt64LE(value, 8 + REGION_SIZE * i + 8 * j);
	return payload;
}

/**
 * Checks that no region wraps around. Linux's virtio_uml always sends room for
 * two regions, so there may be more bytes than the regions take.
 */
export function decodeMemory(payload: Buffer): MemoryRegion[] {
	const room = (payload.length - 8) / REGION_SIZE;
	if (!Number.isInteger(room) || room < 0 || room > MAX_REGIONS)
		throw bad(`a memory table of ${payload.length} bytes`);
	const count = payload.readUInt32LE(0);
	if (count < 1 || count > room)
		throw bad(`${count} memory regions in room for ${room}`);
	return Array.from({ length: count }, (_, i) => {
		const region = readRegion(payload, 8 + REGION_SIZE * i);
		noWrap(region.size, region.offset);
		return region;
	});
}

export function encodeRegion(region: MemoryRegion): Buffer {
	const payload = encodeMemory([region]);
	payload.writeUInt32LE(0, 0); // padding, where a table has its count
	return payload;
}

/** REM_MEM_REG ignores the offset, so that is not checked here. */
export function decodeRegion(payload: Buffer): MemoryRegion {
	wantSize(payload, 8 + REGION_SIZE);
	return readRegion(payload, 8);
}

function readRegion(payload: Buffer, at: number): MemoryRegion {
	const region = {
		gpa: payload.readBigUInt64LE(at),
		size: payload.readBigUInt64LE(at + 8),
		userAddr: payload.readBigUInt64LE(at + 16),
		offset: payload.readBigUInt64LE(at + 24),
	};
	if (region.size === 0n) throw bad("an empty memory region");
	noWrap(region.size, region.gpa, region.userAddr);
	return region;
}

function noWrap(size: bigint, ...starts: bigint[]): void {
	for (const start of starts)
		if (start + size - 1n > U64_MAX)
			throw bad("a memory region that wraps around");
}

export function encodeConfig(
	offset: number,
	data: Uint8Array,
	flags = 0,
): Buffer {
	const payload = Buffer.alloc(CONFIG_HEADER_SIZE + data.length);
	payload.writeUInt32LE(offset, 0);
	payload.writeUInt32LE(data.length, 4);
	payload.writeUInt32LE(flags, 8);
	payload.set(data, CONFIG_HEADER_SIZE);
	return payload;
}

/**
 * Front ends differ in how much follows the header: what size says, or (SPDK's)
 * always room for 256 bytes. Ranges are for the receiver to check.
 */
export function decodeConfig(payload: Buffer): ConfigSpace {
	const room = payload.length - CONFIG_HEADER_SIZE;
	if (room < 0 || room > MAX_CONFIG)
		throw bad(`a configuration payload of ${payload.length} bytes`);
	return {
		offset: payload.readUInt32LE(0),
		size: payload.readUInt32LE(4),
		flags: payload.readUInt32LE(8),
		data: payload.subarray(CONFIG_HEADER_SIZE),
	};
}

export function encodeLog({ size, offset }: LogArea): Buffer {
	return Buffer.concat([encodeU64(size), encodeU64(offset)]);
}

export function decodeLog(payload: Buffer): LogArea {
	wantSize(payload, 16);
	return {
		size: payload.readBigUInt64LE(0),
		offset: payload.readBigUInt64LE(8),
	};
}

const INFLIGHT_SIZE = 20;
/** As C pads the struct: what QEMU and DPDK send. */
const INFLIGHT_PADDED_SIZE = 24;

export function encodeInflight(
	area: InflightArea,
	size = INFLIGHT_PADDED_SIZE,
): Buffer {
	const payload = Buffer.alloc(size);
	payload.writeBigUInt64LE(area.size, 0);
	payload.writeBigUInt64LE(area.offset, 8);
	payload.writeUInt16LE(area.numQueues, 16);
	payload.writeUInt16LE(area.queueSize, 18);
	return payload;
}

export function decodeInflight(
	payload: Buffer,
): InflightArea & { payloadSize: number } {
	if (payload.length !== INFLIGHT_SIZE) wantSize(payload, INFLIGHT_PADDED_SIZE);
	return {
		size: payload.readBigUInt64LE(0),
		offset: payload.readBigUInt64LE(8),
		numQueues: payload.readUInt16LE(16),
		queueSize: payload.readUInt16LE(18),
		payloadSize: payload.length,
	};
}

const IOTLB_SIZE = 26;
/** struct vhost_iotlb_msg. */
const IOTLB_PADDED_SIZE = 32;

export function encodeIotlb(message: IotlbMessage): Buffer {
	const payload = Buffer.alloc(IOTLB_PADDED_SIZE);
	payload.writeBigUInt64LE(message.iova, 0);
	payload.writeBigUInt64LE(message.size, 8);
	payload.writeBigUInt64LE(message.userAddr, 16);
	payload.writeUInt8(message.access, 24);
	payload.writeUInt8(message.type, 25);
	return payload;
}

export function decodeIotlb(payload: Buffer): IotlbMessage {
	if (payload.length !== IOTLB_SIZE) wantSize(payload, IOTLB_PADDED_SIZE);
	return {
		iova: payload.readBigUInt64LE(0),
		size: payload.readBigUInt64LE(8),
		userAddr: payload.readBigUInt64LE(16),
		access: payload.readUInt8(24),
		type: payload.readUInt8(25),
	};
}

export function encodeTransfer({ direction, phase }: StateTransfer): Buffer {
	return encodeState({ index: direction, num: phase });
}

export function decodeTransfer(payload: Buffer): StateTransfer {
	const { index, num } = decodeState(payload);
	return { direction: index, phase: num };
}

/** The decoder of each kind of payload. */
export const DECODERS = {
	none: decodeNone,
	u64: decodeU64,
	state: decodeState,
	address: decodeAddress,
	memory: decodeMemory,
	region: decodeRegion,
	fdIndex: decodeFdIndex,
	config: decodeConfig,
	log: decodeLog,
	inflight: decodeInflight,
	iotlb: decodeIotlb,
	transfer: decodeTransfer,
} as const;
