// SPDX-License-Identifier: MIT
// Vital product data (SPC-4 7.8, SBC-3 6.5).
import { Buffer } from "node:buffer";
import {
	ascii,
	lunDesignations,
	portDesignations,
	portNameDesignation,
	targetDesignations,
} from "./identity.ts";
import * as limits from "./limits.ts";
import type { LogicalUnit } from "./logical-unit.ts";
import type { Identity, Nexus } from "./task.ts";

export interface VpdPage {
	readonly code: number;
	readonly name: string;
	/** What follows the four bytes of header. */
	body(lu: LogicalUnit, nexus: Nexus): Buffer;
}

/** VPD pages, in ascending order. */
export const VPD_PAGES: readonly VpdPage[] = [
	{
		code: 0x00,
		name: "Supported VPD Pages",
		body: () => Buffer.from(VPD_PAGES.map(({ code }) => code)),
	},
	{
		code: 0x80,
		name: "Unit Serial Number",
		body: (lu) => serialNumber(lu.medium.identity),
	},
	{
		code: 0x83,
		name: "Device Identification",
		body: ({ medium, host }, nexus) =>
			Buffer.concat([
				lunDesignations(medium.identity),
				portDesignations(host, nexus.targetPort),
				targetDesignations(host),
			]),
	},
	{ code: 0x86, name: "Extended INQUIRY Data", body: extendedInquiry },
	{
		code: 0x87,
		name: "Mode Page Policy",
		// All pages and subpages are shared by all initiators.
		body: () => Buffer.from([0x3f, 0xff, 0x00, 0x00]),
	},
	{ code: 0x88, name: "SCSI Ports", body: scsiPorts },
	{ code: 0xb0, name: "Block Limits", body: blockLimits },
	{
		code: 0xb1,
		name: "Block Device Characteristics",
		body: blockCharacteristics,
	},
	{ code: 0xb2, name: "Logical Block Provisioning", body: provisioning },
];

/** A whole page. */
export function vpdPage(page: VpdPage, lu: LogicalUnit, nexus: Nexus): Buffer {
	const body = page.body(lu, nexus);
	const header = Buffer.from([0, page.code, 0, 0]);
	header.writeUInt16BE(body.length, 2);
	return Buffer.concat([header, body]);
}

/** At an offset of the page as the standards count, in a body. */
const at = (offset: number): number => offset - 4;

/** A space, if there is none: the page is not to be empty. */
function serialNumber({ serial }: Identity): Buffer {
	return ascii(serial || " ", Math.max(1, serial.length));
}

function extendedInquiry({ medium }: LogicalUnit): Buffer {
	const out = Buffer.alloc(60);
	// SIMPSUP: the SIMPLE task attribute, no other.
	out[at(5)] = 0x01;
	// V_SUP: there is a volatile cache.
	out[at(6)] = medium.supports.flush ? 0x01 : 0;
	return out;
}

function scsiPorts({ host }: LogicalUnit): Buffer {
	const ports = host.targetPorts().map((port) => {
		const name = portNameDesignation(host, port);
		const head = Buffer.alloc(12);
		head.writeUInt16BE(port, 2);
		head.writeUInt16BE(name.length, 10);
		return Buffer.concat([head, name]);
	});
	return Buffer.concat([Buffer.alloc(0), ...ports]);
}

function blockLimits({ medium }: LogicalUnit): Buffer {
	const out = Buffer.alloc(60);
	const granularity = limits.blocksPerPhysical(medium);
	// WSNZ: WRITE SAME of no blocks does not mean "to the end".
	out[at(4)] = 0x01;
	out[at(5)] = limits.maxCompareAndWriteBlocks(medium);
	out.writeUInt16BE(granularity, at(6));
	out.writeUInt32BE(limits.maxTransferBlocks(medium), at(8));
	if (medium.supports.unmap) {
		out.writeUInt32BE(limits.maxUnmapBlocks(medium), at(20));
		out.writeUInt32BE(limits.MAX_UNMAP_DESCRIPTORS, at(24));
		out.writeUInt32BE(granularity, at(28));
		// UGAVALID, alignment zero.
		out.writeUInt32BE(0x8000_0000, at(32));
	}
	out.writeBigUInt64BE(BigInt(limits.maxWriteSameBlocks(medium)), at(36));
	return out;
}

function blockCharacteristics({ operations }: LogicalUnit): Buffer {
	const out = Buffer.alloc(60);
	const erases = operations.some(
		({ opcode, serviceAction }) => opcode === 0x48 && serviceAction === 0x02,
	);
	// MEDIUM ROTATION RATE: non-rotating.
	out.writeUInt16BE(1, at(4));
	// WABEREQ 01b: after SANITIZE, BLOCK ERASE blocks can be read though not written since.
	if (erases) out[at(7)] = 0x40;
	// FUAB: FUA and SYNCHRONIZE CACHE are as SBC-3 has them. VBULS: VERIFY compares
	// blocks that are not mapped, as zeroes.
	out[at(8)] = 0x03;
	return out;
}

function provisioning({ medium }: LogicalUnit): Buffer {
	const LBPU = 0x80;
	const LBPWS = 0x40;
	const LBPWS10 = 0x20;
	const LBPRZ = 0x04;
	const THIN = 2;
	const out = Buffer.alloc(4);
	// DP is zero: no provisioning group descriptor follows, whatever the next byte says.
	if (medium.supports.unmap) {
		out[at(5)] = LBPU | LBPWS | LBPWS10 | LBPRZ;
		out[at(6)] = THIN;
	}
	return out;
}
