// SPDX-License-Identifier: MIT
import {
	type Controller,
	type Engine,
	type Trace,
	type TracedCommand,
	type TracedRequest,
	VhostctlError,
} from "../../engine.ts";
import type { traceMethods } from "../schema/trace.ts";
import type { Handlers } from "./context.ts";

function find(engine: Engine, name: string): Controller {
	const found = engine.controllers().find((one) => one.name === name);
	if (!found) throw new VhostctlError("E_NOT_FOUND", `no controller ${name}`);
	return found;
}

function describeCommand(scsi: TracedCommand) {
	return {
		target: scsi.target ?? null,
		lun: scsi.lun ?? null,
		tag: `0x${scsi.tag.toString(16)}`,
		opcode: scsi.opcode ?? null,
		status: scsi.status,
		response: scsi.response,
		sense_key: scsi.senseKey,
		asc: scsi.asc,
		ascq: scsi.ascq,
	};
}

function describeRequest(one: TracedRequest) {
	return {
		number: one.number,
		batch: one.batch,
		op: one.op,
		offset: one.offset,
		length: one.length,
		result: one.error ?? "ok",
		head: one.head,
		scsi: one.scsi ? describeCommand(one.scsi) : null,
		up: one.up,
		quiet: one.quiet,
		kicked_ns: one.kicked ?? null,
		taken_ns: one.taken,
		submitted_ns: one.submitted ?? null,
		completed_ns: one.completed ?? null,
		published_ns: one.published ?? null,
		called_ns: one.called ?? null,
	};
}

/** A ring that may have a trace. */
interface Source {
	readonly session: number;
	/** When its connection ended; null: it has not. */
	readonly ended: number | null;
	readonly ring: number;
	read(last: number | undefined): Trace | undefined;
}

/** The connection that ended before those that there are. */
function sourcesOf({ sessions, traces }: Controller): Source[] {
	const past = traces.ended;
	const pastRings = past?.rings.map((ring) => ({
		...{ session: past.session, ended: past.endedAt, ring },
		read: (last: number | undefined) => past.read(ring, last),
	}));
	const rings = sessions.flatMap((session) =>
		session.rings.map(({ index: ring }) => ({
			...{ session: session.id, ended: null, ring },
			read: (last: number | undefined) => traces.read(session, ring, last),
		})),
	);
	return [...(pastRings ?? []), ...rings];
}

export const traceHandlers: Handlers<keyof typeof traceMethods> = {
	vhostctl_set_trace({ engine }, { ctrlr, size }) {
		find(engine, ctrlr).traces.setSize(size);
		return true;
	},
	vhostctl_get_trace({ engine }, { ctrlr, ring: wanted, last }) {
		const controller = find(engine, ctrlr);
		const rings = sourcesOf(controller)
			.filter(({ ring }) => wanted === undefined || ring === wanted)
			.flatMap(({ session, ended, ring, read }) => {
				const trace = read(last);
				if (!trace) return [];
				return {
					...{ session, ended, ring },
					now_ns: trace.nowNs,
					now: Date.now(),
					requests: trace.requests.map(describeRequest),
				};
			});
		const { kind, traces } = controller;
		return { ctrlr, kind, size: traces.size, rings };
	},
};
