// SPDX-License-Identifier: MIT
// What an engine has, as the calls that make it.
import { isDeepStrictEqual } from "node:util";
import { NOT_COALESCED } from "../coalescing.ts";
import type { Bdev, Controller, Engine, ScsiController } from "../engine.ts";
import { formatCpumask, isLimited, VhostctlError } from "../engine.ts";
import { type Call, call, whoIs } from "./describe-call.ts";
import { stackedCalls } from "./describe-stacked.ts";
import { rateLimits } from "./methods/qos.ts";

type OwnMade = Extract<
	Bdev["backend"]["made"],
	{ kind: "malloc" | "null" | "file" }
>;

function bdevCalls(bdev: Bdev): Call[] {
	const { made, base } = bdev.backend;
	if (made.kind === "malloc" || made.kind === "null" || made.kind === "file")
		return [ownCall(bdev, made)];
	return base ? stackedCalls(bdev, base.name) : [];
}

/** Of one that stacks on none. */
function ownCall(bdev: Bdev, made: OwnMade): Call {
	const { numBlocks } = bdev.backend;
	const who = whoIs(bdev);
	if (made.kind === "file") {
		const { driver, filename, blockSize, readonly, fallocate } = made.options;
		const common = { ...who, filename, block_size: blockSize };
		return driver === "uring"
			? call("bdev_uring_create", { ...common, block_size: blockSize ?? 0 })
			: call("bdev_aio_create", { ...common, readonly, fallocate });
	}
	const { options } = made;
	const shape = {
		...who,
		block_size: options.blockSize,
		num_blocks: numBlocks,
		physical_block_size: options.physicalBlockSize,
	};
	if (made.kind === "null") return call("bdev_null_create", shape);
	const { pageSize: page_size, node: numa_id } = made.options;
	return call("bdev_malloc_create", { ...shape, page_size, numa_id });
}

/** Only what is limited: the rest is as it is without the call. */
function qosCalls(bdev: Bdev): Call[] {
	if (!isLimited(bdev.qos)) return [];
	const limits = Object.entries(rateLimits(bdev)).filter(([, v]) => v > 0);
	const params = { name: bdev.name, ...Object.fromEntries(limits) };
	return [call("bdev_set_qos_limit", params)];
}

function commonParams(engine: Engine, controller: Controller) {
	const options = engine.optionsOf(controller);
	const { name: ctrlr, cpus, client, iommu, inband } = options;
	return {
		ctrlr,
		cpumask: cpus && `0x${formatCpumask(cpus)}`,
		client: client === undefined ? undefined : engine.socketPath(ctrlr),
		packed_ring: options.packed,
		iommu,
		inband,
	};
}

/** None if it is as it is at first. */
function coalescingCalls({ name, coalescing }: Controller): Call[] {
	const { delayBaseUs, iopsThreshold } = coalescing;
	if (isDeepStrictEqual(coalescing, NOT_COALESCED)) return [];
	return [
		call("vhost_controller_set_coalescing", {
			ctrlr: name,
			delay_base_us: delayBaseUs,
			iops_threshold: iopsThreshold,
		}),
	];
}

function scsiCalls(engine: Engine, controller: ScsiController): Call[] {
	const { name: ctrlr, started } = controller;
	// Front ends that come find all targets.
	const create = call("vhost_create_scsi_controller", {
		...commonParams(engine, controller),
		delay: true,
	});
	const start = call("vhost_start_scsi_controller", { ctrlr });
	const targets = controller.targets().flatMap(({ number, luns }) =>
		luns.map(({ lun, bdev }) =>
			call("vhost_scsi_controller_add_target", {
				ctrlr,
				scsi_target_num: number,
				bdev_name: bdev.name,
				lun: lun || undefined, // SPDK knows none
			}),
		),
	);
	return [create, ...targets, ...(started ? [start] : [])];
}

function controllerCalls(engine: Engine, controller: Controller): Call[] {
	if (controller.kind === "scsi") return scsiCalls(engine, controller);
	const { name, bdev, readonly } = controller;
	if (!bdev)
		throw new VhostctlError(
			"E_BUSY",
			`controller ${name} has lost its bdev: delete it first`,
		);
	return [
		call("vhost_create_blk_controller", {
			...commonParams(engine, controller),
			dev_name: bdev.name,
			readonly: readonly || undefined,
		}),
	];
}

function traceCalls({ name, traces: { size } }: Controller): Call[] {
	return size > 0 ? [call("vhostctl_set_trace", { ctrlr: name, size })] : [];
}

/**
 * The calls that make what an engine has, in an order in which they succeed. Throws
 * E_BUSY for what no call makes: a controller whose bdev was deleted.
 */
export function describeEngine(engine: Engine): Call[] {
	return describe(engine, engine.controllers());
}

/** As describeEngine, without what no call makes: as SPDK has it. */
export function describeRunning(engine: Engine): Call[] {
	const controllers = engine.controllers();
	return describe(
		engine,
		controllers.filter((one) => one.kind === "scsi" || one.bdev),
	);
}

function describe(engine: Engine, controllers: readonly Controller[]): Call[] {
	return [
		...engine.bdevs
			.list()
			.flatMap((bdev) => [...bdevCalls(bdev), ...qosCalls(bdev)]),
		...controllers.flatMap((controller) => [
			...controllerCalls(engine, controller),
			...coalescingCalls(controller),
			...traceCalls(controller),
		]),
	];
}
