// SPDX-License-Identifier: MIT
// What a SCSI controller has of one front end: its initiator port and its rings.
import type { Buffer } from "node:buffer";
import { native } from "../../ffi/native.ts";
import { type Coalescing, NOT_COALESCED } from "../coalescing.ts";
import { leastLoaded, type Reactor } from "../reactors.ts";
import type { RequestHandlers } from "../runtime.ts";
import type { Nexus } from "../scsi/task.ts";
import { allocStatsPage, type StatsPage } from "../stats.ts";
import type { RunningRing, Session } from "../vhost-user/device.ts";
import { coalesceRing, runningRing } from "../vhost-user/running-ring.ts";
import { VIRTIO_SCSI_F } from "../virtio/features.ts";
import { DEFAULT_SIZES, type ScsiSizes } from "../virtio/scsi-config.ts";
import { encodeEvent, type ScsiEvent } from "../virtio/scsi-events.ts";
import { createRequestRing, type RequestRing } from "./ring.ts";

const CONTROL_RING = 0;
const EVENT_RING = 1;

/** Who answers what comes up. They must not throw. */
export interface SessionRequests {
	onControl(session: ScsiSession, request: bigint, info: Buffer): void;
	onCommand(
		session: ScsiSession,
		ring: RequestRing,
		request: bigint,
		info: Buffer,
		errno: number,
	): void;
}

export interface ScsiSession {
	readonly session: Session;
	/** Which of the controller's initiator ports it is. */
	readonly slot: number;
	readonly nexus: Nexus;
	/** What the driver set; rings that start from then on obey. */
	sizes: ScsiSizes;
	/** An event found no ring to go in. */
	missed: boolean;
	/** Those that a reactor runs. */
	requestRings(): RequestRing[];
	startRing(index: number, ring: bigint, node: number): RunningRing;
	/** How request rings call their drivers, those to come as well. */
	coalesce(coalescing: Coalescing): void;
	ringStopped(index: number): void;
	handlers(index: number): Partial<RequestHandlers>;
	/** The driver reset the device. */
	reset(): void;
	/** Tells the driver, if it wants to know. */
	sendEvent(event: ScsiEvent): void;
	/** The page of a ring, made when first asked for. */
	page(index: number): StatsPage;
	/** The page of a ring that has one. */
	pageOf(index: number): StatsPage | undefined;
	/** Gives everything back; all rings have stopped. */
	close(): void;
}

interface Running {
	readonly reactor: Reactor;
	readonly handle: bigint;
	/** Of a request ring. */
	readonly requests: RequestRing | undefined;
}

const WANTED = {
	added: VIRTIO_SCSI_F.HOTPLUG,
	removed: VIRTIO_SCSI_F.HOTPLUG,
	changed: VIRTIO_SCSI_F.CHANGE,
	missed: VIRTIO_SCSI_F.HOTPLUG | VIRTIO_SCSI_F.CHANGE,
} as const;

export function createScsiSession(
	session: Session,
	slot: number,
	nexus: Nexus,
	reactors: readonly Reactor[],
	requests: SessionRequests,
): ScsiSession {
	const pages = new Map<number, StatsPage>();
	const running = new Map<number, Running>();
	let coalescing = NOT_COALESCED;
	const start = (index: number, ring: bigint, node: number): Running => {
		const reactor = leastLoaded(reactors, node);
		const { handle } = reactor;
		if (index === CONTROL_RING) native.reactorStartRawRing(handle, ring);
		else if (index === EVENT_RING) native.reactorStartEventRing(handle, ring);
		else {
			const { cdbSize, senseSize } = self.sizes;
			const config = { cdb_size: cdbSize, sense_size: senseSize };
			native.reactorStartScsiRing(handle, ring, config);
		}
		const requests =
			index > EVENT_RING ? createRequestRing(index, reactor, ring) : undefined;
		reactor.rings++;
		return { reactor, handle: ring, requests };
	};
	/** False: there is no event ring, or no buffer in it; in the latter case C remembers. */
	const send = (event: ScsiEvent): void => {
		const ring = running.get(EVENT_RING);
		if (!ring) {
			self.missed = true;
			return;
		}
		try {
			native.reactorSendEvent(
				ring.reactor.handle,
				ring.handle,
				encodeEvent(event),
			);
		} catch {
			self.missed = true; // it is just being stopped
		}
	};
	const ringOf = (index: number) => running.get(index)?.requests;

	const self: ScsiSession = {
		session,
		slot,
		nexus,
		sizes: DEFAULT_SIZES,
		missed: false,
		requestRings: () =>
			[...running.values()].flatMap((ring) => ring.requests ?? []),
		startRing(index, ring, node) {
			const started = start(index, ring, node);
			const { reactor } = started;
			running.set(index, started);
			if (started.requests && coalescing.delayBaseUs > 0)
				coalesceRing(reactor.handle, ring, coalescing);
			if (index === EVENT_RING && self.missed) {
				self.missed = false;
				self.sendEvent({ kind: "missed" });
			}
			return runningRing(reactor, ring);
		},
		coalesce(wanted) {
			coalescing = wanted;
			for (const { reactor, handle, requests } of running.values())
				if (requests) coalesceRing(reactor.handle, handle, wanted);
		},
		ringStopped(index) {
			const stopped = running.get(index);
			if (!stopped) return;
			running.delete(index);
			stopped.reactor.rings--;
			stopped.requests?.stopped();
		},
		handlers(index) {
			if (index === CONTROL_RING)
				return {
					onRequest: (request, info) => requests.onControl(self, request, info),
				};
			if (index === EVENT_RING) return {};
			return {
				onRequest(request, info, errno) {
					const ring = ringOf(index);
					if (ring) requests.onCommand(self, ring, request, info, errno);
				},
				onLunIdle: (address) => ringOf(index)?.onLunIdle(address),
				onAborted: (cookie, count) => ringOf(index)?.onAborted(cookie, count),
			};
		},
		reset() {
			self.sizes = DEFAULT_SIZES;
			self.missed = false;
		},
		sendEvent(event) {
			if ((session.features & WANTED[event.kind]) !== 0n) send(event);
		},
		page(index) {
			const page = pages.get(index) ?? allocStatsPage();
			pages.set(index, page);
			return page;
		},
		pageOf: (index) => pages.get(index),
		close() {
			for (const page of pages.values()) page.free();
			pages.clear();
		},
	};
	return self;
}
