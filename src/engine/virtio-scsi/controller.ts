// SPDX-License-Identifier: MIT
import type { Bdev } from "../bdev/bdev.ts";
import {
	type Coalescing,
	checkCoalescing,
	NOT_COALESCED,
} from "../coalescing.ts";
import { fromErrno, messageOf } from "../errors.ts";
import { createLettingGo } from "../letting-go.ts";
import { bind, type Logger } from "../log.ts";
import type { Reactor } from "../reactors.ts";
import type { Runtime } from "../runtime.ts";
import { executeAbsent } from "../scsi/luns.ts";
import type { Outcome, Store } from "../scsi/task.ts";
import type { StatsPage } from "../stats.ts";
import { createTraces, type Traces } from "../trace.ts";
import type { Session, VhostDevice } from "../vhost-user/device.ts";
import {
	type Offers,
	protocolFeatures,
	ringFeatures,
} from "../vhost-user/offers.ts";
import { readConfigSpace } from "../virtio/blk-config.ts";
import { VIRTIO_SCSI_F } from "../virtio/features.ts";
import { decodeAddress, encodeAddress } from "../virtio/scsi-address.ts";
import { SCSI_RESPONSE } from "../virtio/scsi-codes.ts";
import {
	decodeScsiConfigWrite,
	encodeScsiConfig,
} from "../virtio/scsi-config.ts";
import { perform } from "./execute.ts";
import type { ScsiLun } from "./lun.ts";
import { makeNexus } from "./nexus.ts";
import { makeRequest, type ScsiRequest } from "./request.ts";
import {
	createScsiSession,
	type ScsiSession,
	type SessionRequests,
} from "./session.ts";
import {
	decodeScsiState,
	encodeScsiState,
	readSessionImage,
	restoreSession,
	sessionImage,
} from "./session-image.ts";
import { createTargets, type ScsiTargets } from "./targets.ts";
import { answerControl } from "./tmf.ts";
import { executeWellKnown } from "./well-known.ts";

const MAX_QUEUES = 256;
/** Control and event. */
const FIXED_QUEUES = 2;

export interface ScsiLunInfo {
	/** 0..255. */
	readonly lun: number;
	readonly bdev: Bdev;
}

export interface ScsiTargetInfo {
	/** 0..255. */
	readonly number: number;
	/** At least one, in ascending order. */
	readonly luns: readonly ScsiLunInfo[];
}

/** A vhost-user-scsi device: a socket's name, its targets, the front ends that use it. */
export interface ScsiController extends VhostDevice {
	readonly kind: "scsi";
	readonly name: string;
	/** Front ends can connect. */
	started: boolean;
	/** The processors whose reactors serve it. */
	readonly cpus: readonly number[];
	/** The front ends connected. */
	readonly sessions: readonly Session[];
	/** When rings whose requests end fast call their drivers. */
	readonly coalescing: Coalescing;
	/**
	 * Sets that, for request rings that run and those to come. Throws E_INVALID: a delay of
	 * 0..1,000,000 microseconds and a threshold of 100..2^32 - 1 are right.
	 */
	setCoalescing(delayBaseUs: number, iopsThreshold: number): void;
	/** What a ring did; undefined for one that never ran. */
	ringStats(session: Session, index: number): StatsPage | undefined;
	/** The last requests of its rings. */
	readonly traces: Traces;
	/** Those with LUNs, in ascending order. */
	targets(): ScsiTargetInfo[];
	/** Its logical units, in the order of their addresses. */
	units(): readonly ScsiLun[];
	/** See Engine.addScsiLun. */
	addLun(target: number, lun: number, bdev: Bdev): Promise<number>;
	/** See Engine.removeScsiLun. */
	removeLun(target: number, lun?: number): Promise<void>;
	/** Ends all connections and gives the bdevs back. */
	close(): Promise<void>;
}

export interface ScsiControllerOptions extends Offers {
	name: string;
	runtime: Runtime;
	/** At least one. */
	reactors: readonly Reactor[];
	/** What must survive a restart is kept there, if anywhere. */
	store: Store | undefined;
	log: Logger;
}

