// SPDX-License-Identifier: MIT
// What an engine is made of, for the parts of the engine that its face does not show.
import type { BdevRegistry } from "./bdev/registry.ts";
import type { BlkController } from "./blk-controller.ts";
import type { CustomController } from "./custom/device.ts";
import type { EngineOptions } from "./engine-options.ts";
import type { Logger } from "./log.ts";
import type { Notifications } from "./notifications.ts";
import type { Reactor } from "./reactors.ts";
import type { Runtime } from "./runtime.ts";
import type { Store } from "./scsi/task.ts";
import type { ServedSet } from "./served.ts";
import type { ScsiController } from "./virtio-scsi/controller.ts";

export type Controller = BlkController | ScsiController;

export interface EngineInternals {
	readonly options: EngineOptions;
	/** Absolute. */
	readonly socketDir: string;
	readonly runtime: Runtime;
	readonly reactors: readonly Reactor[];
	readonly bdevs: BdevRegistry;
	readonly notifications: Notifications;
	readonly served: ServedSet<Controller>;
	/** Of the program that has the engine. */
	readonly devices: ServedSet<CustomController>;
	readonly store: Store | undefined;
	readonly log: Logger;
}

const known = new WeakMap<object, EngineInternals>();

export function rememberInternals(
	engine: object,
	internals: EngineInternals,
): void {
	known.set(engine, internals);
}

/** What an engine that startEngine gave is made of. */
export function internalsOf(engine: object): EngineInternals {
	const found = known.get(engine);
	if (found) return found;
	throw new Error("no engine of startEngine's");
}
