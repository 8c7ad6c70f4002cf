// SPDX-License-Identifier: MIT
// Bdevs that stack on others.
import * as v from "valibot";
import { identityMadeOf, named } from "./bdev-params.ts";
import {
	array,
	bdevName,
	done,
	methods,
	name,
	object,
	oneOf,
	only,
	optional,
	required,
	string,
	uint8,
	uint32,
	uint64,
} from "./types.ts";

const baseName = required(
	name,
	"Name or UUID of the bdev to stack on, which must be there and in no other use",
);
const identity = identityMadeOf("the kind and the name");

function latency(text: string) {
	return required(uint64, `${text}, in microseconds, up to a day`);
}

const delayMethods = methods({
	bdev_delay_create: {
		effect: "makes",
		description:
			"Makes a bdev whose reads and writes take a while: of a hundred requests, 99 take the average and one, chosen at random, the p99 latency, from when they are submitted, or as long as the base takes if that is longer. Other requests are as quick as the base.",
		params: object({
			name: required(name, "Name"),
			base_bdev_name: baseName,
			avg_read_latency: latency("Average latency of reads"),
			p99_read_latency: latency("p99 latency of reads"),
			avg_write_latency: latency("Average latency of writes"),
			p99_write_latency: latency("p99 latency of writes"),
			...identity,
		}),
		result: bdevName,
		example: {
			name: "Slow0",
			base_bdev_name: "Malloc0",
			avg_read_latency: 1000,
			p99_read_latency: 20000,
			avg_write_latency: 2000,
			p99_write_latency: 50000,
		},
	},
	bdev_delay_update_latency: {
		effect: "sets",
		description:
			"Changes a latency of a delay bdev, for the requests that are submitted from then on.",
		params: object({
			delay_bdev_name: required(name, "Name or UUID of the bdev"),
			latency_type: required(
				oneOf("avg_read", "p99_read", "avg_write", "p99_write"),
				"Which one",
			),
			latency_us: latency("The latency"),
		}),
		result: done,
		example: {
			delay_bdev_name: "Slow0",
			latency_type: "avg_read",
			latency_us: 500,
		},
	},
	bdev_delay_delete: {
		effect: "alters",
		description: "Deletes a delay bdev. Its base stays.",
		params: named,
		result: done,
		example: { name: "Slow0" },
	},
});

const chance = v.pipe(
	v.number("must be a number"),
	v.gtValue(0, "must be more than 0"),
	v.maxValue(1, "must be at most 1"),
);

const errorMethods = methods({
	bdev_error_create: {
		effect: "makes",
		description:
			"Makes a bdev, EE_ and the name of its base, that does to requests what bdev_error_inject_error says, and until then nothing.",
		params: object({ base_name: baseName, ...identity }),
		result: done,
		example: { base_name: "Malloc0" },
	},
	bdev_error_inject_error: {
		effect: "sets",
		description:
			"Has an error bdev do something to the next requests of a kind, in place of what was said of that kind before: fail them (a guest sees an I/O error; over SCSI, MEDIUM ERROR), keep them until bdev_error_resume_pending, falsify one byte of the data read or written, or answer that there is no memory (an I/O error; over SCSI, status BUSY). How many is counted exactly, also over several reactors.",
		params: object({
			name: required(name, "Name or UUID of the bdev"),
			io_type: required(
				oneOf(
					"clear",
					"read",
					"write",
					"unmap",
					"flush",
					"write_zeroes",
					"all",
				),
				"Requests it is for; all: each kind on its own, so num of each; clear: ends what was said of any. SPDK has no write_zeroes, and all is without it there",
			),
			error_type: required(
				oneOf("failure", "pending", "corrupt_data", "nomem"),
				"What happens to them. SPDK's nvme_failure is not supported",
			),
			num: optional(
				uint32,
				"How many; 0 ends what was said before. Default: 1",
			),
			queue_depth: optional(
				uint64,
				"Only while the base has so many requests of the reactor's. Default: 0",
			),
			corrupt_offset: optional(
				uint64,
				"corrupt_data: which byte of a request's data; requests without it stay as they are. Default: 0",
			),
			corrupt_value: optional(
				uint8,
				"corrupt_data: what the byte is XORed with, 1 to 255",
			),
			lba: optional(
				uint64,
				"Only requests that touch this block or one behind it; never a flush. Not in SPDK. Default: all",
			),
			num_blocks: optional(
				uint64,
				"So many blocks from lba on. Not in SPDK. Default: up to the end",
			),
			probability: optional(
				chance,
				"Which share of the requests, above 0 up to 1; num counts those it happens to. Not in SPDK. Default: 1",
			),
			seed: optional(
				uint64,
				"Of the random sequence that says which: the same for the same seed. Not in SPDK. Default: 0",
			),
			nvme_sct: only(0, "an NVMe status"),
			nvme_sc: only(0, "an NVMe status"),
		}),
		result: done,
		example: {
			name: "EE_Malloc0",
			io_type: "read",
			error_type: "failure",
			num: 3,
		},
	},
	bdev_error_resume_pending: {
		effect: "alters",
		description:
			"Has the requests that an error bdev keeps go on, as if they were submitted now, and keep no more.",
		params: named,
		result: done,
		example: { name: "EE_Malloc0" },
	},
	bdev_error_delete: {
		effect: "alters",
		description:
			"Deletes an error bdev; requests that it keeps fail. Its base stays.",
		params: named,
		result: done,
		example: { name: "EE_Malloc0" },
	},
});

export const stackedMethods = methods({
	...delayMethods,
	...errorMethods,
	bdev_passthru_create: {
		effect: "makes",
		description: "Makes a bdev that passes everything on to another.",
		params: object({
			name: required(name, "Name"),
			base_bdev_name: baseName,
			...identity,
		}),
		result: bdevName,
		example: { name: "Pass0", base_bdev_name: "Malloc0" },
	},
	bdev_passthru_delete: {
		effect: "alters",
		description: "Deletes a passthru bdev. Its base stays.",
		params: named,
		result: done,
		example: { name: "Pass0" },
	},
	bdev_split_create: {
		effect: "makes",
		description:
			"Makes bdevs of equal parts of another: its name with p0, p1 and so on. Fewer than asked for are made if no more fit. They do not change when the base grows; it cannot be made smaller than they need.",
		params: object({
			base_bdev: baseName,
			split_count: required(uint32, "How many parts"),
			split_size_mb: optional(
				uint64,
				"MiB of each. Default: 0, as many as fit",
			),
		}),
		result: array(string),
		example: { base_bdev: "Malloc0", split_count: 2 },
	},
	bdev_split_delete: {
		effect: "alters",
		description: "Deletes all parts of a bdev. It stays.",
		params: object({
			base_bdev: required(name, "Name or UUID of the bdev that is split"),
		}),
		result: done,
		example: { base_bdev: "Malloc0" },
	},
});
