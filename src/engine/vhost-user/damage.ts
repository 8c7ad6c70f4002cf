// SPDX-License-Identifier: MIT
// What is wrong with an in-flight region that a ring cannot be made on, in words.
import {
	DAMAGE_BATCH,
	DAMAGE_CHAIN,
	DAMAGE_DESC_NUM,
	DAMAGE_FREE,
	DAMAGE_INFLIGHT,
	DAMAGE_USED,
	DAMAGE_VERSION,
	NativeError,
	native,
} from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";

/** By enum vhc_damage: the fields, and what is wrong with them. */
const DAMAGES: Readonly<Record<number, string>> = {
	[DAMAGE_VERSION]: "version, features: no such region is known",
	[DAMAGE_DESC_NUM]:
		"desc_num: fewer entries than the ring has, or more than there is room for",
	[DAMAGE_BATCH]:
		"last_batch_head, next: the last batch leads beyond the entries",
	[DAMAGE_INFLIGHT]: "inflight: more than the ring has entries",
	[DAMAGE_USED]: "used_idx, old_used_idx: beyond the ring",
	[DAMAGE_FREE]: "free_head, next: the free entries go round in a circle",
	[DAMAGE_CHAIN]:
		"num, last, next: a chain of no length, of another's entries, or that leads elsewhere",
};

/**
 * What creating a ring on an in-flight buffer (struct vhc_inflight *, or 0) threw, with the
 * reason if its region there is damaged.
 */
export function explainDamage(
	error: unknown,
	inflight: bigint,
	ring: number,
): unknown {
	if (!(error instanceof NativeError && error.code === "EPROTO") || !inflight)
		return error;
	const why = DAMAGES[native.inflightDamage(inflight)] ?? "no known reason";
	return new VhostctlError(
		"E_PROTOCOL",
		`ring ${ring}: damaged in-flight region: ${why}`,
		{ cause: error },
	);
}
