// SPDX-License-Identifier: MIT
import { NOTIFICATION_TYPES } from "../../notifications.ts";
import {
	array,
	methods,
	none,
	number,
	object,
	oneOf,
	optional,
	string,
	uint64,
	unlimited64,
} from "./types.ts";

export const notifyMethods = methods({
	notify_get_types: {
		effect: "none",
		description:
			"Lists the kinds of events that notify_get_notifications tells.",
		params: none,
		result: array(oneOf(...NOTIFICATION_TYPES)),
	},
	notify_get_notifications: {
		effect: "none",
		description:
			"Tells what happened to bdevs, oldest first; ctx is the bdev's name. The last 1024 events are kept. A client that comes again asks for the id after the last that it saw. Ids begin at 0 with each instance, one that took over included.",
		params: object({
			id: optional(uint64, "The first event of interest. Default: 0"),
			max: optional(unlimited64, "At most so many events. Default: all"),
		}),
		result: array(
			object({ type: oneOf(...NOTIFICATION_TYPES), ctx: string, id: number }),
		),
		example: { id: 10, max: 1 },
	},
});
