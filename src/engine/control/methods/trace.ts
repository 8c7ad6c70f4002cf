// SPDX-License-Identifier: MIT
import {
	type Controller,
	type Engine,
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

export const traceHandlers: Handlers<keyof typeof traceMethods> = {
	vhostctl_set_trace({ engine }, { ctrlr, size }) {
		find(engine, ctrlr).traces.setSize(size);
		return true;
	},
	vhostctl_get_trace({ engine }, { ctrlr, ring, last }) {
		const controller = find(engine, ctrlr);
		const wanted = (index: number) => ring === undefined || ring === index;
		const rings = controller.sessions.flatMap((session) =>
			session.rings.flatMap(({ index }) => {
				const trace = wanted(index)
					? controller.traces.read(session, index, last)
					: undefined;
				if (!trace) return [];
				return {
					session: session.id,
					ring: index,
					now_ns: trace.nowNs,
					now: Date.now(),
					requests: trace.requests.map(describeRequest),
				};
			}),
		);
		const { kind, traces } = controller;
		return { ctrlr, kind, size: traces.size, rings };
	},
};
