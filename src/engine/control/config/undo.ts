// SPDX-License-Identifier: MIT
// Taking back what calls of a configuration made.
import {
	type Bdev,
	type Engine,
	isDelay,
	LATENCIES,
	type ScsiController,
} from "../../engine.ts";
import { internalsOf } from "../../engine-internals.ts";
import { messageOf } from "../../errors.ts";
import { describeRunning } from "../describe.ts";
import { type Call, call } from "../describe-call.ts";
import { describeUnsaved } from "../describe-unsaved.ts";
import { METHODS, type MethodName } from "../schema.ts";
import type { AnyCall } from "./document.ts";
import type { Maker } from "./maker.ts";

/** How a setting is made what it is at first, where a description has no call for that. */
const RESETS: Readonly<
	Record<string, (params: AnyCall["params"]) => Record<string, unknown>>
> = {
	bdev_set_qos_limit: ({ name }) => ({
		name,
		rw_ios_per_sec: 0,
		rw_mbytes_per_sec: 0,
		r_mbytes_per_sec: 0,
		w_mbytes_per_sec: 0,
	}),
	bdev_error_inject_error: ({ name }) => ({
		name,
		io_type: "clear",
		error_type: "failure",
	}),
	bdev_set_qd_sampling_period: ({ name }) => ({ name, period: 0 }),
	bdev_enable_histogram: ({ name }) => ({ name, enable: false }),
	vhost_controller_set_coalescing: ({ ctrlr }) => ({
		ctrlr,
		delay_base_us: 0,
		iops_threshold: 60_000,
	}),
	vhostctl_set_trace: ({ ctrlr }) => ({ ctrlr, size: 0 }),
};

/** The latencies of delay bdevs, which are described where those are made. */
function latencyCalls({ bdevs }: Engine): Call[] {
	return bdevs.list().flatMap(({ name, backend }) =>
		isDelay(backend)
			? LATENCIES.map((which) =>
					call("bdev_delay_update_latency", {
						delay_bdev_name: name,
						latency_type: which,
						latency_us: backend.latencies()[which],
					}),
				)
			: [],
	);
}

/** What there is at a moment. */
interface Inventory {
	readonly bdevs: ReadonlySet<Bdev>;
	readonly controllers: ReadonlySet<unknown>;
	/** Of SCSI controllers: their logical units. */
	readonly luns: ReadonlyMap<unknown, ReadonlySet<string>>;
	readonly settings: readonly Call[];
}

function isSetting(method: MethodName): boolean {
	return METHODS[method].effect === "sets";
}

function lunsOf(controller: ScsiController) {
	return controller
		.targets()
		.flatMap(({ number, luns }) =>
			luns.map(({ lun }) => ({ target: number, lun, key: `${number}:${lun}` })),
		);
}

function takeInventory(engine: Engine): Inventory {
	const controllers = engine.controllers();
	const luns = new Map(
		controllers.flatMap((one) =>
			one.kind === "scsi"
				? [[one, new Set(lunsOf(one).map(({ key }) => key))] as const]
				: [],
		),
	);
	return {
		bdevs: new Set(engine.bdevs.list()),
		controllers: new Set(controllers),
		luns,
		settings: [
			...describeRunning(engine),
			...describeUnsaved(engine),
			...latencyCalls(engine),
		].filter(({ method }) => isSetting(method)),
	};
}

/** Deletes what is not in the inventory; front ends that came to it lose it. */
async function deleteNew(engine: Engine, before: Inventory): Promise<void> {
	const { served } = internalsOf(engine);
	for (const controller of engine.controllers()) {
		if (!before.controllers.has(controller)) {
			await served.remove(controller.name, true);
			continue;
		}
		if (controller.kind !== "scsi") continue;
		const kept = before.luns.get(controller);
		for (const { target, lun, key } of lunsOf(controller))
			if (!kept?.has(key))
				await engine.removeScsiLun(controller.name, target, lun);
	}
	// What stands on others was made after them.
	for (const bdev of engine.bdevs.list().reverse())
		if (!before.bdevs.has(bdev) && !bdev.removing)
			await engine.bdevs.delete(bdev.name);
}

/**
 * Remembers what there is. The result brings it back, after the given calls had been carried
 * out: deletes what is new, and sets what they set as it was.
 */
export function rememberConfig({
	engine,
	call: carryOut,
}: Maker): (carried: readonly AnyCall[]) => Promise<void> {
	const before = takeInventory(engine);
	const attempt = async (call: AnyCall) => {
		try {
			await carryOut(call);
		} catch (error) {
			engine.log.debug(`undoing ${call.method}: ${messageOf(error)}`);
		}
	};
	return async (carried) => {
		for (const { method, params } of carried) {
			const reset = Object.hasOwn(RESETS, method) ? RESETS[method] : undefined;
			if (reset) await attempt({ method, params: reset(params) });
		}
		await deleteNew(engine, before);
		for (const call of before.settings) await attempt(call);
	};
}
