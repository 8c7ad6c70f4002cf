// SPDX-License-Identifier: MIT
// A logical unit on a disk in memory, with as many initiators as a test wants.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
	createLogicalUnit,
	type LogicalUnit,
} from "../../src/engine/scsi/logical-unit.ts";
import { encodeSense, STATUS } from "../../src/engine/scsi/sense.ts";
import {
	type Command,
	type CopyPeer,
	type Host,
	MediumError,
	type Nexus,
	type Outcome,
	type Store,
	type Transfer,
} from "../../src/engine/scsi/task.ts";
import { type ByteDisk, type ByteDiskOptions, byteDisk } from "./byte-disk.ts";

/** What an initiator gets back. */
export interface Answer {
	readonly status: number;
	/** Encoded as D_SENSE has it; only with CHECK CONDITION. */
	readonly sense?: Buffer;
	/** Data-in. */
	readonly data: Buffer;
	/** Bytes of both buffers that were not used. */
	readonly residual: number;
	/** The CDB wanted more than the buffers have: status means nothing. */
	readonly overrun: boolean;
}

export interface SendOptions {
	readonly dataOut?: Buffer | undefined;
	/** Bytes of the data-in buffer: none, if not given. */
	readonly room?: number;
	readonly signal?: AbortSignal;
}

export interface HarnessOptions {
	/** What the disk is like, or a disk. */
	readonly disk?: ByteDiskOptions | ByteDisk;
	readonly lun?: number;
	/** Initiators connected from the start: one, unless asked otherwise. */
	readonly nexuses?: number;
	/** LUNs of the target: [lun], unless asked otherwise. */
	readonly luns?: readonly number[];
	/** Kept documents; null: there is nowhere to keep them. In memory, if not given. */
	readonly store?: Store | null;
	/** Logical units of other disks, by their designators in hexadecimal. */
	readonly peers?: ReadonlyMap<string, CopyPeer>;
	/** Leaves the unit attention of a new nexus pending. */
	readonly keepAttentions?: boolean;
}

export interface Harness {
	readonly lu: LogicalUnit;
	readonly disk: ByteDisk;
	readonly host: Host;
	/** Those connected now, and those disconnected since, in the order of their numbers. */
	readonly nexuses: readonly Nexus[];
	/** Nexuses whose tasks were aborted, one entry a call of host.abort. */
	readonly aborted: readonly (readonly Nexus[])[];
	/** Lines that were logged. */
	readonly logged: readonly string[];
	/** How often host.changed was called. */
	changes(): number;
	/** Sends a command from the nexus of that number. */
	send(
		nexus: number,
		cdb: readonly number[] | Buffer,
		options?: SendOptions,
	): Promise<Answer>;
	/** Ends a nexus. */
	disconnect(nexus: number): void;
	/** Makes a new nexus of the initiator that had this number, or a new initiator; its number. */
	connect(initiator?: number): number;
}

/** A TransportID for tests, of a SAS port, with the number in its address. */
export function transportIdOf(number: number): Buffer {
	const id = Buffer.alloc(24);
	id[0] = 0x06;
	id.writeBigUInt64BE(0x5000_0000_0000_0000n + BigInt(number), 4);
	return id;
}

/** A store in memory, whose documents went through JSON as they would on disk. */
export function memoryStore(): Store & { documents: Map<string, string> } {
	const documents = new Map<string, string>();
	return {
		documents,
		load(uuid) {
			const text = documents.get(uuid);
			return text === undefined ? undefined : JSON.parse(text);
		},
		save(uuid, state) {
			if (state === null) documents.delete(uuid);
			else documents.set(uuid, JSON.stringify(state));
		},
	};
}

/**
 * Fixed format sense data as it should be, written without the encoder under test:
 * the sense key, ASC and ASCQ, and the sense key specific bytes as a number.
 */
export function fixedSense(key: number, asc: number, specific = 0): Buffer {
	const out = Buffer.alloc(18);
	out.set([0x70, 0, key, 0, 0, 0, 0, 10]);
	out.writeUInt16BE(asc, 12);
	out.writeUIntBE(specific, 15, 3);
	return out;
}

/** ILLEGAL REQUEST, INVALID FIELD IN CDB, at a byte and a bit. */
export function badCdb(byte: number, bit?: number): Buffer {
	const flags = bit === undefined ? 0xc0 : 0xc8 | bit;
	return fixedSense(0x5, 0x2400, (flags << 16) | byte);
}

/** ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST, at a byte and a bit. */
export function badList(byte: number, bit?: number): Buffer {
	const flags = bit === undefined ? 0x80 : 0x88 | bit;
	return fixedSense(0x5, 0x2600, (flags << 16) | byte);
}

function nexusOf(initiator: number): Nexus {
	return {
		initiator: `initiator-${initiator}`,
		transportId: transportIdOf(initiator),
		targetPort: 1,
	};
}

const TARGET_NAA = Buffer.from("3a5c6e7f00112233", "hex");

