// SPDX-License-Identifier: MIT
// Parameters that methods of bdevs share.
import { ascii, name, object, optional, required, uuid } from "./types.ts";

/** A bdev, and nothing else. */
export const named = object({
	name: required(name, "Name or UUID of the bdev"),
});

/** What a bdev tells of itself, the same after every restart. `what`: of what its UUID is made. */
export function identityMadeOf(what: string) {
	return {
		uuid: optional(
			uuid,
			`UUID. Default: one made of ${what}, the same after every restart`,
		),
		vendor: optional(
			ascii(8),
			"Vendor that SCSI guests see. Not in SPDK. Default: VHOSTCTL",
		),
		product: optional(
			ascii(16),
			"Product that SCSI guests see. Not in SPDK. Default: the kind's name",
		),
		serial: optional(
			ascii(32),
			"Serial number that SCSI guests see. Not in SPDK. Default: the name",
		),
	};
}
