// SPDX-License-Identifier: MIT
// virtio-scsi's layouts: configuration space, addresses, control requests, events.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { VIRTIO_SCSI_F } from "../../src/engine/virtio/features.ts";
import {
	decodeAddress,
	encodeAddress,
} from "../../src/engine/virtio/scsi-address.ts";
import {
	SCSI_RESPONSE,
	TASK_ATTRIBUTE,
	TMF,
} from "../../src/engine/virtio/scsi-codes.ts";
import {
	DEFAULT_SIZES,
	decodeScsiConfigWrite,
	EVENT_BYTES,
	encodeScsiConfig,
	SCSI_CONFIG_BYTES,
} from "../../src/engine/virtio/scsi-config.ts";
import {
	decodeControl,
	encodeNotificationsResponse,
	encodeTmfResponse,
} from "../../src/engine/virtio/scsi-control.ts";
import { encodeEvent } from "../../src/engine/virtio/scsi-events.ts";
import { makeTempDir, removeTempDir } from "../support/processes.ts";

const folder = makeTempDir();
after(() => removeTempDir(folder));

/** What C expressions over linux/virtio_scsi.h are, by their text. */
function askKernel(expressions: readonly string[]): number[] {
	const source = join(folder, "ask.c");
	const program = join(folder, "ask");
	const lines = expressions.map(
		(text) => `printf("%llu\\n", (unsigned long long)(${text}));`,
	);
	writeFileSync(
		source,
		`#include <stddef.h>\n#include <stdio.h>\n#include <linux/virtio_scsi.h>\nint main(void) {\n${lines.join("\n")}\nreturn 0; }\n`,
	);
	execFileSync("gcc", ["-o", program, source]);
	const out = execFileSync(program, { encoding: "utf8" });
	return out.trim().split("\n").map(Number);
}

test("numbers are the kernel header's", () => {
	const { OK, HEAD, SIMPLE, ORDERED, ACA } = {
		...SCSI_RESPONSE,
		...TASK_ATTRIBUTE,
	};
	const names: Record<string, number> = {
		VIRTIO_SCSI_S_OK: OK,
		VIRTIO_SCSI_S_SIMPLE: SIMPLE,
		VIRTIO_SCSI_S_ORDERED: ORDERED,
		VIRTIO_SCSI_S_HEAD: HEAD,
		VIRTIO_SCSI_S_ACA: ACA,
		VIRTIO_SCSI_SENSE_DEFAULT_SIZE: DEFAULT_SIZES.senseSize,
		VIRTIO_SCSI_CDB_DEFAULT_SIZE: DEFAULT_SIZES.cdbSize,
		"sizeof(struct virtio_scsi_config)": SCSI_CONFIG_BYTES,
		"sizeof(struct virtio_scsi_event)": EVENT_BYTES,
		"offsetof(struct virtio_scsi_config, sense_size)": 20,
		"offsetof(struct virtio_scsi_config, cdb_size)": 24,
		"sizeof(struct virtio_scsi_ctrl_tmf_req)": 24,
		"sizeof(struct virtio_scsi_ctrl_an_req)": 16,
		"sizeof(struct virtio_scsi_ctrl_an_resp)": 5,
	};
	for (const [name, value] of Object.entries(SCSI_RESPONSE))
		names[`VIRTIO_SCSI_S_${name}`] = value;
	for (const [name, value] of Object.entries(TMF))
		names[`VIRTIO_SCSI_T_TMF_${name}`] = value;
	for (const [name, bit] of Object.entries(VIRTIO_SCSI_F))
		names[`1ull << VIRTIO_SCSI_F_${name}`] = Number(bit);
	assert.deepEqual(askKernel(Object.keys(names)), Object.values(names));
});

test("the configuration space", () => {
	const space = encodeScsiConfig(254, { senseSize: 96, cdbSize: 32 });
	assert.equal(space.length, 256);
	const words = Array.from({ length: 7 }, (_, i) => space.readUInt32LE(4 * i));
	assert.deepEqual(words, [254, 126, 8192, 128, 16, 96, 32]);
	assert.equal(space.readUInt16LE(28), 0);
	assert.equal(space.readUInt16LE(30), 255);
	assert.equal(space.readUInt32LE(32), 255);
	assert(space.subarray(36).every((byte) => byte === 0));
});

const word = (...values: number[]) => {
	const out = Buffer.alloc(4 * values.length);
	for (const [i, value] of values.entries()) out.writeUInt32LE(value, 4 * i);
	return out;
};

