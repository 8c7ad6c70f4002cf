// SPDX-License-Identifier: MIT
// The targets of a SCSI controller: logical units that come and go.
import type { Buffer } from "node:buffer";
import type { Bdev, BdevUser } from "../bdev/bdev.ts";
import { messageOf, VhostctlError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Reactor } from "../reactors.ts";
import type { Runtime } from "../runtime.ts";
import { lunNaa, uuidDesignator } from "../scsi/identity.ts";
import { notReady, writeProtected } from "../scsi/readiness.ts";
import { ASC, STATUS } from "../scsi/sense.ts";
import type { CopyPeer, Host, Nexus, Outcome, Store } from "../scsi/task.ts";
import { MAX_LUN, MAX_TARGET } from "../virtio/scsi-address.ts";
import { SCSI_RESPONSE } from "../virtio/scsi-codes.ts";
import type { ScsiEvent } from "../virtio/scsi-events.ts";
import { abortFor, abortTasks } from "./abort.ts";
import { createScsiLun, type ScsiLun } from "./lun.ts";
import { targetNaa } from "./nexus.ts";
import type { RequestRing } from "./ring.ts";

/** What the targets need of their controller. */
export interface TargetsOptions {
	readonly name: string;
	readonly runtime: Runtime;
	/** At least one. */
	readonly reactors: readonly Reactor[];
	readonly store: Store | undefined;
	readonly log: Logger;
	nexuses(): Nexus[];
	rings(nexus: Nexus): readonly RequestRing[];
	/** Tells all sessions. */
	announce(event: ScsiEvent): void;
}

export interface ScsiTargets {
	/** What there is, by target and LUN in ascending order. */
	units(): ScsiLun[];
	/** The same of one target; none: there is no such target. */
	unitsOf(target: number): ScsiLun[];
	/** For logical units of a target that are not there. */
	host(target: number): Host;
	/** Throws E_INVALID, E_EXISTS, E_BUSY, E_NOT_FOUND. Returns the target's number. */
	add(target: number, lun: number, bdev: Bdev): number;
	/** Throws E_INVALID, E_NOT_FOUND. */
	remove(target: number, lun: number | undefined): Promise<void>;
	/** Removes all, and tells nobody. */
	close(): Promise<void>;
}

/** A logical unit in its place, until its last trace has gone. */
interface Place {
	readonly lun: ScsiLun;
	/** Takes it out; the same promise each time. */
	retire(): Promise<void>;
}

function checkNumber(what: string, value: number, low: number, max: number) {
	if (Number.isInteger(value) && value >= low && value <= max) return;
	throw new VhostctlError(
		"E_INVALID",
		`${what} ${value}: must be ${low} to ${max}`,
	);
}

/** Why a nexus may not have a logical unit read or written by EXTENDED COPY. */
function refusal(
	{ unit }: ScsiLun,
	nexus: Nexus,
	access: "read" | "write",
): Outcome | undefined {
	if (unit.reservations.gates(nexus)[access] === "conflict")
		return { kind: "status", status: STATUS.RESERVATION_CONFLICT };
	const sense =
		notReady(unit) ?? (access === "write" ? writeProtected(unit) : undefined);
	return sense && { kind: "check", sense };
}

