// SPDX-License-Identifier: MIT
import { type Engine, VhostctlError } from "../../engine.ts";
import { LOG_COMPONENTS, type LogComponent, type LogLevel } from "../../log.ts";
import { type LogSettings, settingsOf } from "../../log-control.ts";
import type { logMethods } from "../schema/log.ts";
import type { Checked } from "../schema.ts";
import type { Context, Handlers } from "./context.ts";

/** As SPDK writes it. */
type LevelName = Checked<"log_set_level">["level"];

export function levelName(level: LogLevel): LevelName {
	return level.toUpperCase() as LevelName;
}

function getLevel({ engine }: Context): LevelName {
	return levelName(settingsOf(engine.log).level);
}

function setLevel({ engine }: Context, { level }: { level: LevelName }): true {
	settingsOf(engine.log).level = level.toLowerCase() as LogLevel;
	return true;
}

/** The parts that a flag means; upper and lower case are the same. Throws E_INVALID. */
function componentsOf(flag: string): readonly LogComponent[] {
	const wanted = flag.toLowerCase();
	const found = LOG_COMPONENTS.filter(
		(component) => wanted === "all" || wanted === component,
	);
	if (found.length > 0) return found;
	throw new VhostctlError(
		"E_INVALID",
		`there is no log flag '${flag}': ${LOG_COMPONENTS.join(", ")} or all`,
	);
}

function change(
	engine: Engine,
	flag: string,
	apply: (components: LogSettings["components"], of: LogComponent) => void,
): true {
	const { components } = settingsOf(engine.log);
	for (const component of componentsOf(flag)) apply(components, component);
	return true;
}

export const logHandlers: Handlers<keyof typeof logMethods> = {
	log_get_level: getLevel,
	log_set_level: setLevel,
	log_get_print_level: getLevel,
	log_set_print_level: setLevel,
	log_get_flags({ engine }) {
		const { components } = settingsOf(engine.log);
		return Object.fromEntries(
			LOG_COMPONENTS.map((component) => [component, components.has(component)]),
		);
	},
	log_set_flag: ({ engine }, { flag }) =>
		change(engine, flag, (components, component) => {
			components.add(component);
		}),
	log_clear_flag: ({ engine }, { flag }) =>
		change(engine, flag, (components, component) => {
			components.delete(component);
		}),
	log_enable_timestamps({ engine }, { enabled }) {
		settingsOf(engine.log).timestamps = enabled;
		return true;
	},
};
