// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import type { Bdev } from "./bdev.ts";
import { createStackedBackend } from "./stacked.ts";

/** In the order of enum vhc_delay. */
export const LATENCIES = [
	"avg_read",
	"p99_read",
	"avg_write",
	"p99_write",
] as const;
export type Latency = (typeof LATENCIES)[number];
/** Microseconds. */
export type Latencies = Record<Latency, number>;

/** A day. */
const MAX_US = 86_400_000_000;

export interface DelayBackend extends Backend {
	readonly kind: "delay";
	latencies(): Readonly<Latencies>;
	/** For what is submitted from now on. Throws E_INVALID. */
	setLatency(which: Latency, us: number): void;
}

export function isDelay(backend: Backend): backend is DelayBackend {
	return backend.kind === "delay";
}

function checkLatency(which: Latency, us: number): void {
	if (us <= MAX_US) return;
	throw new VhostctlError(
		"E_INVALID",
		`${which} latency ${us}: must be at most ${MAX_US} microseconds, a day`,
	);
}

/** Makes a bdev whose reads and writes take a while. Throws E_INVALID, E_NO_MEMORY. */
export function createDelayBackend(
	name: string,
	base: Bdev,
	latencies: Latencies,
	reactors: readonly number[],
): DelayBackend {
	for (const which of LATENCIES) checkLatency(which, latencies[which]);
	const now = { ...latencies };
	const backend = createStackedBackend({
		productName: "delay",
		made: { kind: "delay" },
		base,
		reactors,
		create: (handle) => native.bdevDelayCreate(handle),
		describe: () => ({
			delay: {
				name,
				base_bdev_name: base.name,
				avg_read_latency: now.avg_read,
				p99_read_latency: now.p99_read,
				avg_write_latency: now.avg_write,
				p99_write_latency: now.p99_write,
			},
		}),
	});
	const setLatency = (which: Latency, us: number) => {
		checkLatency(which, us);
		const ns = BigInt(us) * 1000n;
		native.bdevDelaySet(backend.handle, LATENCIES.indexOf(which), ns);
		now[which] = us;
	};
	for (const which of LATENCIES) setLatency(which, now[which]);
	return Object.assign(backend, {
		kind: "delay" as const,
		latencies: () => now,
		setLatency,
	});
}
