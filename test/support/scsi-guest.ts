// SPDX-License-Identifier: MIT
// A virtio-scsi driver for tests: commands, task management and events, many at a time.
import { Buffer } from "node:buffer";
import { setTimeout as sleep } from "node:timers/promises";
import type { Runtime } from "../../src/engine/runtime.ts";
import {
	connectFrontend,
	type Frontend,
} from "../../src/engine/vhost-user/frontend.ts";
import { VIRTIO_F, VIRTIO_SCSI_F } from "../../src/engine/virtio/features.ts";
import { encodeAddress } from "../../src/engine/virtio/scsi-address.ts";
import { native } from "../../src/ffi/native.ts";
import { waitUntil } from "./processes.ts";

export const CONTROL_RING = 0;
export const EVENT_RING = 1;
export const FIRST_REQUEST_RING = 2;

const CDB_AT = 19;
const SENSE_AT = 12;
const CDB_SIZE = 32;
const SENSE_SIZE = 96;
const EVENT_SIZE = 16;
const NOT_WRITTEN = 0xee;
/** Bytes of a request's memory: header, response, data. */
const SLOT = 132 * 1024;
const RESPONSE_AT = 1024;
const DATA_AT = 4096;
const SLOTS = 64;
const EVENT_SLOT = SLOTS * SLOT;
const EVENT_SLOTS = 16;
const IN_TIME = 20_000;

export interface ScsiAnswer {
	/** VIRTIO_SCSI_S_*. */
	readonly response: number;
	readonly status: number;
	readonly residual: number;
	readonly sense: Buffer;
	/** "5/2400": sense key and additional sense code; "": no sense data. */
	readonly senseText: string;
	/** All of data-in's room; what was not written is 0xee. */
	readonly data: Buffer;
	/** Length in the used element. */
	readonly used: number;
}

export interface ScsiCommand {
	readonly cdb: readonly number[];
	/** Default: 0. */
	readonly target?: number;
	readonly lun?: number;
	/** Instead of target and lun. */
	readonly lunBytes?: Buffer;
	/** Data-out. */
	readonly out?: Buffer;
	/** Bytes of data-in. */
	readonly room?: number;
	/** Number among the request rings; default: 0. */
	readonly ring?: number;
	readonly tag?: bigint;
	/** Default: SIMPLE. */
	readonly attribute?: number;
}

export interface ScsiGuest {
	readonly frontend: Frontend;
	send(command: ScsiCommand): Promise<ScsiAnswer>;
	/** Sends until there is no unit attention any more. */
	insist(command: ScsiCommand): Promise<ScsiAnswer>;
	/** Requests that have not ended. */
	readonly pending: number;
	/** Any request of the control ring; resolves with what was written. */
	control(out: Buffer, room: number): Promise<Buffer>;
	/** A task management function; resolves with its response. */
	manage(
		subtype: number,
		at?: { target?: number; lun?: number; tag?: bigint },
	): Promise<number>;
	/** Gives buffers for events; default: all that there are. */
	offerEvents(count?: number): void;
	/** The next event, in hex: "1 0105000700000000 1": event, LUN, reason. */
	nextEvent(): Promise<string>;
	/** Those that came and were not asked for yet. */
	readonly events: readonly string[];
	close(): Promise<void>;
}

function describeSense(sense: Buffer): string {
	if (sense.length < 4) return "";
	const descriptor = ((sense[0] ?? 0) & 0x7e) === 0x72;
	const [key, asc] = descriptor ? [1, 2] : [2, 12];
	const code = sense.readUInt16BE(asc).toString(16).padStart(4, "0");
	return `${((sense[key] ?? 0) & 0xf).toString(16)}/${code}`;
}

function describeEvent(bytes: Buffer): string {
	const event = bytes.readUInt32LE(0).toString(16);
	return `${event} ${bytes.subarray(4, 12).toString("hex")} ${bytes.readUInt32LE(12).toString(16)}`;
}

function header(command: ScsiCommand): Buffer {
	const out = Buffer.alloc(CDB_AT + CDB_SIZE);
	const lun =
		command.lunBytes ?? encodeAddress(command.target ?? 0, command.lun ?? 0);
	lun.copy(out, 0);
	out.writeBigUInt64LE(command.tag ?? 0n, 8);
	out[16] = command.attribute ?? 0;
	out.set(command.cdb, CDB_AT);
	return out;
}

function tmf(subtype: number, lun: Buffer, tag: bigint): Buffer {
	const out = Buffer.alloc(24);
	out.writeUInt32LE(subtype, 4);
	lun.copy(out, 8);
	out.writeBigUInt64LE(tag, 16);
	return out;
}

export interface GuestOptions {
	/** Request rings; default: 1. */
	rings?: number;
	/** Default: all that are known. */
	features?: bigint;
	/** Entries of each ring; default: 128. */
	queueSize?: number;
}

/** Connects a driver to a virtio-scsi device. */
export async function connectScsiGuest(
	runtime: Runtime,
	path: string,
	options: GuestOptions = {},
): Promise<ScsiGuest> {
	const all = [...Object.values(VIRTIO_F), ...Object.values(VIRTIO_SCSI_F)];
	const frontend = await connectFrontend(runtime, path, {
		queues: FIRST_REQUEST_RING + (options.rings ?? 1),
		queueSize: options.queueSize ?? 128,
		memoryBytes: EVENT_SLOT + EVENT_SLOTS * EVENT_SIZE,
		features: options.features ?? all.reduce((a, b) => a | b, 0n),
		mode: "interrupt",
		pageSize: 4096n,
		configSize: 36,
	});
	return makeGuest(frontend);
}

