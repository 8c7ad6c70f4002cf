// SPDX-License-Identifier: MIT
/** Where the sockets are, and what outlives an instance, when nobody says. */
import { lstatSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { VhostctlError } from "../engine/errors.ts";

/**
 * The directory of this user's sockets: /run/vhostctl for root, else vhostctl in
 * $XDG_RUNTIME_DIR, else /var/tmp/vhostctl-UID.
 */
export function runtimeDir(): string {
	const uid = process.getuid?.() ?? 0;
	if (uid === 0) return "/run/vhostctl";
	const session = process.env.XDG_RUNTIME_DIR;
	return session ? join(session, "vhostctl") : `/var/tmp/vhostctl-${uid}`;
}

/** The control socket when no option names one. */
export function defaultRpcSocket(): string {
	return process.env.VHOSTCTL_SOCKET || join(runtimeDir(), "rpc.sock");
}

/**
 * Makes the runtime directory. In /var/tmp anybody could have made it before us, to be asked for
 * I/O in our name: one that is not ours is refused.
 */
export function makeRuntimeDir(): string {
	const path = runtimeDir();
	mkdirSync(path, { recursive: true, mode: 0o700 });
	const found = lstatSync(path);
	if (!found.isDirectory() || found.uid !== process.getuid?.())
		throw new VhostctlError(
			"E_PERMISSION",
			`${path} is not a directory of this user; name others with --socket-dir and --rpc-socket`,
		);
	return path;
}

/**
 * The directory of what outlives an instance: /var/lib/vhostctl for root, else vhostctl in
 * $XDG_STATE_HOME, else in ~/.local/state.
 */
export function defaultStateDir(): string {
	if (process.getuid?.() === 0) return "/var/lib/vhostctl";
	const state = process.env.XDG_STATE_HOME;
	return join(state || join(homedir(), ".local", "state"), "vhostctl");
}
