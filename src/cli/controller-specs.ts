// SPDX-License-Identifier: MIT
/** Controllers as serve's --blk and --scsi take them, as calls of the control socket's methods. */
import { MAX_LUN, MAX_TARGET } from "../engine/virtio/scsi-address.ts";
import { type Call, parseSettings, type Settings } from "./bdev-kinds.ts";
import { controllerParams } from "./controllers.ts";
import { UsageError } from "./errors.ts";
import { parseCount, quoted } from "./size.ts";

/** The parts of `NAME=BDEV,setting,…`. */
interface Spec {
	readonly name: string;
	readonly bdev: string | undefined;
	readonly settings: Settings;
	/** Whose they are, for messages. */
	readonly owner: string;
}

/** Reads a spec whose bdev may be missing. `option` is what takes it, `like` an example. */
function parseSpec(
	option: string,
	text: string,
	like: string,
	known: readonly string[],
): Spec {
	const [, name, bdev, rest] =
		/^([^=,]+)(?:=([^,]+))?(?:,(.*))?$/.exec(text) ?? [];
	if (name === undefined)
		throw new UsageError(
			`${option} is ${quoted(text)}: want NAME=BDEV, as ${like}`,
		);
	const owner = `${option} ${text}`;
	const settings = rest === undefined ? new Map() : parseSettings(rest, owner);
	for (const given of settings.keys())
		if (!known.includes(given))
			throw new UsageError(`${owner}: unknown setting ${given}`, {
				given,
				known,
			});
	return { name, bdev, settings, owner };
}

/** Settings of controllers of both kinds. */
const COMMON = ["cpumask", "client", "no-packed", "iommu", "inband"];

function paramsOf({ name, settings }: Spec) {
	return controllerParams(name, (setting) => settings.get(setting));
}

/** Reads `NAME=BDEV,setting,…` as serve's --blk takes it. */
export function parseBlkSpec(text: string): Call {
	const like = "vm0=disk0 or vm0=disk0,readonly";
	const known = ["readonly", ...COMMON];
	const spec = parseSpec("--blk", text, like, known);
	const { bdev, settings } = spec;
	if (bdev === undefined)
		throw new UsageError(
			`--blk is ${quoted(text)}: want NAME=BDEV, as ${like}`,
		);
	const params = {
		...paramsOf(spec),
		dev_name: bdev,
		...(settings.has("readonly") ? { readonly: true } : {}),
	};
	return { method: "vhost_create_blk_controller", params };
}

/** The call that adds a bdev to a controller: at the next free target unless one is named. */
export function addTargetCall(
	ctrlr: string,
	bdev_name: string,
	target?: number,
	lun?: number,
): Call {
	const params = {
		ctrlr,
		bdev_name,
		scsi_target_num: target ?? -1,
		...(lun === undefined ? {} : { lun }),
	};
	return { method: "vhost_scsi_controller_add_target", params };
}

function addTargetOf({ name, bdev, settings, owner }: Spec): Call[] {
	const number = (setting: string, max: number) => {
		const text = settings.get(setting);
		if (text === undefined) return undefined;
		if (bdev === undefined)
			throw new UsageError(`${owner}: ${setting} goes with a bdev`);
		return parseCount(text, `${owner}: ${setting}`, 0, max);
	};
	const target = number("target", MAX_TARGET);
	const lun = number("lun", MAX_LUN);
	return bdev === undefined ? [] : [addTargetCall(name, bdev, target, lun)];
}

/**
 * Reads what serve's --scsi was given, in order: `NAME,setting,…` or `NAME=BDEV,setting,…`. The
 * first to have a name makes the controller; each with a bdev adds that.
 */
export function parseScsiSpecs(texts: readonly string[]): Call[] {
	const like = "vm0=disk0 or vm0=disk1,target=3,lun=1";
	const known = ["target", "lun", ...COMMON];
	const made = new Set<string>();
	return texts.flatMap((text) => {
		const spec = parseSpec("--scsi", text, like, known);
		const { name, settings, owner } = spec;
		const first = !made.has(name);
		made.add(name);
		const late = first ? undefined : COMMON.find((one) => settings.has(one));
		if (late !== undefined)
			throw new UsageError(
				`${owner}: ${late} goes with the first --scsi of ${name}`,
			);
		const create: Call = {
			method: "vhost_create_scsi_controller",
			params: { ...paramsOf(spec) },
		};
		return [...(first ? [create] : []), ...addTargetOf(spec)];
	});
}
