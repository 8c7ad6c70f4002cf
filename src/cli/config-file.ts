// SPDX-License-Identifier: MIT
/** Configuration files, in the form of SPDK's save_config. */
import { readFileSync } from "node:fs";
import {
	type Item,
	itemsOf,
	parseConfigText,
} from "../engine/control/config/document.ts";
import { fromErrno } from "../engine/errors.ts";

function read(path: string): string {
	try {
		return readFileSync(path === "-" ? 0 : path, "utf8");
	} catch (error) {
		throw fromErrno(error, path);
	}
}

/** Reads a configuration, from standard input if the path is `-`. Throws VhostctlError. */
export function readConfig(path: string): {
	/** As the file has them. */
	readonly subsystems: unknown[];
	readonly items: readonly Item[];
	readonly source: string;
} {
	const source = path === "-" ? "standard input" : path;
	const document = parseConfigText(read(path), source);
	const items = itemsOf(document, source);
	// itemsOf has checked that it has subsystems.
	const { subsystems } = document as { subsystems: unknown[] };
	return { subsystems, items, source };
}
