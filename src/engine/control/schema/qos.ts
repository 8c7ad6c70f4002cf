// SPDX-License-Identifier: MIT
import {
	done,
	integer,
	methods,
	name,
	object,
	optional,
	required,
} from "./types.ts";

const ios = integer(0, 2 ** 50);
const mebibytes = integer(0, 2 ** 30);

export const qosMethods = methods({
	bdev_set_qos_limit: {
		effect: "sets",
		description:
			"Limits what all users of a bdev may do with it in a second, together. 0 takes a limit away; one that is not given stays as it is; at least one must be given. A new limit takes effect at once. Reads and writes count, as in SPDK; flushes, unmaps and write zeroes do not. The limits are kept as they are asked for: nothing is rounded to thousands.",
		params: object({
			name: required(name, "Name or UUID of the bdev"),
			rw_ios_per_sec: optional(ios, "Reads and writes a second"),
			rw_mbytes_per_sec: optional(mebibytes, "MiB read and written a second"),
			r_mbytes_per_sec: optional(mebibytes, "MiB read a second"),
			w_mbytes_per_sec: optional(mebibytes, "MiB written a second"),
		}),
		result: done,
		example: {
			name: "Malloc0",
			rw_ios_per_sec: 20000,
			rw_mbytes_per_sec: 100,
			r_mbytes_per_sec: 50,
			w_mbytes_per_sec: 50,
		},
	},
});
