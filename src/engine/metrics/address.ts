// SPDX-License-Identifier: MIT
import { VhostctlError } from "../errors.ts";

/** Where to listen: at a host's port (0: any that is free), or at a Unix socket. */
export type MetricsAddress =
	| { readonly host: string; readonly port: number }
	| { readonly path: string };

const LOOPBACK = "127.0.0.1";

/**
 * `host:port`, `[v6]:port`, `:port` on the loopback interface only, or a path with a slash in it.
 * Throws E_INVALID.
 */
export function parseMetricsAddress(text: string): MetricsAddress {
	if (text.includes("/")) return { path: text };
	const [, v6, name, digits] =
		/^(?:\[([0-9a-f:.]+)\]|([^\s:[\]]*)):(\d{1,5})$/i.exec(text) ?? [];
	const port = Number(digits);
	if (digits !== undefined && port <= 0xffff)
		return { host: v6 ?? (name || LOOPBACK), port };
	throw new VhostctlError(
		"E_INVALID",
		`metrics address ${JSON.stringify(text)}: want host:port, [v6]:port, :port (this host only), or the path of a Unix socket with a slash in it`,
	);
}

/** As a URL has it. */
export function formatHost(host: string, port: number): string {
	return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
