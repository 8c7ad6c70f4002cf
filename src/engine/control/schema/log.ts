// SPDX-License-Identifier: MIT
import {
	boolean,
	done,
	methods,
	none,
	object,
	oneOf,
	record,
	required,
	string,
} from "./types.ts";

const level = oneOf("ERROR", "WARNING", "NOTICE", "INFO", "DEBUG");
const setLevel = object({
	level: required(level, "Lines of this level and of rarer ones are written"),
});
const flag = object({
	flag: required(string, "A name of log_get_flags, or all"),
});
const alone =
	"There is one log, on standard error, and it has one level: log_set_level and log_set_print_level set the same.";

export const logMethods = methods({
	log_get_level: {
		effect: "none",
		when: "always",
		description: `Tells the level of the log. ${alone}`,
		params: none,
		result: level,
	},
	log_set_level: {
		effect: "none",
		when: "always",
		description: `Sets the level of the log, as serve --log-level does. ${alone}`,
		params: setLevel,
		result: done,
		example: { level: "DEBUG" },
	},
	log_get_print_level: {
		effect: "none",
		when: "always",
		description: "The same as log_get_level.",
		params: none,
		result: level,
	},
	log_set_print_level: {
		effect: "none",
		when: "always",
		description: "The same as log_set_level.",
		params: setLevel,
		result: done,
		example: { level: "INFO" },
	},
	log_get_flags: {
		effect: "none",
		when: "always",
		description:
			"Tells of which parts debug lines are written at level DEBUG: messages of front ends (vhost), rings that start and stop (vhost_ring), calls of methods (rpc), taking over (takeover). At first, of all.",
		params: none,
		result: record(string, boolean),
	},
	log_set_flag: {
		effect: "none",
		when: "always",
		description:
			"Has debug lines of a part written, at level DEBUG. Other lines do not depend on it.",
		params: flag,
		result: done,
		example: { flag: "vhost" },
	},
	log_clear_flag: {
		effect: "none",
		when: "always",
		description: "Has no debug lines of a part written.",
		params: flag,
		result: done,
		example: { flag: "all" },
	},
	log_enable_timestamps: {
		effect: "none",
		when: "always",
		description:
			"Has lines for people begin with the time, or not. JSON lines always have it.",
		params: object({
			enabled: required(boolean, "Whether lines begin with the time"),
		}),
		result: done,
		example: { enabled: false },
	},
});
