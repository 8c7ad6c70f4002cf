// SPDX-License-Identifier: MIT
import {
	type Engine,
	type ScsiController,
	VhostctlError,
} from "../../engine.ts";
import type { scsiMethods } from "../schema/scsi.ts";
import { controllerOptions, type Handlers } from "./context.ts";

/** SPDK's name for a target. */
function targetName(number: number): string {
	return `Target ${number}`;
}

function scsiControllers(engine: Engine): ScsiController[] {
	return engine.controllers().filter((one) => one.kind === "scsi");
}

/** By controller and number of the target. */
type Ids = Map<ScsiController, Map<number, number>>;

const known = new WeakMap<Engine, Ids>();

function lowestFree(taken: ReadonlySet<number>): number {
	let id = 0;
	while (taken.has(id)) id++;
	return id;
}

/**
 * What SPDK calls the id of a target: the lowest number that no target of any controller has when
 * it comes, kept until it goes. Targets that came and went since the last call are noticed here.
 */
function deviceIds(engine: Engine): Ids {
	const before = known.get(engine) ?? new Map();
	const ids: Ids = new Map();
	const taken = new Set<number>();
	const targets = scsiControllers(engine).flatMap((controller) =>
		controller.targets().map(({ number }) => ({ controller, number })),
	);
	const keep = (controller: ScsiController, number: number, id: number) => {
		const own = ids.get(controller) ?? new Map<number, number>();
		ids.set(controller, own.set(number, id));
		taken.add(id);
	};
	for (const { controller, number } of targets) {
		const id = before.get(controller)?.get(number);
		if (id !== undefined) keep(controller, number, id);
	}
	for (const { controller, number } of targets) {
		if (ids.get(controller)?.has(number)) continue;
		keep(controller, number, lowestFree(taken));
	}
	known.set(engine, ids);
	return ids;
}

/** As SPDK's vhost_scsi_dump_info_json writes them. */
export function describeTargets(engine: Engine, controller: ScsiController) {
	const ids = deviceIds(engine).get(controller);
	return controller.targets().map(({ number, luns }) => ({
		scsi_dev_num: number,
		id: ids?.get(number) ?? 0,
		target_name: targetName(number),
		luns: luns.map(({ lun, bdev }) => ({ id: lun, bdev_name: bdev.name })),
	}));
}

export const scsiHandlers: Handlers<keyof typeof scsiMethods> = {
	async vhost_create_scsi_controller({ engine }, p): Promise<true> {
		await engine.createScsiController({
			...controllerOptions(p),
			delay: p.delay,
		});
		return true;
	},
	async vhost_start_scsi_controller({ engine }, { ctrlr }): Promise<true> {
		const [controller] = engine.controllers(ctrlr);
		if (controller?.kind !== "scsi")
			throw new VhostctlError(
				"E_INVALID",
				`${ctrlr} is no vhost-user-scsi controller`,
			);
		if (!controller.started) await engine.startController(ctrlr);
		return true;
	},
	async vhost_scsi_controller_add_target({ engine }, p) {
		const number = await engine.addScsiLun({
			name: p.ctrlr,
			target: Math.max(p.scsi_target_num, -1),
			lun: p.lun,
			bdev: p.bdev_name,
		});
		deviceIds(engine);
		return number;
	},
	async vhost_scsi_controller_remove_target({ engine }, p): Promise<true> {
		await engine.removeScsiLun(p.ctrlr, p.scsi_target_num, p.lun);
		deviceIds(engine);
		return true;
	},
	scsi_get_devices({ engine }) {
		const ids = deviceIds(engine);
		const devices = [...ids.values()].flatMap((own) =>
			[...own].map(([number, id]) => ({ id, device_name: targetName(number) })),
		);
		return devices.sort((a, b) => a.id - b.id);
	},
};
