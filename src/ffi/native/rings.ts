// SPDX-License-Identifier: MIT
// Rings, of both sides, with their statistics, traces and what is in flight.
import { Buffer } from "node:buffer";
import { decode, encode, LAYOUTS, type StructOf } from "../layout.ts";
import { check, library, produce, produceStruct } from "./call.ts";
import { decodeIov, type Iov } from "./memory.ts";

/** A chain popped from a ring: the pieces that the device reads, and writes. */
export interface Chain {
	head: number;
	out: Iov[];
	in: Iov[];
	outLength: bigint;
	inLength: bigint;
}

function decodeChain(buffer: Buffer): Chain {
	const chain = decode("vhc_chain", buffer);
	const { size } = LAYOUTS.vhc_iov;
	const start = LAYOUTS.vhc_chain.offsets.iov;
	return {
		head: chain.head,
		out: decodeIov(buffer, start, chain.num_out),
		in: decodeIov(buffer, start + chain.num_out * size, chain.num_in),
		outLength: chain.out_len,
		inLength: chain.in_len,
	};
}

export const rings = {
	statsAlloc: () => produce((out) => check("vhc_stats_alloc", out)),
	statsFree: (addr: bigint) => library().call("vhc_stats_free", addr),

	/** size: a power of two from TRACE_MIN_SIZE to TRACE_MAX_SIZE. */
	traceCreate: (size: number) =>
		produce((out) => check("vhc_trace_create", size, out)),
	/** The last records, up to max, oldest first, and what time it is. */
	traceRead: (trace: bigint, max: number) => {
		const bytes = LAYOUTS.vhc_trace_record.size;
		const records = Buffer.alloc(max * bytes);
		const now = Buffer.alloc(8);
		const n = check("vhc_trace_read", trace, records, max, now);
		return {
			nowNs: now.readBigUInt64LE(),
			records: Array.from({ length: n }, (_, i) =>
				decode("vhc_trace_record", records, i * bytes),
			),
		};
	},
	traceRelease: (trace: bigint) => library().call("vhc_trace_release", trace),

	inflightBytes: (numQueues: number, queueSize: number, packed: boolean) =>
		BigInt(check("vhc_inflight_bytes", numQueues, queueSize, packed ? 1 : 0)),
	inflightCreate: (config: StructOf<"vhc_inflight_config">) =>
		produce((out) =>
			check("vhc_inflight_create", encode("vhc_inflight_config", config), out),
		),
	/** enum vhc_damage, or 0. */
	inflightDamage: (inflight: bigint): number =>
		library().call("vhc_inflight_damage", inflight),
	inflightRelease: (inflight: bigint) =>
		library().call("vhc_inflight_release", inflight),

	ringCreate: (config: StructOf<"vhc_ring_config">) =>
		produce((out) =>
			check("vhc_ring_create", encode("vhc_ring_config", config), out),
		),
	/** The next chain, or undefined if none waits. */
	ringPop: (ring: bigint): Chain | undefined => {
		const chain = Buffer.alloc(LAYOUTS.vhc_chain.size);
		const found = check("vhc_ring_pop", ring, chain) === 1;
		return found ? decodeChain(chain) : undefined;
	},
	ringPush: (ring: bigint, head: number, len: number) =>
		check("vhc_ring_push", ring, head, len),
	/** trace: 0n for none. */
	ringSetTrace: (ring: bigint, trace: bigint) =>
		check("vhc_ring_set_trace", ring, trace),
	ringSignal: (ring: bigint) => check("vhc_ring_signal", ring) === 1,
	ringNotify: (ring: bigint, enable: boolean) =>
		check("vhc_ring_notify", ring, enable ? 1 : 0) === 1,
	ringBase: (ring: bigint) => library().call("vhc_ring_base", ring),
	ringRelease: (ring: bigint) => library().call("vhc_ring_release", ring),

	driverRingLayout: (size: number, features: bigint) =>
		produceStruct("vhc_driver_ring_layout", (out) =>
			check("vhc_driver_ring_layout", size, features, out),
		),
	driverRingCreate: (config: Partial<StructOf<"vhc_driver_ring_config">>) =>
		produce((out) =>
			check(
				"vhc_driver_ring_create",
				encode("vhc_driver_ring_config", config),
				out,
			),
		),
	driverRingAdd: (
		ring: bigint,
		out: readonly Iov[],
		into: readonly Iov[],
		token: bigint,
	) =>
		check(
			"vhc_driver_ring_add",
			ring,
			Buffer.concat([...out, ...into].map((iov) => encode("vhc_iov", iov))),
			out.length,
			into.length,
			token,
		),
	driverRingKick: (ring: bigint) => check("vhc_driver_ring_kick", ring) === 1,
	/** The next used chain, or undefined if there is none. */
	driverRingGet: (ring: bigint): { token: bigint; len: number } | undefined => {
		const token = Buffer.alloc(8);
		const len = Buffer.alloc(4);
		if (check("vhc_driver_ring_get", ring, token, len) === 0) return undefined;
		return { token: token.readBigUInt64LE(), len: len.readUInt32LE() };
	},
	driverRingWait: (ring: bigint, timeoutMs: number) =>
		check("vhc_driver_ring_wait", ring, timeoutMs) === 1,
	driverRingRelease: (ring: bigint) =>
		library().call("vhc_driver_ring_release", ring),
};