export function createTargets(options: TargetsOptions): ScsiTargets {
	const { name, log } = options;
	const places = new Map<number, Place>();

	const units = (): ScsiLun[] =>
		[...places.values()]
			.map(({ lun }) => lun)
			.filter(({ gone }) => !gone)
			.sort((a, b) => a.address - b.address);
	const unitsOf = (target: number): ScsiLun[] =>
		units().filter((lun) => lun.target === target);
	const findByDesignator = (designator: Buffer): CopyPeer | undefined => {
		const found = units().find(({ unit: { medium } }) =>
			[lunNaa(medium.identity), uuidDesignator(medium.identity)].some((own) =>
				own?.equals(designator),
			),
		);
		return (
			found && {
				medium: found.unit.medium,
				refusal: (nexus, access) => refusal(found, nexus, access),
			}
		);
	};
	const host = (target: number, lun?: () => ScsiLun): Host => ({
		changed: () => {},
		async abort(nexuses, except) {
			if (!lun) return;
			const response = SCSI_RESPONSE.ABORTED;
			if (except) await abortFor(lun(), nexuses, { response, except });
			else await abortTasks(lun(), nexuses, { response });
		},
		nexuses: options.nexuses,
		luns: () => unitsOf(target).map((unit) => unit.lun),
		targetPorts: () => [1],
		targetNaa: targetNaa(name, target),
		findByDesignator,
		store: options.store,
	});
	const siblingsChanged = (changed: ScsiLun): void => {
		for (const { lun, unit } of unitsOf(changed.target))
			if (lun !== changed.lun) unit.lunsChanged();
	};

	/** Makes the place, with the claim of the bdev that it ends with. */
	const occupy = (target: number, lunNumber: number, bdev: Bdev): Place => {
		const label = `target ${target} LUN ${lunNumber}`;
		const [reactor] = options.reactors;
		if (!reactor) throw new Error("a controller without reactors");
		let retiring: Promise<void> | undefined;

		/** What is left to be done once nothing of it is executed in C. */
		const finish = async (): Promise<void> => {
			await lun.close();
			release();
			places.delete(lun.address);
			log.notice(`${label}: removed`);
		};
		const leave = (): void => {
			lun.unplug();
			options.announce({ kind: "removed", target, lun: lunNumber });
			siblingsChanged(lun);
		};
		const place = {
			get lun() {
				return lun;
			},
			retire(): Promise<void> {
				if (retiring) return retiring;
				const restore = bdev.letGo();
				retiring = lun.hold
					.exclusive(async () => {
						if (!lun.gone) leave();
					})
					.finally(restore)
					.then(finish);
				return retiring;
			},
		};
		const user: BdevUser = {
			name,
			readonly: bdev.backend.readonly,
			pause: () => lun.hold.pause(),
			resume: async () => lun.hold.resume(),
			removed() {
				log.warning(`${label}: bdev is gone`, { bdev: bdev.name });
				if (!lun.gone) leave();
				retiring ??= finish();
			},
			async changed() {
				if (retiring) return retiring;
				lun.unit.capacityChanged();
				const asc = ASC.CAPACITY_DATA_CHANGED;
				options.announce({ kind: "changed", target, lun: lunNumber, asc });
			},
		};
		const release = bdev.claim(user);
		let lun: ScsiLun;
		try {
			lun = createScsiLun({
				target,
				lun: lunNumber,
				bdev,
				runtime: options.runtime,
				reactor,
				host: (self) => host(target, self),
				rings: options.rings,
				log,
				name: label,
			});
		} catch (error) {
			release();
			throw error;
		}
		return place;
	};

	const firstFree = (): number => {
		const used = new Set([...places.values()].map(({ lun }) => lun.target));
		for (let target = 0; target <= MAX_TARGET; target++)
			if (!used.has(target)) return target;
		throw new VhostctlError(
			"E_BUSY",
			`controller ${name} has no target left: all ${MAX_TARGET + 1} are in use`,
		);
	};

	return {
		units,
		unitsOf,
		host,
		add(wanted, lun, bdev) {
			checkNumber("target", wanted, -1, MAX_TARGET);
			checkNumber("LUN", lun, 0, MAX_LUN);
			const target = wanted === -1 ? firstFree() : wanted;
			if (places.has(target * 0x10000 + lun)) {
				throw new VhostctlError(
					"E_EXISTS",
					`controller ${name}: target ${target} has a LUN ${lun} already`,
				);
			}
			const place = occupy(target, lun, bdev);
			places.set(place.lun.address, place);
			for (const nexus of options.nexuses()) place.lun.unit.nexusCame(nexus);
			siblingsChanged(place.lun);
			options.announce({ kind: "added", target, lun });
			log.notice(`target ${target} LUN ${lun} is bdev ${bdev.name}`, {
				bdev: bdev.name,
			});
			return target;
		},
		async remove(target, lun) {
			checkNumber("target", target, 0, MAX_TARGET);
			if (lun !== undefined) checkNumber("LUN", lun, 0, MAX_LUN);
			const found = unitsOf(target).filter(
				(unit) => lun === undefined || unit.lun === lun,
			);
			if (found.length === 0) {
				const what = lun === undefined ? "" : ` LUN ${lun}`;
				throw new VhostctlError(
					"E_NOT_FOUND",
					`controller ${name} has no target ${target}${what}`,
				);
			}
			await Promise.all(
				found.map(({ address }) => places.get(address)?.retire()),
			);
		},
		async close() {
			const ends = [...places.values()].map((place) => place.retire());
			for (const end of await Promise.allSettled(ends))
				if (end.status === "rejected") log.error(messageOf(end.reason));
		},
	};
}
