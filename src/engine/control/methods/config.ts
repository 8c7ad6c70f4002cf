// SPDX-License-Identifier: MIT
import { VhostctlError } from "../../errors.ts";
import { applyConfig } from "../config/apply.ts";
import { itemsOf, SUBSYSTEMS, toDocument } from "../config/document.ts";
import type { Maker } from "../config/maker.ts";
import { describeRunning } from "../describe.ts";
import type { configMethods } from "../schema/config.ts";
import type { Context, Handlers } from "./context.ts";

/** makerOf: what carries out the calls of configurations. */
export const configHandlers = (
	makerOf: (context: Context) => Maker,
): Handlers<keyof typeof configMethods> => ({
	framework_get_subsystems: () =>
		SUBSYSTEMS.map(({ subsystem, depends_on }) => ({
			subsystem,
			depends_on: [...depends_on],
		})),
	framework_get_config({ engine }, { name }) {
		const { subsystems } = toDocument(describeRunning(engine));
		const found = subsystems.find(({ subsystem }) => subsystem === name);
		if (found) return [...found.config];
		throw new VhostctlError("E_INVALID", `Subsystem '${name}' not found`);
	},
	async framework_start_init({ startup }): Promise<true> {
		await startup?.init();
		return true;
	},
	async framework_wait_init({ startup }): Promise<true> {
		await startup?.done;
		return true;
	},
	async vhostctl_load_config(context, config) {
		const items = itemsOf(config, "the configuration");
		const { applied, ignored } = await applyConfig(
			makerOf(context),
			items,
			"the configuration",
		);
		return { applied, ignored: [...ignored] };
	},
});
