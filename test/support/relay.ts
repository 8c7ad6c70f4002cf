// SPDX-License-Identifier: MIT
// A socket that a device connects to, for front ends of ours, which connect too: what comes at
// one is passed on to the other, descriptors and all.

import type { Connection, Runtime } from "../../src/engine/runtime.ts";
import { native } from "../../src/ffi/native.ts";

export interface Relay {
	/** How often a device has connected. */
	readonly connections: number;
	/** The device that is connected, if there is one. */
	readonly device: Connection | undefined;
	close(): void;
}

function pass(from: Connection, to: Connection): void {
	from.onMessage(({ data, fds }) => {
		try {
			to.send(data, fds);
			from.next();
		} catch {
			from.close();
		}
		for (const fd of fds) native.fdClose(fd);
	});
	from.onClose(() => to.close());
	from.next();
}

/** Listens at devicePath for a device, and at frontendPath for front ends, one after the other. */
export function makeRelay(
	runtime: Runtime,
	devicePath: string,
	frontendPath: string,
): Relay {
	let connections = 0;
	let device: Connection | undefined;
	const forDevice = runtime.listen(devicePath, 0o600, (connection) => {
		connections++;
		device = connection;
		connection.onClose(() => {
			if (device === connection) device = undefined;
		});
	});
	const forFrontend = runtime.listen(frontendPath, 0o600, (frontend) => {
		if (!device) return frontend.close();
		pass(device, frontend);
		pass(frontend, device);
		device = undefined;
	});
	return {
		get connections() {
			return connections;
		},
		get device() {
			return device;
		},
		close() {
			forDevice.close();
			forFrontend.close();
		},
	};
}
