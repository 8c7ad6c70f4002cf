// SPDX-License-Identifier: MIT
// What comes in the control ring: task management functions, and notifications, of which there are none.
import { Buffer } from "node:buffer";
import { decode, LAYOUTS } from "../../ffi/layout.ts";
import { native } from "../../ffi/native.ts";
import { ASC } from "../scsi/sense.ts";
import type { Nexus } from "../scsi/task.ts";
import { decodeAddress } from "../virtio/scsi-address.ts";
import { SCSI_RESPONSE, type ScsiResponse, TMF } from "../virtio/scsi-codes.ts";
import {
	type ControlRequest,
	decodeControl,
	encodeNotificationsResponse,
	encodeTmfResponse,
	MAX_CONTROL_BYTES,
} from "../virtio/scsi-control.ts";
import { abortTasks, countTasks } from "./abort.ts";
import type { ScsiLun } from "./lun.ts";

const { OK, FUNCTION_SUCCEEDED, FUNCTION_REJECTED } = SCSI_RESPONSE;
const { ABORTED, RESET, BAD_TARGET, INCORRECT_LUN, FAILURE } = SCSI_RESPONSE;

/** Where a function has its effect. */
export interface TaskScope {
	/** The logical units of a target, in ascending order; none: there is no such target. */
	unitsOf(target: number): ScsiLun[];
	/** All sessions. */
	nexuses(): Nexus[];
}

/** Carries out a function on one logical unit. */
type UnitFunction = (
	lun: ScsiLun,
	nexus: Nexus,
	tag: bigint,
	scope: TaskScope,
) => Promise<ScsiResponse>;

const UNIT_FUNCTIONS: Readonly<Record<number, UnitFunction>> = {
	async [TMF.ABORT_TASK](lun, nexus, tag) {
		await abortTasks(lun, [nexus], { tag, response: ABORTED });
		return OK;
	},
	async [TMF.ABORT_TASK_SET](lun, nexus) {
		await abortTasks(lun, [nexus], { response: ABORTED });
		return OK;
	},
	// The task set is that of all sessions (TST 000b), and those who lost commands hear of it.
	async [TMF.CLEAR_TASK_SET](lun, nexus, _, scope) {
		const losers = await abortTasks(lun, scope.nexuses(), {
			response: ABORTED,
		});
		lun.unit.attentions.establish(
			ASC.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
			losers.filter((loser) => loser !== nexus),
		);
		return OK;
	},
	async [TMF.LOGICAL_UNIT_RESET](lun, _nexus, _tag, scope) {
		await abortTasks(lun, scope.nexuses(), { response: RESET });
		lun.unit.reset();
		return OK;
	},
	async [TMF.QUERY_TASK](lun, nexus, tag) {
		const count = await countTasks(lun, lun.seat(nexus), tag);
		return count > 0 ? FUNCTION_SUCCEEDED : OK;
	},
	async [TMF.QUERY_TASK_SET](lun, nexus) {
		const count = await countTasks(lun, lun.seat(nexus), undefined);
		return count > 0 ? FUNCTION_SUCCEEDED : OK;
	},
};

/** I_T NEXUS RESET: the session starts anew with all that the target has (SAM-5 6.3.4). */
async function resetNexus(
	units: readonly ScsiLun[],
	nexus: Nexus,
): Promise<void> {
	await Promise.all(
		units.map(async (lun) => {
			await abortTasks(lun, [nexus], { response: RESET });
			lun.unit.nexusGone(nexus);
			lun.unit.attentions.establish(ASC.NEXUS_LOSS, [nexus]);
		}),
	);
}

/** Carries a task management function out; resolves when it has taken effect. */
async function manageTasks(
	{ subtype, lun, tag }: ControlRequest & { kind: "tmf" },
	nexus: Nexus,
	scope: TaskScope,
): Promise<ScsiResponse> {
	const address = decodeAddress(lun);
	if (address.kind === "report-luns") return INCORRECT_LUN;
	if (address.kind === "invalid") return BAD_TARGET;
	const units = scope.unitsOf(address.target);
	if (units.length === 0) return BAD_TARGET;
	if (subtype === TMF.I_T_NEXUS_RESET) {
		await resetNexus(units, nexus);
		return OK;
	}
	const unit = units.find((unit) => unit.lun === address.lun);
	if (!unit) return INCORRECT_LUN;
	const work = UNIT_FUNCTIONS[subtype];
	// CLEAR ACA has nothing to clear; the others are not known.
	return work ? work(unit, nexus, tag, scope) : FUNCTION_REJECTED;
}

/** No logical unit reports events of its own: none is supported, none subscribed. */
function answerNotifications(lun: Buffer, scope: TaskScope): Buffer {
	const address = decodeAddress(lun);
	const units = address.kind === "unit" ? scope.unitsOf(address.target) : [];
	const found =
		address.kind === "unit" && units.some((unit) => unit.lun === address.lun);
	const absent = units.length > 0 ? INCORRECT_LUN : BAD_TARGET;
	return encodeNotificationsResponse(0, found ? OK : absent);
}

async function answer(
	control: ControlRequest,
	nexus: Nexus,
	scope: TaskScope,
): Promise<Buffer> {
	if (control.kind === "notifications")
		return answerNotifications(control.lun, scope);
	return encodeTmfResponse(await manageTasks(control, nexus, scope));
}

/** A function that could not be carried out has not taken effect, and must not say so. */
function failure({ kind }: ControlRequest): Buffer {
	return kind === "tmf"
		? encodeTmfResponse(FAILURE)
		: encodeNotificationsResponse(0, FAILURE);
}

function readControl(
	request: bigint,
	info: Buffer,
): ControlRequest | undefined {
	const { out_len, in_len } = decode("vhc_request_info", info);
	const start = info.subarray(LAYOUTS.vhc_request_info.size);
	const length = Math.min(Number(out_len), MAX_CONTROL_BYTES);
	const out =
		start.length >= length
			? start.subarray(0, length)
			: native.requestRead(request, 0, length);
	return decodeControl(out, Number(in_len));
}

/**
 * Answers a request of a session's control ring. One that cannot be read, or has no
 * room for its answer, goes back with nothing written. Rejects with why a function
 * failed, after answering.
 */
export async function answerControl(
	request: bigint,
	info: Buffer,
	nexus: Nexus,
	scope: TaskScope,
): Promise<void> {
	const control = readControl(request, info);
	let response: Buffer = Buffer.alloc(0);
	try {
		if (control) response = await answer(control, nexus, scope);
	} catch (error) {
		if (control) response = failure(control);
		throw error;
	} finally {
		const written = native.requestWrite(request, 0, response);
		native.requestCompleteRaw(request, written);
	}
}
