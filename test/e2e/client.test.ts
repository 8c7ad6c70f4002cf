// SPDX-License-Identifier: MIT
// Controllers that connect to their front end, in a process of their own.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
	type Connection,
	createRuntime,
	type Runtime,
} from "../../src/engine/runtime.ts";
import { encodeMessage } from "../../src/engine/vhost-user/codec.ts";
import { answer, attachedTo, failure } from "../support/cli.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { waitUntil } from "../support/processes.ts";
import { makeRelay, type Relay } from "../support/relay.ts";

/** Longer than the device waits between two tries. */
const PATIENCE_MS = 10_000;
const GET_FEATURES = 1;

let instance: Instance;
let runtime: Runtime;
let attached: (...args: string[]) => Promise<string>;
before(async () => {
	runtime = createRuntime();
	const disks = ["malloc:name=a,size=16M", "malloc:name=b,size=16M"];
	instance = await startInstance(disks.flatMap((disk) => ["--bdev", disk]));
	attached = attachedTo(instance);
});
after(async () => {
	await runtime.close();
	await instance.stop();
});

const path = (name: string) => join(instance.dir, name);
const connected = (relay: Relay) =>
	waitUntil(
		() => relay.device !== undefined,
		PATIENCE_MS,
		() => `a device connects\n${instance.log()}`,
	);
const verify = ["--rw", "randrw", "--verify", "crc32c", "--ios", "3000"];

async function load(socket: string, ...more: string[]): Promise<void> {
	await answer("perf", "--socket", socket, ...verify, ...more);
}

test("a controller connects when its front end is there, and again when it went", async () => {
	const client = path("machine");
	const made = await attached(
		...["blk", "create", "vm", "--bdev", "a", "--client", client],
	);
	assert.equal(made, `${client}\n`);
	assert(!existsSync(path("vm")));
	assert(!existsSync(client));
	await sleep(500); // it has tried in vain by then
	const relay = makeRelay(runtime, client, path("front"));
	for (let round = 0; round < 3; round++) {
		await connected(relay);
		await load(path("front"));
	}
	assert(relay.connections >= 3);
	const [listed] = JSON.parse(await attached("blk", "list", "--json"));
	assert.equal(listed.socket, client);
	assert.equal(listed.client, true);
	await connected(relay);
	assert.equal(await attached("blk", "delete", "vm"), "");
	await waitUntil(
		() => relay.device === undefined,
		PATIENCE_MS,
		() => "it hangs up",
	);
	const { connections } = relay;
	await sleep(2500);
	assert.equal(relay.connections, connections);
	relay.close();
});

test("a SCSI controller connects too", async () => {
	const client = path("machine");
	const relay = makeRelay(runtime, client, path("front"));
	const create = ["scsi", "create", "vm", "--bdev", "b", "--client", client];
	await attached(...create);
	await connected(relay);
	await load(path("front"), "--target", "0");
	await connected(relay);
	await attached("scsi", "remove-target", "vm", "--target", "0");
	await attached("scsi", "delete", "vm");
	relay.close();
});

/** What a peer does to the device that has connected to it. */
const BROKEN: Record<string, (device: Connection) => void> = {
	"hangs up at once": (device) => device.close(),
	"sends what is no message": (device) => {
		const garbage = Buffer.alloc(12, 0xff);
		device.send(garbage);
	},
	"sends a request that there is not": (device) =>
		device.send(encodeMessage(9999, 1)),
	"goes with a message unread": (device) => {
		device.send(encodeMessage(GET_FEATURES, 1));
		device.close();
	},
	"goes with half a message sent": (device) => {
		device.send(encodeMessage(GET_FEATURES, 1).subarray(0, 7));
		device.close();
	},
};

test("a broken peer costs one connection", async () => {
	const client = path("broken");
	let breakIt: ((device: Connection) => void) | undefined;
	let came = 0;
	let ended = 0;
	const listener = runtime.listen(client, 0o600, (device) => {
		came++;
		device.onClose(() => ended++);
		device.next();
		breakIt?.(device);
	});
	const [first, ...others] = Object.values(BROKEN);
	breakIt = first;
	await attached("blk", "create", "vm", "--bdev", "a", "--client", client);
	for (const next of others) {
		const before = came;
		breakIt = next;
		await waitUntil(
			() => came > before && ended === came,
			PATIENCE_MS,
			() => `it connects again, ${came} ${ended}\n${instance.log()}`,
		);
	}
	assert(came >= others.length);
	assert(came < 40, `${came} connections: it waits between them`);
	listener.close();
	const relay = makeRelay(runtime, client, path("front"));
	await connected(relay);
	await load(path("front"));
	await attached("blk", "delete", "vm");
	relay.close();
	await instance.assertHealthy();
});

test("serve's specs have the same settings", async () => {
	const relay = makeRelay(runtime, path("m1"), path("f1"));
	const disk = ["--bdev", "malloc:name=a,size=16M"];
	const client = `vm=a,client=${path("m1")},no-packed`;
	const other = await startInstance([...disk, "--blk", client]);
	try {
		await connected(relay);
		await load(path("f1"));
	} finally {
		await other.stop();
		relay.close();
	}
});

test("a path that cannot be one is refused", async () => {
	const long = `/${"x".repeat(200)}`;
	const create = ["blk", "create", "vm", "--bdev", "a"];
	const socket = ["-r", instance.rpcSocket];
	await failure(2, /107 bytes/, ...create, "--client", long, ...socket);
	await assert.rejects(
		instance.rpc("vhost_create_blk_controller", {
			...{ ctrlr: "vm", dev_name: "a", client: "relative" },
		}),
		/absolute path/,
	);
});
