// SPDX-License-Identifier: MIT
// vhostctl coalesce, and what it does to the calls of a load that waits for them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { attachedTo, failure } from "../support/cli.ts";
import { type Instance, startInstance } from "../support/instance.ts";
import { startLoad } from "../support/load.ts";

const PHASE_MS = 400;
const FAR = ["--delay-base", "1000000", "--iops-threshold", "100"];
const AT_ONCE = ["--delay-base", "0", "--iops-threshold", "60000"];

let instance: Instance;
let attached: (...args: string[]) => Promise<string>;
before(async () => {
	instance = await startInstance([
		...["--bdev", "malloc:name=disk0,size=32M", "--blk", "vm0=disk0"],
		...["--bdev", "malloc:name=disk1,size=32M", "--scsi", "vm1=disk1"],
	]);
	attached = attachedTo(instance);
});
after(() => instance.stop());

interface Ring {
	calls: number;
	calls_delayed: number;
	ops: Record<"read" | "write", { count: number }>;
}

const set = (ctrlr: string, delay_base_us: number, iops_threshold: number) =>
	instance.rpc("vhost_controller_set_coalescing", {
		ctrlr,
		delay_base_us,
		iops_threshold,
	});

interface Counts {
	rings: number;
	calls: number;
	delayed: number;
	ios: number;
}

/** What the rings of a controller have done so far. */
async function counts(ctrlr: string): Promise<Counts> {
	const { controllers } = (await instance.rpc("vhostctl_get_stats", {
		name: ctrlr,
	})) as { controllers: { sessions: { rings: Ring[] }[] }[] };
	const rings = controllers[0]?.sessions.flatMap((one) => one.rings) ?? [];
	const sum = (of: (ring: Ring) => number) =>
		rings.reduce((total, ring) => total + of(ring), 0);
	return {
		rings: rings.length,
		calls: sum(({ calls }) => calls),
		delayed: sum(({ calls_delayed }) => calls_delayed),
		ios: sum(({ ops }) => ops.read.count + ops.write.count),
	};
}

/** What happens for a while, and how long that was. */
async function phase(ctrlr: string): Promise<Counts & { ms: number }> {
	const start = performance.now();
	const from = await counts(ctrlr);
	await sleep(PHASE_MS);
	const to = await counts(ctrlr);
	assert(to.ios > from.ios, "it goes on");
	return {
		rings: to.rings,
		calls: to.calls - from.calls,
		delayed: to.delayed - from.delayed,
		ios: to.ios - from.ios,
		ms: performance.now() - start,
	};
}

test("settings are made and shown", async () => {
	const rows = async (...name: string[]) =>
		(await attached("coalesce", "get", ...name))
			.trimEnd()
			.split("\n")
			.map((line) => line.trim().split(/ {2,}/));
	assert.deepEqual(await rows(), [
		["name", "delay base (µs)", "IOPS threshold"],
		["vm0", "0", "60000"],
		["vm1", "0", "60000"],
	]);
	assert.equal(await attached("coalesce", "set", "vm0", ...FAR), "");
	assert.deepEqual((await rows("vm0"))[1], ["vm0", "1000000", "100"]);
	assert.deepEqual(JSON.parse(await attached("coalesce", "get", "--json")), [
		{ ctrlr: "vm0", delay_base_us: 1000000, iops_threshold: 100 },
		{ ctrlr: "vm1", delay_base_us: 0, iops_threshold: 60000 },
	]);
	await attached("coalesce", "set", "vm0", ...AT_ONCE);
});

test("what makes no sense is refused", async () => {
	const refuses = (code: number, message: RegExp, ...words: string[]) =>
		failure(
			code,
			message,
			"coalesce",
			"set",
			...words,
			"-r",
			instance.rpcSocket,
		);
	await refuses(2, /needs --iops-threshold/, "vm0", "--delay-base", "5");
	await refuses(2, /from 0 to 1000000/, "vm0", ...FAR.with(1, "1000001"));
	await refuses(2, /from 100 to 4294967295/, "vm0", ...FAR.with(3, "99"));
	await refuses(3, /no controller vm9/, "vm9", ...FAR);
});

for (const [ctrlr, ...more] of [
	["vm0", "--queues", "2"],
	["vm1", "--target", "0", "--split"],
] as const)
	test(`a load that waits for its calls gets each: ${ctrlr}`, async () => {
		const load = startLoad(
			instance.socket(ctrlr),
			4,
			"--iodepth",
			"128",
			...more,
		);
		while ((await counts(ctrlr)).ios === 0) await sleep(20);
		const before = await phase(ctrlr);
		assert.equal(before.delayed, 0, "nothing is put off unasked");
		// As far apart as calls get, at whatever rate a loaded machine manages.
		await set(ctrlr, 1_000_000, 100);
		await sleep(50);
		const apart = await phase(ctrlr);
		assert(apart.delayed > 0);
		// At the end of each interval, and 10 ms after a call.
		const most = apart.rings * (2 * (apart.ms / 10) + 2);
		assert(apart.calls <= most, `${apart.calls} calls, not ${most}`);
		// A threshold that no ring comes to.
		await set(ctrlr, 1_000_000, 4_000_000_000);
		assert.equal((await phase(ctrlr)).delayed, 0);
		await set(ctrlr, 1_000_000, 100);
		await load.finish();
		await set(ctrlr, 0, 60_000);
	});
