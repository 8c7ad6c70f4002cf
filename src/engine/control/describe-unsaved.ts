// SPDX-License-Identifier: MIT
// What was set of an engine that no configuration has, as in SPDK: a successor has it all the same.
import type { Bdev, Engine } from "../engine.ts";
import { LOG_COMPONENTS } from "../log.ts";
import { lineSettings } from "../log-control.ts";
import { type Call, call } from "./describe-call.ts";
import { histogramOf } from "./methods/iostat.ts";
import { levelName } from "./methods/log.ts";

function bdevCalls(bdev: Bdev): Call[] {
	const { name, queueDepth } = bdev;
	const period = queueDepth.periodUs;
	const histogram = histogramOf(bdev);
	return [
		...(period > 0
			? [call("bdev_set_qd_sampling_period", { name, period })]
			: []),
		...(histogram
			? [call("bdev_enable_histogram", { name, enable: true, ...histogram })]
			: []),
	];
}

/** None of a program's own logger, of which we know nothing. */
function logCalls({ log }: Engine): Call[] {
	const settings = lineSettings(log);
	if (!settings) return [];
	const { level, components, timestamps } = settings;
	return [
		call("log_set_level", { level: levelName(level) }),
		...LOG_COMPONENTS.map((flag) =>
			call(components.has(flag) ? "log_set_flag" : "log_clear_flag", { flag }),
		),
		call("log_enable_timestamps", { enabled: timestamps }),
	];
}

/** The calls that set it, after those of describeEngine. */
export function describeUnsaved(engine: Engine): Call[] {
	return [...engine.bdevs.list().flatMap(bdevCalls), ...logCalls(engine)];
}
