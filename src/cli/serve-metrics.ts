// SPDX-License-Identifier: MIT
/** vhostctl serve --metrics. */
import type { Engine } from "../engine/engine.ts";
import { messageOf } from "../engine/errors.ts";
import { parseMetricsAddress } from "../engine/metrics/address.ts";
import type {
	MetricsOptions,
	MetricsServer,
} from "../engine/metrics/server.ts";
import type { Given } from "./command.ts";

/** What --metrics says; undefined: nothing. Throws E_INVALID. */
export function metricsOptions(given: Given): MetricsOptions | undefined {
	const text = given.text("metrics");
	if (text === undefined) return undefined;
	const address = parseMetricsAddress(text);
	return { address, takeover: given.flag("takeover") };
}

/** Machines that were taken over are served whether or not their figures can be. */
export async function startMetrics(
	engine: Engine,
	options: MetricsOptions,
): Promise<MetricsServer | undefined> {
	const { serveMetrics } = await import("../engine/metrics/server.ts");
	try {
		return await serveMetrics(engine, options);
	} catch (error) {
		if (!options.takeover) throw error;
		engine.log.error(messageOf(error));
		return undefined;
	}
}
