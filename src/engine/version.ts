// SPDX-License-Identifier: MIT
/** The version of this package, from its package.json. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** As `0.1.0`. Found upwards from here: sources and dist lie at different depths. */
export function version(): string {
	for (
		let dir = dirname(fileURLToPath(import.meta.url));
		dir !== dirname(dir);
		dir = dirname(dir)
	) {
		const found = read(join(dir, "package.json"));
		if (found?.name === "vhostctl" && found.version) return found.version;
	}
	throw new Error("package.json of vhostctl is missing");
}

function read(path: string): { name?: string; version?: string } | undefined {
	try {
		return JSON.parse(readFileSync(path, "utf8"));
	} catch {
		return undefined;
	}
}