test("a driver writes the two sizes, and nothing else", () => {
	const write = (offset: number, data: Buffer) =>
		decodeScsiConfigWrite(DEFAULT_SIZES, offset, data);
	assert.deepEqual(write(20, word(252)), { senseSize: 252, cdbSize: 32 });
	assert.deepEqual(write(20, word(0)), { senseSize: 0, cdbSize: 32 });
	assert.deepEqual(write(24, word(260)), { senseSize: 96, cdbSize: 260 });
	assert.deepEqual(write(24, word(6)), { senseSize: 96, cdbSize: 6 });
	assert.deepEqual(write(20, word(18, 16)), { senseSize: 18, cdbSize: 16 });
	const bad: [number, Buffer][] = [
		[20, word(253)],
		[24, word(5)],
		[24, word(261)],
		[24, word(0xffffffff)],
		[20, Buffer.alloc(2)],
		[21, word(96)],
		[22, word(96, 32).subarray(0, 6)],
		[16, word(16, 96)],
		[24, word(32, 0)],
		[0, word(1)],
		[28, word(0)],
		[20, Buffer.alloc(0)],
	];
	for (const [offset, data] of bad)
		assert.throws(
			() => write(offset, data),
			{ code: "E_INVALID" },
			`${offset}`,
		);
});

const bytes = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

test("addresses: single level LUNs, the well known one, and nonsense", () => {
	const unit = (target: number, lun: number) => ({ kind: "unit", target, lun });
	const table: [string, object][] = [
		["01 05 00 07 00000000", unit(5, 7)],
		["01 ff 40 ff 00000000", unit(255, 255)],
		["01 00 7f ff 00000000", unit(0, 16383)],
		["01 00 41 00 00000000", unit(0, 256)],
		["c1 01 00 00 00000000", { kind: "report-luns" }],
		["c1 01 00 01 00000000", { kind: "invalid" }],
		["c1 02 00 00 00000000", { kind: "invalid" }],
		["01 05 01 07 00000000", { kind: "invalid" }],
		["01 05 80 07 00000000", { kind: "invalid" }],
		["01 05 c1 01 00000000", { kind: "invalid" }],
		["01 05 00 07 00000001", { kind: "invalid" }],
		["00 00 00 00 00000000", { kind: "invalid" }],
		["02 05 00 07 00000000", { kind: "invalid" }],
	];
	for (const [text, expected] of table)
		assert.deepEqual(decodeAddress(bytes(text)), expected, text);
	assert.deepEqual(decodeAddress(Buffer.alloc(7, 1)), { kind: "invalid" });
	for (const lun of [0, 7, 255, 256, 16383])
		assert.deepEqual(decodeAddress(encodeAddress(3, lun)), unit(3, lun));
	assert.deepEqual(encodeAddress(3, 255), bytes("01 03 00 ff 00000000"));
});

test("control requests", () => {
	const lun = "0105400700000000";
	const tmf = bytes(`00000000 05000000 ${lun} efcdab8967452301`);
	assert.deepEqual(decodeControl(tmf, 1), {
		kind: "tmf",
		subtype: 5,
		lun: bytes(lun),
		tag: 0x0123456789abcdefn,
	});
	for (const type of ["01000000", "02000000"])
		assert.deepEqual(decodeControl(bytes(`${type} ${lun} 10000000`), 5), {
			kind: "notifications",
			lun: bytes(lun),
			requested: 16,
		});
	for (let length = 0; length < tmf.length; length++)
		assert.equal(decodeControl(tmf.subarray(0, length), 1), undefined);
	assert.equal(decodeControl(tmf, 0), undefined, "no room for the answer");
	const query = bytes(`01000000 ${lun} 10000000`);
	for (let length = 0; length < query.length; length++)
		assert.equal(decodeControl(query.subarray(0, length), 5), undefined);
	for (let room = 0; room < 5; room++)
		assert.equal(decodeControl(query, room), undefined);
	assert.equal(decodeControl(bytes(`03000000 ${lun} ${lun}`), 5), undefined);
	assert.deepEqual(encodeTmfResponse(12), bytes("0c"));
	assert.deepEqual(encodeNotificationsResponse(2, 3), bytes("0200000003"));
});

test("events", () => {
	const at = { target: 9, lun: 200 };
	assert.deepEqual(
		encodeEvent({ kind: "added", ...at }),
		bytes("01000000 010900c800000000 01000000"),
	);
	assert.deepEqual(
		encodeEvent({ kind: "removed", ...at }),
		bytes("01000000 010900c800000000 02000000"),
	);
	assert.deepEqual(
		encodeEvent({ kind: "changed", ...at, asc: 0x2a09 }),
		bytes("03000000 010900c800000000 2a090000"),
	);
	assert.deepEqual(
		encodeEvent({ kind: "missed" }),
		bytes("00000080 0000000000000000 00000000"),
	);
});
