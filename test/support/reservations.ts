// SPDX-License-Identifier: MIT
// Several initiators at one disk, and PERSISTENT RESERVE IN and OUT in their words.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
	type Answer,
	type Harness,
	type HarnessOptions,
	harness,
	transportIdOf,
} from "./scsi.ts";

/** Service actions of PERSISTENT RESERVE OUT. */
export const OUT = {
	register: 0,
	reserve: 1,
	release: 2,
	clear: 3,
	preempt: 4,
	preemptAndAbort: 5,
	registerAndIgnore: 6,
	registerAndMove: 7,
} as const;
export type OutName = keyof typeof OUT;

export const GOOD = 0x00;
export const CHECK = 0x02;
export const CONFLICT = 0x18;

export const PREEMPTED = 0x2a03;
export const RELEASED = 0x2a04;
export const REGISTRATIONS_PREEMPTED = 0x2a05;

export interface OutOptions {
	readonly key?: bigint;
	/** SERVICE ACTION RESERVATION KEY. */
	readonly sark?: bigint;
	readonly type?: number;
	readonly scope?: number;
	/** Byte 20: SPEC_I_PT 08h, ALL_TG_PT 04h, APTPL 01h. */
	readonly flags?: number;
	/** TransportIDs for SPEC_I_PT. */
	readonly ids?: readonly Buffer[];
}

export interface MoveOptions extends OutOptions {
	/** Initiator that the reservation is to move to. */
	readonly to: number;
	/** Byte 17: UNREG 02h, APTPL 01h. */
	readonly bits?: number;
	readonly port?: number;
}

/** The CDB of PERSISTENT RESERVE OUT. */
export function outCdb(
	action: number,
	length: number,
	{ scope = 0, type = 0 }: OutOptions = {},
): Buffer {
	const cdb = Buffer.alloc(10);
	cdb.set([0x5f, action, (scope << 4) | type]);
	cdb.writeUInt32BE(length, 5);
	return cdb;
}

/** The basic parameter list. */
export function basicList(options: OutOptions = {}): Buffer {
	const { key = 0n, sark = 0n, flags = 0, ids } = options;
	const list = Buffer.alloc(24);
	list.writeBigUInt64BE(key, 0);
	list.writeBigUInt64BE(sark, 8);
	list[20] = flags;
	if (!ids) return list;
	const length = Buffer.alloc(4);
	length.writeUInt32BE(Buffer.concat(ids).length);
	return Buffer.concat([list, length, ...ids]);
}

/** The parameter list of REGISTER AND MOVE. */
export function moveList(options: MoveOptions): Buffer {
	const { key = 0n, sark = 0n, bits = 0, port = 1, to } = options;
	const list = Buffer.alloc(24);
	list.writeBigUInt64BE(key, 0);
	list.writeBigUInt64BE(sark, 8);
	list[17] = bits;
	list.writeUInt16BE(port, 18);
	list.writeUInt32BE(24, 20);
	return Buffer.concat([list, transportIdOf(to)]);
}

/** A full status descriptor, decoded. */
export interface FullStatus {
	readonly key: bigint;
	readonly allPorts: boolean;
	readonly holder: boolean;
	/** SCOPE and TYPE. */
	readonly type: number;
	readonly port: number;
	/** TransportID, hexadecimal. */
	readonly id: string;
}

export interface Scene extends Harness {
	/** PERSISTENT RESERVE OUT; resolves with the whole answer. */
	out(nexus: number, action: OutName, options?: OutOptions): Promise<Answer>;
	move(nexus: number, options: MoveOptions): Promise<Answer>;
	/** PERSISTENT RESERVE IN that must be GOOD; its data. */
	in(nexus: number, action: number, length?: number): Promise<Buffer>;
	keys(nexus: number): Promise<bigint[]>;
	generation(nexus: number): Promise<number>;
	/** Key and type of the reservation; undefined: there is none. */
	reservation(
		nexus: number,
	): Promise<{ key: bigint; type: number } | undefined>;
	fullStatus(nexus: number): Promise<FullStatus[]>;
	/** Takes all pending unit attentions of a nexus: their additional sense codes. */
	attentions(nexus: number): number[];
}

export function inCdb(action: number, length: number): Buffer {
	const cdb = Buffer.alloc(10);
	cdb.set([0x5e, action]);
	cdb.writeUInt16BE(length, 7);
	return cdb;
}

