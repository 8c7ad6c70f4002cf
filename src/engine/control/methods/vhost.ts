// SPDX-License-Identifier: MIT
import {
	type BlkController,
	type Engine,
	formatCpumask,
	parseCpumask,
	type Session,
} from "../../engine.ts";
import type { vhostMethods } from "../schema/vhost.ts";
import type { Handlers } from "./context.ts";

function describeSession(controller: BlkController, session: Session) {
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

function describe(engine: Engine, controller: BlkController) {
	return {
		ctrlr: controller.name,
		cpumask: `0x${formatCpumask(controller.cpus)}`,
		delay_base_us: 0,
		iops_threshold: 60000,
		socket: engine.socketPath(controller.name),
		sessions: controller.sessions.map((s) => describeSession(controller, s)),
		backend_specific: {
			block: {
				readonly: controller.readonly,
				bdev: controller.bdev?.name ?? null,
				transport: "vhost_user_blk",
			},
		},
	};
}

export const vhostHandlers: Handlers<keyof typeof vhostMethods> = {
	async vhost_create_blk_controller({ engine }, params): Promise<true> {
		await engine.createBlkController({
			name: params.ctrlr,
			bdev: params.dev_name,
			readonly: params.readonly,
			cpus:
				params.cpumask === undefined ? undefined : parseCpumask(params.cpumask),
		});
		return true;
	},
	vhost_get_controllers: ({ engine }, { name }) =>
		engine.controllers(name).map((controller) => describe(engine, controller)),
	async vhost_delete_controller({ engine }, { ctrlr }): Promise<true> {
		await engine.deleteController(ctrlr);
		return true;
	},
};
