// SPDX-License-Identifier: MIT
import {
	type Engine,
	ERROR_OPERATIONS,
	isDelay,
	isError,
	VhostctlError,
} from "../../engine.ts";
import type { stackedMethods } from "../schema/stacked.ts";
import type { Checked } from "../schema.ts";
import type { Handlers } from "./context.ts";
import { identity } from "./identity.ts";

/** The error bdev of that name. Throws E_NOT_FOUND. */
function errorBackend(engine: Engine, name: string) {
	const { backend } = engine.bdevs.get(name, "error");
	if (isError(backend)) return backend;
	throw new VhostctlError("E_NOT_FOUND", `no error bdev ${name}`);
}

function delayBackend(engine: Engine, name: string) {
	const { backend } = engine.bdevs.get(name, "delay");
	if (isDelay(backend)) return backend;
	throw new VhostctlError("E_NOT_FOUND", `no delay bdev ${name}`);
}

function inject(engine: Engine, p: Checked<"bdev_error_inject_error">): true {
	const backend = errorBackend(engine, p.name);
	if (p.io_type === "clear") {
		backend.clear();
		return true;
	}
	backend.inject(p.io_type === "all" ? ERROR_OPERATIONS : [p.io_type], {
		kind: p.error_type,
		num: p.num ?? 1,
		queueDepth: p.queue_depth,
		lba: p.lba,
		numBlocks: p.num_blocks,
		probability: p.probability,
		seed: p.seed,
		corruptOffset: p.corrupt_offset,
		corruptValue: p.corrupt_value,
	});
	return true;
}

async function done(work: Promise<unknown>): Promise<true> {
	await work;
	return true;
}

export const stackedHandlers: Handlers<keyof typeof stackedMethods> = {
	async bdev_delay_create({ engine }, p) {
		const { base_bdev_name: base } = p;
		const bdev = await engine.bdevs.createDelay({
			...identity(p),
			name: p.name,
			base,
			latencies: {
				avg_read: p.avg_read_latency,
				p99_read: p.p99_read_latency,
				avg_write: p.avg_write_latency,
				p99_write: p.p99_write_latency,
			},
		});
		return bdev.name;
	},
	bdev_delay_update_latency({ engine }, p) {
		const backend = delayBackend(engine, p.delay_bdev_name);
		backend.setLatency(p.latency_type, p.latency_us);
		return true;
	},
	bdev_delay_delete: ({ engine }, { name }) =>
		done(engine.bdevs.delete(name, "delay")),
	bdev_error_create: ({ engine }, p) =>
		done(engine.bdevs.createError({ ...identity(p), base: p.base_name })),
	bdev_error_inject_error: ({ engine }, p) => inject(engine, p),
	bdev_error_resume_pending({ engine }, { name }) {
		errorBackend(engine, name).resume();
		return true;
	},
	bdev_error_delete: ({ engine }, { name }) =>
		done(engine.bdevs.delete(name, "error")),
	async bdev_passthru_create({ engine }, p) {
		const { name, base_bdev_name: base } = p;
		const bdev = await engine.bdevs.createPassthru({
			...identity(p),
			name,
			base,
		});
		return bdev.name;
	},
	bdev_passthru_delete: ({ engine }, { name }) =>
		done(engine.bdevs.delete(name, "passthru")),
	async bdev_split_create({ engine }, p) {
		const parts = await engine.bdevs.createSplit(p.base_bdev, {
			count: p.split_count,
			sizeMb: p.split_size_mb ?? 0,
		});
		return parts.map(({ name }) => name);
	},
	bdev_split_delete: ({ engine }, { base_bdev }) =>
		done(engine.bdevs.deleteSplit(base_bdev)),
};
