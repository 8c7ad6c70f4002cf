// SPDX-License-Identifier: MIT
// The load generator.
import { Buffer } from "node:buffer";
import { encode, type StructOf } from "../layout.ts";
import { check, library, produce, produceStruct } from "./call.ts";

function packHandles(handles: readonly bigint[]): Buffer {
	const buffer = Buffer.alloc(8 * handles.length);
	for (const [i, handle] of handles.entries())
		buffer.writeBigUInt64LE(handle, 8 * i);
	return buffer;
}

export const loads = {
	loadBufferBytes: (
		device: number,
		blockSize: number,
		iodepth: number,
		numRings: number,
	) =>
		BigInt(
			check("vhc_load_buffer_bytes", device, blockSize, iodepth, numRings),
		),
	loadCreate: (
		upcalls: bigint,
		config: Partial<StructOf<"vhc_load_config">>,
		rings: readonly bigint[],
	) => {
		const packed = encode("vhc_load_config", config);
		return produce((out) =>
			check(
				"vhc_load_create",
				upcalls,
				packed,
				packHandles(rings),
				rings.length,
				out,
			),
		);
	},
	loadStart: (load: bigint) => check("vhc_load_start", load),
	loadStop: (load: bigint) => library().call("vhc_load_stop", load),
	loadResult: (load: bigint) =>
		produceStruct("vhc_load_result", (out) =>
			check("vhc_load_result", load, out),
		),
	loadRelease: (load: bigint) => library().call("vhc_load_release", load),
};