/** A logical unit to send commands to. */
export function harness(options: HarnessOptions = {}): Harness {
	const { lun = 0, nexuses: count = 1, luns = [lun] } = options;
	const disk =
		options.disk && "bytes" in options.disk
			? options.disk
			: byteDisk(options.disk);
	const nexuses = Array.from({ length: count }, (_, n) => nexusOf(n));
	const connected = new Set(nexuses);
	const aborted: (readonly Nexus[])[] = [];
	const logged: string[] = [];
	let changes = 0;

	const host: Host = {
		changed() {
			changes++;
		},
		async abort(those) {
			aborted.push([...those]);
		},
		nexuses: () => [...connected],
		luns: () => luns,
		targetPorts: () => [1],
		targetNaa: TARGET_NAA,
		findByDesignator: (designator) =>
			options.peers?.get(designator.toString("hex")),
		store:
			options.store === null ? undefined : (options.store ?? memoryStore()),
	};
	const lu = createLogicalUnit({
		lun,
		medium: disk,
		host,
		log: (line) => logged.push(line),
	});
	const arrive = (nexus: Nexus): void => {
		lu.nexusCame(nexus);
		if (!options.keepAttentions) lu.attentions.take(nexus);
	};
	for (const nexus of nexuses) arrive(nexus);

	const at = (number: number): Nexus => {
		const nexus = nexuses[number];
		assert(nexus, `no nexus ${number}`);
		return nexus;
	};
	return {
		lu,
		disk,
		host,
		nexuses,
		aborted,
		logged,
		changes: () => changes,
		send: (number, cdb, sending = {}) => send(lu, at(number), cdb, sending),
		disconnect(number) {
			connected.delete(at(number));
			lu.nexusGone(at(number));
		},
		connect(initiator) {
			const nexus =
				initiator === undefined
					? nexusOf(nexuses.length)
					: { ...at(initiator) };
			nexuses.push(nexus);
			connected.add(nexus);
			arrive(nexus);
			return nexuses.length - 1;
		},
	};
}

/** A command as it would come out of a ring, and how much of its data-out was read. */
export function commandOf(
	nexus: Nexus,
	cdb: readonly number[] | Buffer,
	options: SendOptions = {},
): { command: Command; consumed: () => number } {
	const { dataOut = Buffer.alloc(0), room = 0 } = options;
	const padded = Buffer.alloc(Math.max(32, cdb.length));
	padded.set(cdb);
	let consumed = 0;
	const command: Command = {
		nexus,
		cdb: padded,
		dataOutLength: dataOut.length,
		dataInLength: room,
		readDataOut(offset, length) {
			const end = offset + length;
			assert(offset >= 0 && end <= dataOut.length, "beyond data-out");
			consumed = Math.max(consumed, end);
			return Buffer.from(dataOut.subarray(offset, end));
		},
		signal: options.signal ?? new AbortController().signal,
	};
	return { command, consumed: () => consumed };
}

async function send(
	lu: LogicalUnit,
	nexus: Nexus,
	cdb: readonly number[] | Buffer,
	options: SendOptions,
): Promise<Answer> {
	const { command, consumed } = commandOf(nexus, cdb, options);
	let outcome = await lu.execute(command);
	if (outcome.kind === "transfer")
		outcome = await transfer(lu, command, outcome.transfer);
	return answerOf(lu, command, outcome, consumed());
}

/** An outcome as the initiator sees it; `consumed` are the bytes of data-out that were read. */
export function answerOf(
	lu: LogicalUnit,
	command: Command,
	outcome: Outcome,
	consumed = 0,
): Answer {
	assert.notEqual(outcome.kind, "transfer");
	const data =
		"data" in outcome && outcome.data ? outcome.data : Buffer.alloc(0);
	assert(data.length <= command.dataInLength, "more data than room");
	const residual =
		command.dataInLength - data.length + command.dataOutLength - consumed;
	const base = { data, residual, overrun: outcome.kind === "overrun" };
	if (outcome.kind === "status") return { ...base, status: outcome.status };
	if (outcome.kind !== "check") return { ...base, status: STATUS.GOOD };
	const sense = encodeSense(outcome.sense, lu.descriptorSense);
	return { ...base, status: STATUS.CHECK_CONDITION, sense };
}

/** What C does with a read or write. */
async function transfer(
	lu: LogicalUnit,
	command: Command,
	{ op, lba, blocks, durable }: Transfer,
): Promise<Outcome> {
	const { medium } = lu;
	const bytes = blocks * medium.blockSize;
	const room = op === "read" ? command.dataInLength : command.dataOutLength;
	assert(bytes <= room, "a transfer longer than the buffer");
	assert(lba + blocks <= medium.numBlocks, "a transfer beyond the end");
	try {
		const parts: Buffer[] = [];
		for (let done = 0; done < blocks; ) {
			const step = Math.min(blocks - done, medium.maxBlocks);
			if (op === "read") parts.push(await medium.read(lba + done, step));
			else {
				const data = command.readDataOut(
					done * medium.blockSize,
					step * medium.blockSize,
				);
				await medium.write(lba + done, data, durable);
			}
			done += step;
		}
		return { kind: "good", data: Buffer.concat(parts) };
	} catch (error) {
		if (!(error instanceof MediumError)) throw error;
		return lu.outcomeOfFailure(command, error.errno);
	}
}
