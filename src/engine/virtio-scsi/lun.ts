// SPDX-License-Identifier: MIT
// A logical unit in a target: the command set's side, and what C has of it for each session.
import { GATE_ASK, GATE_CONFLICT, GATE_RUN, native } from "../../ffi/native.ts";
import type { Bdev } from "../bdev/bdev.ts";
import { createBdevIo } from "../bdev-io.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Reactor } from "../reactors.ts";
import type { Runtime } from "../runtime.ts";
import {
	maxTransferBlocks,
	maxUnmapBlocks,
	maxWriteSameBlocks,
} from "../scsi/limits.ts";
import { createLogicalUnit, type LogicalUnit } from "../scsi/logical-unit.ts";
import type { Gate, Host, Medium, Nexus } from "../scsi/task.ts";
import { createHold, currentSignal, type Hold } from "./hold.ts";
import { createMedium } from "./medium.ts";
import type { ScsiRequest } from "./request.ts";
import type { Lane, RequestRing } from "./ring.ts";

/** A command that a logical unit is executing, or has waiting, on this side. */
export interface Task {
	readonly request: ScsiRequest;
	readonly ordered: boolean;
	/** Resolves when it has ended, or was handed to C for good. */
	readonly done: Promise<void>;
}

/** What a session has of a logical unit. */
export interface Seat {
	readonly nexus: Nexus;
	/** struct vhc_lun *. */
	readonly handle: bigint;
	/** The rings on which its commands are executed in C. */
	readonly lanes: Map<RequestRing, Lane>;
	/** In the order they came. */
	readonly tasks: Set<Task>;
}

export interface ScsiLun {
	readonly target: number;
	readonly lun: number;
	/** VHC_LUN_ADDRESS. */
	readonly address: number;
	readonly bdev: Bdev;
	readonly unit: LogicalUnit;
	readonly hold: Hold;
	/** Being removed: to all others it is not there any more. */
	readonly gone: boolean;
	/** The request rings that a session has running. */
	rings(nexus: Nexus): readonly RequestRing[];
	/** The session's, made when first asked for. */
	seat(nexus: Nexus): Seat;
	/** Those that there are. */
	seats(): Seat[];
	/** Has a ring execute commands of a seat, if it does not. To be called while the hold is open. */
	attach(seat: Seat, ring: RequestRing): Lane;
	/** Sets the gates of all seats to what the logical unit says now. */
	refresh(): void;
	/** For the operator. */
	report(text: string): void;
	/** A session has gone; its rings have stopped. */
	leave(nexus: Nexus): void;
	/** Takes it from all rings; to be called with the hold closed. Commands that wait come up again. */
	unplug(): void;
	/** After unplug: ends what goes on on this side, and gives everything back but the bdev. */
	close(): Promise<void>;
}

export interface ScsiLunOptions {
	readonly target: number;
	readonly lun: number;
	readonly bdev: Bdev;
	readonly runtime: Runtime;
	/** For I/O of this side. */
	readonly reactor: Reactor;
	/** `changed` is the logical unit's own. */
	host(lun: () => ScsiLun): Omit<Host, "changed">;
	rings(nexus: Nexus): readonly RequestRing[];
	readonly log: Logger;
	/** For messages. */
	readonly name: string;
}

const GATES: Readonly<Record<Gate, number>> = {
	run: GATE_RUN,
	ask: GATE_ASK,
	conflict: GATE_CONFLICT,
};

interface OwnSeat extends Seat {
	/** What was last set. */
	read: Gate;
	write: Gate;
	writeback: boolean;
}

function makeSeat(bdev: Bdev, unit: LogicalUnit, nexus: Nexus): OwnSeat {
	const { medium, writeback } = unit;
	const { read, write } = unit.gates(nexus);
	const { unmap, writeZeroes } = medium.supports;
	const handle = native.lunCreate({
		bdev: bdev.handle,
		read_gate: GATES[read],
		write_gate: GATES[write],
		writeback: writeback ? 1 : 0,
		max_blocks: maxTransferBlocks(medium),
		max_unmap: unmap ? maxUnmapBlocks(medium) : 0,
		max_write_same: writeZeroes ? maxWriteSameBlocks(medium) : 0,
	});
	return {
		nexus,
		handle,
		lanes: new Map(),
		tasks: new Set(),
		read,
		write,
		writeback,
	};
}

function refreshSeat(unit: LogicalUnit, seat: OwnSeat): void {
	const { read, write } = unit.gates(seat.nexus);
	const { writeback } = unit;
	if (read !== seat.read || write !== seat.write)
		native.lunSetGates(seat.handle, GATES[read], GATES[write]);
	if (writeback !== seat.writeback)
		native.lunSetWriteback(seat.handle, writeback);
	Object.assign(seat, { read, write, writeback });
}

/** Waits for all that are there, and those that come meanwhile. */
async function allDone(tasks: ReadonlySet<Task>): Promise<void> {
	while (tasks.size > 0) await Promise.all([...tasks].map((task) => task.done));
}

/** Makes a logical unit of a bdev, which must be claimed and stay until it is closed. */
export function createScsiLun(options: ScsiLunOptions): ScsiLun {
	const { target, lun, bdev, runtime, reactor, log, name } = options;
	const seats = new Map<Nexus, OwnSeat>();
	const hold = createHold();
	let gone = false;
	const io = createBdevIo(runtime, reactor, bdev, currentSignal);
	const medium: Medium = createMedium(bdev, io, hold, () => gone);
	const self: { lun?: ScsiLun } = {};
	const host = options.host(() => {
		if (!self.lun) throw new Error("a logical unit that is being made");
		return self.lun;
	});
	const refresh = (): void => {
		for (const seat of seats.values()) refreshSeat(unit, seat);
	};
	const unit = createLogicalUnit({
		lun,
		medium,
		host: { ...host, changed: refresh },
		log: (text) =>
			log.warning(`${name}: ${text}`, { bdev: bdev.name, kind: "scsi" }),
	});

	const scsiLun: ScsiLun = {
		target,
		lun,
		address: target * 0x10000 + lun,
		bdev,
		unit,
		hold,
		get gone() {
			return gone;
		},
		rings: options.rings,
		seat(nexus) {
			let seat = seats.get(nexus);
			if (!seat) {
				seat = makeSeat(bdev, unit, nexus);
				seats.set(nexus, seat);
			}
			return seat;
		},
		seats: () => [...seats.values()],
		attach(seat, ring) {
			const there = seat.lanes.get(ring);
			if (there?.attached) return there;
			const stats = bdev.pageFor(ring.reactor.id).address;
			const lane = ring.attach(scsiLun.address, seat.handle, stats);
			seat.lanes.set(ring, lane);
			hold.add(lane);
			return lane;
		},
		refresh,
		report: (text) =>
			log.error(`${name}: ${text}`, { bdev: bdev.name, kind: "scsi-command" }),
		leave(nexus) {
			const seat = seats.get(nexus);
			seats.delete(nexus);
			unit.nexusGone(nexus);
			if (seat) native.lunRelease(seat.handle);
		},
		unplug() {
			gone = true;
			hold.detach();
		},
		async close() {
			try {
				await unit.close();
			} catch (error) {
				log.error(`${name}: ${messageOf(error)}`);
			}
			for (const seat of seats.values()) await allDone(seat.tasks);
			for (const { handle } of seats.values()) native.lunRelease(handle);
			seats.clear();
		},
	};
	self.lun = scsiLun;
	return scsiLun;
}
