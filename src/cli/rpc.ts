// SPDX-License-Identifier: MIT
/** vhostctl rpc: any method of the control socket. */
import { attached } from "./attach.ts";
import { type Given, type Group, RPC_SOCKET } from "./command.ts";
import { UsageError } from "./errors.ts";
import { printJson } from "./output.ts";

export const rpc: Group = {
	name: "rpc",
	summary: "Call a method of the control socket",
	commands: [
		{
			usage: "<method> [params]",
			summary: "Call a method of the control socket and print its result",
			options: [RPC_SOCKET],
			example: `vhostctl rpc bdev_get_bdevs '{"name": "disk0"}'`,
			run,
		},
	],
};

async function run(given: Given): Promise<void> {
	const [method = "", text] = given.args;
	const params = text === undefined ? undefined : parseParams(text);
	printJson(await attached(given, (client) => client.call(method, params)));
}

/** Parameters as JSON-RPC knows them: by name. */
function parseParams(text: string): Record<string, unknown> {
	let params: unknown;
	try {
		params = JSON.parse(text);
	} catch (error) {
		const why = error instanceof Error ? error.message : String(error);
		throw new UsageError(`the parameters are not JSON: ${why}`);
	}
	if (typeof params !== "object" || params === null || Array.isArray(params))
		throw new UsageError(
			'the parameters must be an object, such as {"name": "disk0"}',
		);
	return params as Record<string, unknown>;
}
