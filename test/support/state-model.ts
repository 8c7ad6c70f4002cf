// SPDX-License-Identifier: MIT
// What an instance has, as a model that calls change, for comparing it after a crash.

/** Blocks of bdevs, bdevs of blk controllers, by their names; targets of SCSI controllers. */
export interface Model {
	readonly bdevs: Readonly<Record<string, number>>;
	readonly blk: Readonly<Record<string, string>>;
	readonly scsi: Readonly<Record<string, readonly string[]>>;
}

export const EMPTY: Model = { bdevs: {}, blk: {}, scsi: {} };

export interface Step {
	readonly method: string;
	readonly params: Record<string, unknown>;
	/** What there is when it was carried out. */
	readonly after: Model;
}

function without<T>(from: Readonly<Record<string, T>>, name: string) {
	return Object.fromEntries(
		Object.entries(from).filter(([key]) => key !== name),
	);
}

function bdevSteps(model: Model, name: string, blocks: number): Step[] {
	const { bdevs, blk, scsi } = model;
	const users = [...Object.values(blk), ...Object.values(scsi).flat()];
	if (bdevs[name] === undefined)
		return [
			{
				method: "bdev_null_create",
				params: { name, block_size: 512, num_blocks: blocks },
				after: { ...model, bdevs: { ...bdevs, [name]: blocks } },
			},
		];
	const resize: Step = {
		method: "bdev_null_resize",
		params: { name, new_size: 7 },
		after: { ...model, bdevs: { ...bdevs, [name]: 7 * 2048 } },
	};
	if (users.includes(name)) return [resize];
	return [
		resize,
		{
			method: "bdev_null_delete",
			params: { name },
			after: { ...model, bdevs: without(bdevs, name) },
		},
		{
			method: "vhost_create_blk_controller",
			params: { ctrlr: `c-${name}`, dev_name: name },
			after: { ...model, blk: { ...blk, [`c-${name}`]: name } },
		},
		...Object.entries(scsi).map(([ctrlr, targets]) => ({
			method: "vhost_scsi_controller_add_target",
			params: { ctrlr, scsi_target_num: -1, bdev_name: name },
			after: {
				...model,
				scsi: { ...scsi, [ctrlr]: [...targets, name].sort() },
			},
		})),
	];
}

/** Every step that can be taken, with one bdev of that name and size. */
export function stepsOf(model: Model, name: string, blocks: number): Step[] {
	const { blk, scsi } = model;
	const ctrlr = "s";
	const common = bdevSteps(model, name, blocks);
	for (const taken of Object.keys(blk))
		common.push({
			method: "vhost_delete_controller",
			params: { ctrlr: taken },
			after: { ...model, blk: without(blk, taken) },
		});
	if (!scsi[ctrlr])
		common.push({
			method: "vhost_create_scsi_controller",
			params: { ctrlr },
			after: { ...model, scsi: { ...scsi, [ctrlr]: [] } },
		});
	else if (scsi[ctrlr].length === 0)
		common.push({
			method: "vhost_delete_controller",
			params: { ctrlr },
			after: { ...model, scsi: without(scsi, ctrlr) },
		});
	return common;
}

interface Told {
	ctrlr: string;
	backend_specific: {
		block?: { bdev: string };
		scsi?: { luns: { bdev_name: string }[] }[];
	};
}

/** The model of what an instance has now. */
export async function observe(
	rpc: (method: string) => Promise<unknown>,
): Promise<Model> {
	const bdevs = (await rpc("bdev_get_bdevs")) as {
		name: string;
		num_blocks: number;
	}[];
	const told = (await rpc("vhost_get_controllers")) as Told[];
	const blk = told.flatMap(({ ctrlr, backend_specific: { block } }) =>
		block ? [[ctrlr, block.bdev]] : [],
	);
	const scsi = told.flatMap(({ ctrlr, backend_specific: { scsi } }) =>
		scsi
			? [
					[
						ctrlr,
						scsi.flatMap(({ luns }) => luns.map((l) => l.bdev_name)).sort(),
					],
				]
			: [],
	);
	return {
		bdevs: Object.fromEntries(bdevs.map((b) => [b.name, b.num_blocks])),
		blk: Object.fromEntries(blk),
		scsi: Object.fromEntries(scsi),
	};
}