/** What waits for a chain: by ring and token. */
type Waiting = Map<string, (length: number) => void>;

function makeGuest(frontend: Frontend): ScsiGuest {
	const free = Array.from({ length: SLOTS }, (_, i) => i);
	const waiting: Waiting = new Map();
	const events: string[] = [];
	let polling = false;
	let closed = false;
	let lastToken = 0n;

	const ringHandle = (index: number): bigint => {
		const handle = frontend.rings[index]?.handle;
		if (handle === undefined) throw new Error(`no ring ${index}`);
		return handle;
	};
	const reap = (index: number): void => {
		const handle = ringHandle(index);
		for (
			let used = native.driverRingGet(handle);
			used !== undefined;
			used = native.driverRingGet(handle)
		) {
			const key = `${index}.${used.token}`;
			const take = waiting.get(key);
			waiting.delete(key);
			take?.(used.len);
		}
	};
	const poll = async (): Promise<void> => {
		if (polling) return;
		polling = true;
		while (waiting.size > 0 && !closed) {
			for (const index of frontend.rings.keys()) reap(index);
			await sleep(1);
		}
		polling = false;
	};
	type Piece = { addr: bigint; len: bigint };
	const submit = (
		ring: number,
		out: Piece[],
		into: Piece[],
	): Promise<number> => {
		const token = ++lastToken;
		const ended = new Promise<number>((resolve) => {
			waiting.set(`${ring}.${token}`, resolve);
		});
		native.driverRingAdd(ringHandle(ring), out, into, token);
		native.driverRingKick(ringHandle(ring));
		void poll();
		return ended;
	};
	/** Runs work with a slot's address. */
	const withSlot = async <T>(work: (at: bigint) => Promise<T>): Promise<T> => {
		await waitUntil(
			() => free.length > 0,
			IN_TIME,
			() => "a free slot",
		);
		const slot = free.pop() ?? 0;
		try {
			return await work(frontend.memory.addr + BigInt(slot * SLOT));
		} finally {
			free.push(slot);
		}
	};
	const piece = (addr: bigint, len: number): Piece[] =>
		len > 0 ? [{ addr, len: BigInt(len) }] : [];

	const guest: ScsiGuest = {
		frontend,
		events,
		get pending() {
			return SLOTS - free.length;
		},
		send: (command) =>
			withSlot(async (at) => {
				const { out, room = 0, ring = 0 } = command;
				const responseAt = at + BigInt(RESPONSE_AT);
				const outAt = at + BigInt(DATA_AT);
				const inAt = outAt + BigInt(out?.length ?? 0);
				const head = header(command);
				native.copyIn(at, head);
				native.copyIn(responseAt, Buffer.alloc(SENSE_AT + SENSE_SIZE, 0xff));
				if (out) native.copyIn(outAt, out);
				if (room > 0) native.copyIn(inAt, Buffer.alloc(room, NOT_WRITTEN));
				const used = await submit(
					FIRST_REQUEST_RING + ring,
					[...piece(at, head.length), ...piece(outAt, out?.length ?? 0)],
					[...piece(responseAt, SENSE_AT + SENSE_SIZE), ...piece(inAt, room)],
				);
				const answer = native.copyOut(responseAt, SENSE_AT + SENSE_SIZE);
				const senseLength = Math.min(answer.readUInt32LE(0), SENSE_SIZE);
				const sense = answer.subarray(SENSE_AT, SENSE_AT + senseLength);
				return {
					residual: answer.readUInt32LE(4),
					status: answer.readUInt8(10),
					response: answer.readUInt8(11),
					sense,
					senseText: describeSense(sense),
					data: room > 0 ? native.copyOut(inAt, room) : Buffer.alloc(0),
					used,
				};
			}),
		async insist(command) {
			for (;;) {
				const answer = await guest.send(command);
				if (!answer.senseText.startsWith("6/")) return answer;
			}
		},
		control: (out, room) =>
			withSlot(async (at) => {
				const inAt = at + BigInt(RESPONSE_AT);
				native.copyIn(at, out);
				const used = await submit(
					CONTROL_RING,
					piece(at, out.length),
					piece(inAt, room),
				);
				return used > 0 ? native.copyOut(inAt, used) : Buffer.alloc(0);
			}),
		async manage(subtype, { target = 0, lun = 0, tag = 0n } = {}) {
			const written = await guest.control(
				tmf(subtype, encodeAddress(target, lun), tag),
				1,
			);
			return written.length === 1 ? written.readUInt8(0) : -1;
		},
		offerEvents(count = EVENT_SLOTS) {
			for (let i = 0; i < count; i++) {
				const at = frontend.memory.addr + BigInt(EVENT_SLOT + i * EVENT_SIZE);
				const offer = (): void => {
					void submit(EVENT_RING, [], piece(at, EVENT_SIZE)).then(() => {
						events.push(describeEvent(native.copyOut(at, EVENT_SIZE)));
						if (count === EVENT_SLOTS) offer();
					});
				};
				offer();
			}
		},
		async nextEvent() {
			await waitUntil(
				() => events.length > 0,
				IN_TIME,
				() => "an event",
			);
			return events.shift() ?? "";
		},
		async close() {
			closed = true;
			await frontend.close();
		},
	};
	return guest;
}
