// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { dataIn } from "./buffers.ts";
import { ascii } from "./identity.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import { type Operation, operation } from "./operation.ts";
import { invalidCdbField } from "./sense.ts";
import { VPD_PAGES, vpdPage } from "./vpd.ts";

/** VERSION: SPC-4. */
const SPC4 = 0x06;
/** HISUP, and RESPONSE DATA FORMAT 2. */
const FORMAT = 0x12;
/** TPGS 01b: implicit asymmetric access states, told by REPORT TARGET PORT GROUPS. */
const TPGS_IMPLICIT = 0x10;
/** 3PC: third-party copy commands. */
const THIRD_PARTY_COPY = 0x08;
const CMDQUE = 0x02;
const EXTENDED_COPY = 0x83;
const REVISION = "0001";
/** SAM-5, SPC-4, SBC-3; none of a certain revision. */
const VERSION_DESCRIPTORS = [0x00a0, 0x0460, 0x04c0];
const LENGTH = 96;

interface Inquiry {
	/** EVPD: the page; undefined: standard data. */
	readonly page: number | undefined;
	readonly allocation: number;
}

/** Reads an INQUIRY CDB, also of a logical unit that is not there. Throws SenseError. */
export function parseInquiry(cdb: Buffer): Inquiry {
	const evpd = (cdb.readUInt8(1) & 0x01) !== 0;
	const page = cdb.readUInt8(2);
	if (!evpd && page !== 0) throw invalidCdbField(2);
	return { page: evpd ? page : undefined, allocation: cdb.readUInt16BE(3) };
}

/** Standard INQUIRY data (SPC-4 6.6.2), as far as it is the same for a LUN that is not there. */
export function emptyInquiry(peripheral: number): Buffer {
	const out = Buffer.alloc(LENGTH);
	out.set([peripheral, 0, SPC4, FORMAT, LENGTH - 5]);
	out[7] = CMDQUE;
	out.fill(" ", 8, 36);
	return out;
}

function standardInquiry({ medium, operations }: LogicalUnit): Buffer {
	const { identity } = medium;
	const out = emptyInquiry(0x00);
	const copies = operations.some(({ opcode }) => opcode === EXTENDED_COPY);
	out[5] = TPGS_IMPLICIT | (copies ? THIRD_PARTY_COPY : 0);
	ascii(identity.vendor, 8).copy(out, 8);
	ascii(identity.product, 16).copy(out, 16);
	ascii(REVISION, 4).copy(out, 32);
	for (const [i, version] of VERSION_DESCRIPTORS.entries())
		out.writeUInt16BE(version, 58 + 2 * i);
	return out;
}

export const INQUIRY_USAGE = [0x12, 0x01, 0xff, 0xff, 0xff, 0x00] as const;

export const inquiryOperations: readonly Operation[] = [
	operation({
		opcode: 0x12,
		name: "INQUIRY",
		reference: "SPC-4 6.6",
		usage: INQUIRY_USAGE,
		access: "none",
		reservation: "allowed",
		timeout: 10,
		ignoresUnitAttention: true,
		parse: parseInquiry,
		execute(lu, command, { page, allocation }) {
			if (page === undefined)
				return dataIn(command, standardInquiry(lu), allocation);
			const found = VPD_PAGES.find(({ code }) => code === page);
			if (!found) throw invalidCdbField(2);
			return dataIn(command, vpdPage(found, lu, command.nexus), allocation);
		},
	}),
];