function decodeFullStatus(data: Buffer): FullStatus[] {
	const all: FullStatus[] = [];
	for (let at = 8; at < data.length; ) {
		const length = data.readUInt32BE(at + 20);
		all.push({
			key: data.readBigUInt64BE(at),
			allPorts: (data.readUInt8(at + 12) & 0x02) !== 0,
			holder: (data.readUInt8(at + 12) & 0x01) !== 0,
			type: data.readUInt8(at + 13),
			port: data.readUInt16BE(at + 18),
			id: data.toString("hex", at + 24, at + 24 + length),
		});
		at += 24 + length;
	}
	return all;
}

/** A logical unit with initiators, three unless asked otherwise. */
export function scene(options: HarnessOptions = {}): Scene {
	const base = harness({ nexuses: 3, ...options });
	const read = async (nexus: number, action: number, length = 0xffff) => {
		const answer = await base.send(nexus, inCdb(action, length), {
			room: length,
		});
		assert.equal(answer.status, GOOD, answer.sense?.toString("hex"));
		assert.equal(answer.overrun, false);
		return answer.data;
	};
	return {
		...base,
		in: read,
		out(nexus, action, details = {}) {
			const dataOut = basicList(details);
			const cdb = outCdb(OUT[action], dataOut.length, details);
			return base.send(nexus, cdb, { dataOut });
		},
		move(nexus, details) {
			const dataOut = moveList(details);
			const cdb = outCdb(OUT.registerAndMove, dataOut.length, details);
			return base.send(nexus, cdb, { dataOut });
		},
		async keys(nexus) {
			const data = await read(nexus, 0);
			assert.equal(data.readUInt32BE(4), data.length - 8);
			return Array.from({ length: (data.length - 8) / 8 }, (_, index) =>
				data.readBigUInt64BE(8 + index * 8),
			);
		},
		generation: async (nexus) => (await read(nexus, 0)).readUInt32BE(0),
		async reservation(nexus) {
			const data = await read(nexus, 1);
			assert.equal(data.readUInt32BE(4), data.length - 8);
			if (data.length === 8) return undefined;
			assert.equal(data.length, 24);
			return { key: data.readBigUInt64BE(8), type: data.readUInt8(21) };
		},
		async fullStatus(nexus) {
			const data = await read(nexus, 3);
			assert.equal(data.readUInt32BE(4), data.length - 8);
			return decodeFullStatus(data);
		},
		attentions(nexus) {
			const found: number[] = [];
			const of = base.nexuses[nexus];
			assert(of);
			for (;;) {
				const sense = base.lu.attentions.take(of);
				if (!sense) return found;
				assert.equal(sense.key, 6);
				found.push(sense.asc);
			}
		},
	};
}

/** Fixed sense data of an ILLEGAL REQUEST, with a field pointer if it has one. */
export function illegal(
	asc: number,
	field?: { in: "cdb" | "data"; byte: number; bit?: number },
): string {
	const sense = Buffer.from("700005000000000a00000000000000000000", "hex");
	sense.writeUInt16BE(asc, 12);
	if (!field) return sense.toString("hex");
	sense[15] =
		0x80 |
		(field.in === "cdb" ? 0x40 : 0) |
		(field.bit === undefined ? 0 : 0x08 | field.bit);
	sense.writeUInt16BE(field.byte, 16);
	return sense.toString("hex");
}

/** Fails unless a command ended in CHECK CONDITION with these sense bytes. */
export function assertSense(answer: Answer, sense: string): void {
	assert.equal(answer.status, CHECK);
	assert.equal(answer.sense?.toString("hex"), sense);
	assert.equal(answer.data.length, 0);
}

/** Registers each initiator with the key of its number plus one, and reserves for the first. */
export async function reservedScene(
	type: number,
	options: HarnessOptions = {},
): Promise<Scene> {
	const one = scene(options);
	for (const nexus of [0, 1]) {
		const sark = BigInt(nexus + 1);
		const answer = await one.out(nexus, "register", { sark });
		assert.equal(answer.status, GOOD);
	}
	const answer = await one.out(0, "reserve", { key: 1n, type });
	assert.equal(answer.status, GOOD);
	return one;
}
