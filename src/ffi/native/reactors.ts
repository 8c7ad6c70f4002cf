// SPDX-License-Identifier: MIT
// Reactors, and what they serve rings with: virtio-blk, logical units, requests that went up.
import { Buffer } from "node:buffer";
import { encode, type StructOf } from "../layout.ts";
import { check, library, NativeError, produce } from "./call.ts";

export const reactors = {
	blkCreate: (config: StructOf<"vhc_blk_config">) =>
		produce((out) =>
			check("vhc_blk_create", encode("vhc_blk_config", config), out),
		),
	blkSetWriteback: (blk: bigint, writeback: boolean) =>
		library().call("vhc_blk_set_writeback", blk, writeback ? 1 : 0),
	blkRelease: (blk: bigint) => library().call("vhc_blk_release", blk),

	lunCreate: (config: StructOf<"vhc_lun_config">) =>
		produce((out) =>
			check("vhc_lun_create", encode("vhc_lun_config", config), out),
		),
	lunSetGates: (lun: bigint, read: number, write: number) =>
		library().call("vhc_lun_set_gates", lun, read, write),
	lunSetWriteback: (lun: bigint, writeback: boolean) =>
		library().call("vhc_lun_set_writeback", lun, writeback ? 1 : 0),
	lunRelease: (lun: bigint) => library().call("vhc_lun_release", lun),

	/** What the device may read of a request, from offset on, up to len bytes. */
	requestRead: (request: bigint, offset: number, len: number): Buffer => {
		const buffer = Buffer.alloc(len);
		if (len === 0) return buffer;
		const count = check(
			"vhc_request_read",
			request,
			BigInt(offset),
			buffer,
			len,
		);
		return buffer.subarray(0, count);
	},
	/** Returns how many bytes of data found room. */
	requestWrite: (request: bigint, offset: number, data: Uint8Array): number =>
		data.length === 0
			? 0
			: check("vhc_request_write", request, BigInt(offset), data, data.length),
	requestComplete: (
		request: bigint,
		result: Partial<StructOf<"vhc_scsi_result">>,
	) =>
		library().call(
			"vhc_request_complete",
			request,
			encode("vhc_scsi_result", result),
		),
	requestCompleteRaw: (request: bigint, written: number) =>
		library().call("vhc_request_complete_raw", request, written),
	requestExecute: (
		request: bigint,
		op: number,
		flags: number,
		offset: bigint,
		len: bigint,
	) => library().call("vhc_request_execute", request, op, flags, offset, len),

	reactorCreate: (
		upcalls: bigint,
		config: StructOf<"vhc_reactor_config">,
	): { handle: bigint; stats: bigint } => {
		const stats = Buffer.alloc(8);
		const packed = encode("vhc_reactor_config", config);
		const handle = produce((out) =>
			check("vhc_reactor_create", upcalls, packed, out, stats),
		);
		return { handle, stats: stats.readBigUInt64LE() };
	},
	reactorStartBlkRing: (
		reactor: bigint,
		ring: bigint,
		blk: bigint,
		bdevStats: bigint,
	) => check("vhc_reactor_start_blk_ring", reactor, ring, blk, bdevStats),
	reactorStartScsiRing: (
		reactor: bigint,
		ring: bigint,
		config: StructOf<"vhc_scsi_config">,
	) =>
		check(
			"vhc_reactor_start_scsi_ring",
			reactor,
			ring,
			encode("vhc_scsi_config", config),
		),
	reactorStartRawRing: (reactor: bigint, ring: bigint) =>
		check("vhc_reactor_start_raw_ring", reactor, ring),
	reactorStartEventRing: (reactor: bigint, ring: bigint) =>
		check("vhc_reactor_start_event_ring", reactor, ring),
	/** event: 16 bytes. False: there was no buffer for it. */
	reactorSendEvent: (reactor: bigint, ring: bigint, event: Uint8Array) =>
		check("vhc_reactor_send_event", reactor, ring, event) === 1,
	reactorAttachLun: (
		reactor: bigint,
		ring: bigint,
		address: number,
		lun: bigint,
		bdevStats: bigint,
	) => check("vhc_reactor_attach_lun", reactor, ring, address, lun, bdevStats),
	reactorHoldLun: (reactor: bigint, ring: bigint, address: number) =>
		check("vhc_reactor_hold_lun", reactor, ring, address),
	reactorResumeLun: (reactor: bigint, ring: bigint, address: number) =>
		check("vhc_reactor_resume_lun", reactor, ring, address),
	reactorDetachLun: (reactor: bigint, ring: bigint, address: number) =>
		check("vhc_reactor_detach_lun", reactor, ring, address),
	reactorAbort: (reactor: bigint, ring: bigint, abort: StructOf<"vhc_abort">) =>
		check("vhc_reactor_abort", reactor, ring, encode("vhc_abort", abort)),
	reactorSetMem: (
		reactor: bigint,
		ring: bigint,
		mem: bigint,
		refuse: boolean,
	) => check("vhc_reactor_set_mem", reactor, ring, mem, refuse ? 1 : 0),
	reactorSetCoalescing: (
		reactor: bigint,
		ring: bigint,
		delayBaseNs: bigint,
		iopsThreshold: bigint,
	) =>
		check(
			"vhc_reactor_set_coalescing",
			reactor,
			ring,
			delayBaseNs,
			iopsThreshold,
		),

	ioSubmit: (reactor: bigint, config: Partial<StructOf<"vhc_io_config">>) =>
		check("vhc_io_submit", reactor, encode("vhc_io_config", config)),
	/** Also of one that has ended. */
	ioCancel(reactor: bigint, id: number): void {
		try {
			check("vhc_io_cancel", reactor, id);
		} catch (error) {
			if (!(error instanceof NativeError && error.code === "ENOENT"))
				throw error;
		}
	},

	reactorStopRing: (reactor: bigint, ring: bigint) =>
		check("vhc_reactor_stop_ring", reactor, ring),
	reactorRelease: (reactor: bigint) => check("vhc_reactor_release", reactor),
};
