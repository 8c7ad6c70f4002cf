// SPDX-License-Identifier: MIT
/** Calling the running instance through its control socket. */
import { type Client, connect } from "../engine/control/client.ts";
import type { Given } from "./command.ts";
import { defaultRpcSocket } from "./paths.ts";

export type Params = Record<string, unknown>;

/** The control socket that the command line names, or the default one. */
export function rpcSocket(given: Given): string {
	return given.text("rpc-socket") ?? defaultRpcSocket();
}

/** Runs `work` with a connection to the instance, and closes it. */
export async function attached<T>(
	given: Given,
	work: (client: Client) => Promise<T>,
): Promise<T> {
	const client = await connect(rpcSocket(given));
	try {
		return await work(client);
	} finally {
		client.close();
	}
}