/** What is said for a logical unit that is not there; undefined: its target is not either. */
function absentOutcome(
	targets: ScsiTargets,
	{ lun, command }: ScsiRequest,
): Outcome | undefined {
	const address = decodeAddress(lun);
	if (address.kind === "report-luns") {
		const units = targets.units();
		return executeWellKnown(
			command,
			units.map(({ target, lun }) => encodeAddress(target, lun)),
		);
	}
	if (address.kind === "invalid") return undefined;
	const { target } = address;
	if (targets.unitsOf(target).length === 0) return undefined;
	return executeAbsent(command, targets.host(target));
}

function answerAbsent(targets: ScsiTargets, request: ScsiRequest): void {
	const outcome = absentOutcome(targets, request);
	if (outcome === undefined || outcome.kind === "transfer")
		request.respond(SCSI_RESPONSE.BAD_TARGET);
	else request.complete(outcome, false);
}

/** Makes a controller without targets. Its socket is the caller's to make. */
export function createScsiController(
	options: ScsiControllerOptions,
): ScsiController {
	const { name, runtime, reactors, store } = options;
	const log = bind(options.log, { controller: name });
	const sessions = new Map<Session, ScsiSession>();
	let coalescing = NOT_COALESCED;
	const traces = createTraces((index) => index >= FIXED_QUEUES);
	const lettingGo = createLettingGo();
	const all = () => [...sessions.values()];
	const nexuses = () => all().map(({ nexus }) => nexus);
	const found = (session: Session): ScsiSession => {
		const ours = sessions.get(session);
		if (ours) return ours;
		throw new Error("a session that is not attached");
	};
	const freeSlot = (): number => {
		const used = new Set(all().map(({ slot }) => slot));
		let slot = 0;
		while (used.has(slot)) slot++;
		return slot;
	};
	const targets = createTargets({
		name,
		runtime,
		reactors,
		store,
		log,
		nexuses,
		rings: (nexus) =>
			all()
				.find((session) => session.nexus === nexus)
				?.requestRings() ?? [],
		announce(event) {
			for (const session of sessions.values()) session.sendEvent(event);
		},
	});

	const find = (request: ScsiRequest): ScsiLun | undefined => {
		const address = decodeAddress(request.lun);
		if (address.kind !== "unit") return undefined;
		const units = targets.unitsOf(address.target);
		return units.find(({ lun }) => lun === address.lun);
	};
	const execute = (request: ScsiRequest, { features }: Session): void => {
		const { dataInLength, dataOutLength } = request.command;
		const both = dataInLength > 0 && dataOutLength > 0;
		const absent = () => answerAbsent(targets, request);
		const lun = find(request);
		// virtio 5.6.6.1.1
		if (both && (features & VIRTIO_SCSI_F.INOUT) === 0n)
			request.respond(SCSI_RESPONSE.FAILURE);
		else if (lun) void perform(lun, request, absent);
		else absent();
	};
	const onCommand: SessionRequests["onCommand"] = (
		{ nexus, session },
		ring,
		handle,
		info,
		errno,
	) => {
		const request = makeRequest(ring, nexus, handle, info, errno);
		try {
			execute(request, session);
		} catch (error) {
			log.error(messageOf(error), {
				session: session.id,
				kind: "scsi-command",
			});
			if (!request.answered) request.respond(SCSI_RESPONSE.BUSY);
		}
	};
	const onControl: SessionRequests["onControl"] = (
		{ nexus, session },
		request,
		info,
	) => {
		const scope = { unitsOf: targets.unitsOf, nexuses };
		answerControl(request, info, nexus, scope).catch((error: unknown) => {
			log.error(`task management: ${messageOf(error)}`, {
				session: session.id,
				kind: "scsi-task-management",
			});
		});
	};

	const controller: ScsiController = {
		kind: "scsi",
		name,
		started: false,
		features:
			ringFeatures(options) |
			VIRTIO_SCSI_F.INOUT |
			VIRTIO_SCSI_F.HOTPLUG |
			VIRTIO_SCSI_F.CHANGE,
		protocolFeatures: protocolFeatures(options),
		maxQueues: MAX_QUEUES,
		cpus: reactors.map((reactor) => reactor.cpu),
		get sessions() {
			return [...sessions.keys()];
		},
		get coalescing() {
			return coalescing;
		},
		setCoalescing(delayBaseUs, iopsThreshold) {
			coalescing = checkCoalescing(delayBaseUs, iopsThreshold);
			for (const session of all()) session.coalesce(coalescing);
		},

		readConfig: (offset, length, session) =>
			readConfigSpace(
				encodeScsiConfig(MAX_QUEUES - FIXED_QUEUES, found(session).sizes),
				offset,
				length,
			),
		writeConfig(offset, data, session) {
			const ours = found(session);
			ours.sizes = decodeScsiConfigWrite(ours.sizes, offset, data);
		},
		reset(session) {
			lettingGo.end(session);
			found(session).reset();
		},

		attach(session, image) {
			const kept = image === undefined ? undefined : readSessionImage(image);
			const slot = kept?.slot ?? freeSlot();
			const nexus = makeNexus(name, slot);
			const requests = { onCommand, onControl };
			const ours = createScsiSession(session, slot, nexus, reactors, requests);
			ours.coalesce(coalescing);
			sessions.set(session, ours);
			if (kept) restoreSession(ours, kept, targets.units());
			else for (const { unit } of targets.units()) unit.nexusCame(nexus);
			log.info("connected", { session: session.id, kind: "connected" });
		},
		exportSession: (session) => sessionImage(found(session), targets.units()),
		exportState: (session) => encodeScsiState(found(session).sizes),
		importState(session, state) {
			found(session).sizes = decodeScsiState(state);
		},
		abandoned(session) {
			const { nexus } = found(session);
			const tasks = targets
				.units()
				.flatMap((lun) => lun.seats())
				.filter((seat) => seat.nexus === nexus)
				.flatMap((seat) => [...seat.tasks]);
			for (const { request } of tasks) request.abort(SCSI_RESPONSE.RESET);
			lettingGo.begin(session, [
				...new Set(targets.units().map(({ bdev }) => bdev)),
			]);
		},
		detach(session) {
			lettingGo.end(session);
			const ours = found(session);
			sessions.delete(session);
			for (const lun of targets.units()) lun.leave(ours.nexus);
			ours.close();
			traces.sessionEnded(session);
			log.info("ended", { session: session.id, kind: "ended" });
		},
		requestHandlers: (session, index) => found(session).handlers(index),
		async startRing(session, index, ring, node) {
			try {
				traces.ringStarts(session, index, ring);
				return found(session).startRing(index, ring, node);
			} catch (error) {
				traces.ringStopped(session, index);
				throw fromErrno(error, `controller ${name}: ring ${index}`);
			}
		},
		ringStopped(session, index) {
			traces.ringStopped(session, index);
			found(session).ringStopped(index);
		},
		statsPage: (session, index) => found(session).page(index).address,
		ringStats: (session, index) => sessions.get(session)?.pageOf(index),
		traces,
		log,

		targets: () => describe(targets.units()),
		units: targets.units,
		addLun: async (target, lun, bdev) => targets.add(target, lun, bdev),
		removeLun: (target, lun) => targets.remove(target, lun),
		async close() {
			// Work in the background keeps commands, and so rings, from ending.
			await Promise.all([
				...targets.units().map(({ unit }) => unit.close()),
				...[...sessions.keys()].map((session) => session.close()),
			]);
			traces.close();
			await targets.close();
		},
	};
	return controller;
}

function describe(units: readonly ScsiLun[]): ScsiTargetInfo[] {
	const targets = new Map<number, ScsiLunInfo[]>();
	for (const { target, lun, bdev } of units) {
		const luns = targets.get(target) ?? [];
		luns.push({ lun, bdev });
		targets.set(target, luns);
	}
	return [...targets].map(([number, luns]) => ({ number, luns }));
}
