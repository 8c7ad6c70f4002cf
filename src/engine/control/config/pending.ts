// SPDX-License-Identifier: MIT
// What a state file has and could not be made: it waits for the next start, or for its deletion.
import type { AnyCall } from "./document.ts";

const DELETES = /_(delete|delete_controller|remove_target)$/;

/** What a call makes or deletes, as bdev disk0; undefined: neither. */
function subjectOf({ method, params }: AnyCall): string | undefined {
	if (/^bdev_split_(create|delete)$/.test(method))
		return `split ${params.base_bdev}`;
	if (method === "bdev_error_create") return `bdev EE_${params.base_name}`;
	if (/^bdev_.*_(create|delete)$/.test(method)) return `bdev ${params.name}`;
	if (/^vhost_(create|delete)_(.*_)?controller$/.test(method))
		return `controller ${params.ctrlr}`;
	if (/^vhost_scsi_controller_(add|remove)_target$/.test(method))
		return `target ${params.ctrlr} ${params.scsi_target_num}`;
	return undefined;
}

/** Whether a call is about what another one deletes. */
function concerns(call: AnyCall, deletion: AnyCall): boolean {
	const subject = subjectOf(deletion);
	if (subject === subjectOf(call)) return true;
	return deletion.method === "vhost_delete_controller"
		? call.params.ctrlr === deletion.params.ctrlr
		: subject === `bdev ${call.params.name}`;
}

/** The calls that remain when `deletion` deletes what others would make; undefined: it does not. */
export function withoutDeleted<C extends AnyCall>(
	calls: readonly C[],
	deletion: AnyCall,
): C[] | undefined {
	if (!DELETES.test(deletion.method)) return undefined;
	const rest = calls.filter((call) => !concerns(call, deletion));
	return rest.length < calls.length ? rest : undefined;
}

/** What a call sets something of. */
function settingOf({ params }: AnyCall): string {
	return params.ctrlr === undefined
		? `bdev ${params.name}`
		: `controller ${params.ctrlr}`;
}

/** Of the calls of a file, those that make what `running` has not, and set something of that. */
export function pendingOf(
	calls: readonly AnyCall[],
	running: readonly AnyCall[],
): AnyCall[] {
	const there = new Set(running.map(subjectOf));
	const missing = new Set(
		calls.map(subjectOf).filter((subject) => !there.has(subject)),
	);
	return calls.filter((call) =>
		missing.has(subjectOf(call) ?? settingOf(call)),
	);
}
