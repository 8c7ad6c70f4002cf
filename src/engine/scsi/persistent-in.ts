// SPDX-License-Identifier: MIT
// PERSISTENT RESERVE IN (SPC-4 6.15).
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import {
	isHolder,
	type PersistentState,
	type Registration,
	sameInitiator,
} from "./persistent-state.ts";
import { OPCODE } from "./reservation-rules.ts";

/** PRGENERATION, ADDITIONAL LENGTH, and what follows. */
function withHeader(state: PersistentState, body: Buffer): Buffer {
	const header = Buffer.alloc(8);
	header.writeUInt32BE(state.generation, 0);
	header.writeUInt32BE(body.length, 4);
	return Buffer.concat([header, body]);
}

function keyBytes(key: bigint): Buffer {
	const bytes = Buffer.alloc(8);
	bytes.writeBigUInt64BE(key);
	return bytes;
}

/** READ KEYS (6.15.2). */
function readKeys({ reservations }: LogicalUnit): Buffer {
	const state = reservations.persistent;
	const keys = state.registrations.map(({ key }) => keyBytes(key));
	return withHeader(state, Buffer.concat(keys));
}

/** READ RESERVATION (6.15.3). */
function readReservation({ reservations }: LogicalUnit): Buffer {
	const state = reservations.persistent;
	if (state.type === undefined) return withHeader(state, Buffer.alloc(0));
	const body = Buffer.alloc(16);
	// Zero where all registrants hold it.
	const key = state.registrations.find((each) => each.holds)?.key ?? 0n;
	body.writeBigUInt64BE(key, 0);
	body.writeUInt8(state.type, 13); // SCOPE is LU_SCOPE: zero
	return withHeader(state, body);
}

const CRH = 0x10;
const SIP_C = 0x08;
const ATP_C = 0x04;
const PTPL_C = 0x01;
const TMV = 0x80;
/** TEST UNIT READY passes all reservations; nothing is said of other commands. */
const ALLOW_COMMANDS = 0x10;
const PTPL_A = 0x01;
/** All six: WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX; EX_AC_AR. */
const TYPE_MASK = [0xea, 0x01];

/** REPORT CAPABILITIES (6.15.4). */
function reportCapabilities({ reservations }: LogicalUnit): Buffer {
	const { persistsThroughPowerLoss, persistent } = reservations;
	return Buffer.from([
		...[0, 8],
		CRH | SIP_C | ATP_C | (persistsThroughPowerLoss ? PTPL_C : 0),
		TMV | ALLOW_COMMANDS | (persistent.aptpl ? PTPL_A : 0),
		...TYPE_MASK,
		...[0, 0],
	]);
}

/** Whether ALL_TG_PT registered an initiator port, and its nexuses have not become different since. */
function isUniform(
	state: PersistentState,
	one: Registration,
	ports: readonly number[],
): boolean {
	const alike = state.registrations.filter(
		(each) =>
			sameInitiator(each, one) &&
			each.allPorts &&
			each.key === one.key &&
			isHolder(state, each) === isHolder(state, one),
	);
	return ports.every((port) => alike.some((each) => each.targetPort === port));
}

function fullStatus(
	state: PersistentState,
	registration: Registration,
	forAll: boolean,
): Buffer {
	const id = Buffer.from(registration.transportId, "hex");
	const header = Buffer.alloc(24);
	const holder = isHolder(state, registration);
	header.writeBigUInt64BE(registration.key, 0);
	header.writeUInt8((forAll ? 0x02 : 0) | (holder ? 0x01 : 0), 12);
	if (holder) header.writeUInt8(state.type ?? 0, 13);
	// Without meaning where one descriptor stands for all ports.
	header.writeUInt16BE(forAll ? 0 : registration.targetPort, 18);
	header.writeUInt32BE(id.length, 20);
	return Buffer.concat([header, id]);
}

/** READ FULL STATUS (6.15.5): a descriptor a nexus, or one for all ports of an ALL_TG_PT. */
function readFullStatus({ reservations, host }: LogicalUnit): Buffer {
	const state = reservations.persistent;
	const ports = host.targetPorts();
	const told: Registration[] = [];
	const descriptors: Buffer[] = [];
	for (const each of state.registrations) {
		const forAll = isUniform(state, each, ports);
		if (forAll && told.some((one) => sameInitiator(one, each))) continue;
		if (forAll) told.push(each);
		descriptors.push(fullStatus(state, each, forAll));
	}
	return withHeader(state, Buffer.concat(descriptors));
}

function inOperation(
	serviceAction: number,
	name: string,
	report: (lu: LogicalUnit) => Buffer,
): Operation {
	return operation<number>({
		opcode: OPCODE.PERSISTENT_RESERVE_IN,
		serviceAction,
		name: `PERSISTENT RESERVE IN: ${name}`,
		reference: "SPC-4 6.15",
		usage: [
			...[OPCODE.PERSISTENT_RESERVE_IN, serviceAction, 0, 0, 0, 0, 0],
			...[0xff, 0xff, 0],
		],
		access: "none",
		reservation: "allowed",
		timeout: 10,
		parse: (cdb) => cdb.readUInt16BE(7),
		execute: (lu, command, length) => dataIn(command, report(lu), length),
	});
}

export const persistentInOperations: readonly Operation[] = [
	inOperation(0x00, "READ KEYS", readKeys),
	inOperation(0x01, "READ RESERVATION", readReservation),
	inOperation(0x02, "REPORT CAPABILITIES", reportCapabilities),
	inOperation(0x03, "READ FULL STATUS", readFullStatus),
];
