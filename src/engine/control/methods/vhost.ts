// SPDX-License-Identifier: MIT
import {
	type Controller,
	type Engine,
	formatCpumask,
	type Session,
	VhostctlError,
} from "../../engine.ts";
import type { vhostMethods } from "../schema/vhost.ts";
import { controllerOptions, type Handlers } from "./context.ts";
import { describeTargets } from "./scsi.ts";

/** The one way in which virtio-blk devices are served. */
const TRANSPORT = "vhost_user_blk";

function describeSession(controller: Controller, session: Session) {
	const inflight = session.rings.map(
		({ index }) => controller.ringStats(session, index)?.read().inflight ?? 0,
	);
	return {
		vid: session.id,
		id: session.id,
		name: `${controller.name}s${session.id}`,
		started: session.rings.some((ring) => ring.running),
		max_queues: session.rings.length,
		inflight_task_cnt: inflight.reduce((sum, n) => sum + n, 0),
	};
}

function describeBackend(engine: Engine, controller: Controller) {
	if (controller.kind === "scsi")
		return { scsi: describeTargets(engine, controller) };
	return {
		block: {
			readonly: controller.readonly,
			bdev: controller.bdev?.name ?? null,
			transport: TRANSPORT,
		},
	};
}

function describe(engine: Engine, controller: Controller) {
	const { client } = engine.optionsOf(controller);
	const { delayBaseUs, iopsThreshold } = controller.coalescing;
	return {
		ctrlr: controller.name,
		cpumask: `0x${formatCpumask(controller.cpus)}`,
		delay_base_us: delayBaseUs,
		iops_threshold: iopsThreshold,
		socket: engine.socketPath(controller.name),
		...(client === undefined ? {} : { client: true as const }),
		sessions: controller.sessions.map((s) => describeSession(controller, s)),
		backend_specific: describeBackend(engine, controller),
	};
}

export const vhostHandlers: Handlers<keyof typeof vhostMethods> = {
	async vhost_create_blk_controller({ engine }, params): Promise<true> {
		await engine.createBlkController({
			...controllerOptions(params),
			bdev: params.dev_name,
			readonly: params.readonly,
		});
		return true;
	},
	vhost_get_controllers: ({ engine }, { name }) =>
		engine.controllers(name).map((controller) => describe(engine, controller)),
	vhost_controller_set_coalescing({ engine }, params): true {
		const [controller] = engine.controllers(params.ctrlr);
		controller?.setCoalescing(params.delay_base_us, params.iops_threshold);
		return true;
	},
	async vhost_delete_controller({ engine }, { ctrlr }): Promise<true> {
		const [found] = engine.controllers(ctrlr);
		// As SPDK has it: what still has disks is not deleted by a slip.
		if (found?.kind === "scsi" && found.targets().length > 0)
			throw new VhostctlError("E_BUSY", `controller ${ctrlr} has targets`);
		await engine.deleteController(ctrlr);
		return true;
	},
	virtio_blk_get_transports(_, { name }) {
		if (name === undefined || name === TRANSPORT) return [{ name: TRANSPORT }];
		throw new VhostctlError("E_NOT_FOUND", `no transport ${name}`);
	},
	virtio_blk_create_transport(_, { name }) {
		if (name === TRANSPORT)
			throw new VhostctlError(
				"E_EXISTS",
				`there is a transport ${name} already`,
			);
		throw new VhostctlError(
			"E_NOT_FOUND",
			`no transport ${name} can be made: there is ${TRANSPORT}`,
		);
	},
};
