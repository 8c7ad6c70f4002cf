// SPDX-License-Identifier: MIT
// What scrapers get: from the command line, over HTTP, by Prometheus itself, by the dashboard.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { attachedTo, failure, run } from "../support/cli.ts";
import {
	type Instance,
	projectPath,
	startInstance,
	vhostctl,
} from "../support/instance.ts";
import {
	ask,
	assertChecked,
	describedIn,
	samples,
} from "../support/metrics.ts";
import {
	makeTempDir,
	removeTempDir,
	startProcess,
	waitUntil,
} from "../support/processes.ts";
import { withDynasty } from "../support/takeover.ts";

const PATIENCE_MS = 30_000;

let instance: Instance;
let port: number;
before(async () => {
	instance = await startInstance([
		...["--bdev", "malloc:name=disk0,size=16M", "--blk", "vm0=disk0"],
		...["--bdev", "null:name=disk1,size=1G", "--scsi", "vm1=disk1,target=3"],
		...["--metrics", ":0"],
	]);
	await waitUntil(
		() => instance.log().includes("ready:"),
		PATIENCE_MS,
		instance.log,
	);
	port = portOf(instance.log());
});
after(() => instance.stop());

function portOf(log: string): number {
	const [, digits] =
		/metrics: http:\/\/127\.0\.0\.1:(\d+)\/metrics/.exec(log) ?? [];
	assert(digits, log);
	return Number(digits);
}

/** A port that nobody has, for now. */
async function freePort(): Promise<number> {
	const server = createServer();
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	const address = server.address();
	await new Promise((done) => server.close(done));
	assert(address && typeof address === "object");
	return address.port;
}

/** Drives a disk of vm0 while something is done. */
async function underLoad<T>(work: () => Promise<T>): Promise<T> {
	const load = startProcess(
		...vhostctl(
			...["perf", "--socket", instance.socket("vm0"), "--time", "60"],
			...["--rw", "randrw", "--iodepth", "1", "--mode", "interrupt"],
		),
	);
	try {
		await waitUntil(
			async () => {
				const { body } = await ask({ port });
				return /^vhostctl_ring_requests_total\{controller="vm0".*\} [1-9]/m.test(
					body,
				);
			},
			PATIENCE_MS,
			() => `the load runs\n${load.stderr()}`,
		);
		return await work();
	} finally {
		await load.kill();
		// Nor may the next one take this one's rings for its own.
		await waitUntil(
			async () => !(await ask({ port })).body.includes("vhostctl_ring_"),
			PATIENCE_MS,
			() => "its connection is gone",
		);
	}
}

test("figures of a load satisfy promtool, grow and agree with themselves", async () => {
	await underLoad(async () => {
		const first = await ask({ port });
		assert.equal(first.status, 200);
		assert.match(
			first.headers["content-type"] ?? "",
			/^text\/plain; version=0\.0\.4/,
		);
		assertChecked(first.body);
		const of = 'bdev="disk0",op="read"';
		const name = `vhostctl_bdev_requests_total{${of}}`;
		const early = samples(first.body).get(name) ?? 0;
		await waitUntil(
			async () => (samples((await ask({ port })).body).get(name) ?? 0) > early,
			PATIENCE_MS,
			() => "they grow",
		);
		const now = samples((await ask({ port })).body);
		const value = (key: string) => {
			const found = now.get(key);
			assert(found !== undefined, `${key} in ${[...now.keys()].join("\n")}`);
			return found;
		};
		const times = "vhostctl_bdev_request_duration_seconds";
		const count = value(`${times}_count{${of}}`);
		assert.equal(value(`${times}_bucket{${of},le="+Inf"}`), count);
		assert(value(`${times}_sum{${of}}`) > 0);
		assert(value(`${times}_bucket{${of},le="10"}`) <= count);
		assert(value(`vhostctl_bdev_bytes_total{${of}}`) >= early * 4096);
		const ring = 'controller="vm0",connection="0",ring="0"';
		assert(value(`vhostctl_ring_requests_total{${ring}}`) > 0);
		assert(value(`vhostctl_ring_kicks_total{${ring}}`) > 0);
		assert.equal(value(`vhostctl_ring_running{${ring}}`), 1);
		assert.equal(value('vhostctl_bdev_size_bytes{bdev="disk1"}'), 2 ** 30);
		assert(value("process_resident_memory_bytes") > 1e6);
	});
});

test("docs/metrics.md lists what there is, and nothing else", async () => {
	const exported = await underLoad(async () =>
		describedIn((await ask({ port })).body),
	);
	const page = readFileSync(projectPath("docs", "metrics.md"), "utf8");
	const listed = [
		...page.matchAll(/^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$/gm),
	].map(([, name = "", type = "", labels = "", help = ""]) => ({
		name,
		type,
		help,
		labels: labels.replaceAll("`", ""),
	}));
	assert.deepEqual(listed, exported);
});

test("stats --prometheus prints what a scraper gets", async () => {
	const text = await attachedTo(instance)("stats", "--prometheus");
	assertChecked(text);
	const names = (of: string) => describedIn(of).map(({ name }) => name);
	assert.deepEqual(names(text), names((await ask({ port })).body));
	await failure(2, /--prometheus/, "stats", "--prometheus", "--json");
});

test("only GET and HEAD of what is there are answered", async () => {
	const at = { port };
	assert.equal((await ask(at, "/metrics?x=1")).status, 200);
	assert.match((await ask(at, "/")).body, /href="\/metrics"/);
	assert.equal((await ask(at, "/metrics/")).status, 404);
	assert.equal((await ask(at, "/../metrics")).status, 404);
	const head = await ask(at, "/metrics", "HEAD");
	assert.equal(head.status, 200);
	assert.equal(head.body, "");
	for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
		const { status, headers } = await ask(at, "/metrics", method);
		assert.equal(status, 405, method);
		assert.equal(headers.allow, "GET, HEAD");
	}
});

test("clients that say nothing, rubbish or too much take nothing from others", async () => {
	const sockets: Socket[] = [];
	const open = (text: string) => {
		const socket = createConnection({ host: "127.0.0.1", port });
		socket.on("error", () => {});
		socket.write(text);
		sockets.push(socket);
		return new Promise<void>((gone) => socket.once("close", () => gone()));
	};
	try {
		const silent = Array.from({ length: 100 }, () => open(""));
		await Promise.race(silent); // those beyond the limit are hung up on
		await open("rubbish\r\n\r\n");
		await open(`GET /metrics HTTP/1.1\r\nx: ${"y".repeat(100_000)}\r\n\r\n`);
		// A body that never ends.
		await open(
			"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nx",
		);
		await Promise.all(silent); // the rest in time
		assert.equal((await ask({ port })).status, 200);
		await instance.assertHealthy();
	} finally {
		for (const socket of sockets) socket.destroy();
	}
});

test("what is no address, or somebody's, is refused before anything is served", async () => {
	await failure(2, /metrics address "9100"/, "serve", "--metrics", "9100");
	const dir = makeTempDir();
	try {
		const { code, stdout, stderr } = await run(
			...["serve", "-r", join(dir, "rpc.sock"), "-S", dir],
			...["--metrics", `127.0.0.1:${port}`],
		);
		assert.equal(code, 5, stderr);
		assert.equal(stdout, "");
		assert.match(
			stderr,
			/cannot serve metrics at 127\.0\.0\.1:\d+: .*EADDRINUSE/,
		);
		assert(!existsSync(join(dir, "rpc.sock")));
	} finally {
		removeTempDir(dir);
	}
});

test("a successor takes the port over, and the socket", async () => {
	for (const kind of ["port", "socket"])
		await withDynasty(async (dynasty) => {
			const free = await freePort();
			const path = dynasty.path("metrics");
			const address = kind === "port" ? `127.0.0.1:${free}` : path;
			const at = kind === "port" ? { port: free } : { socketPath: path };
			await dynasty.start("--metrics", address);
			assertChecked((await ask(at)).body);
			await dynasty.succeed("--metrics", address);
			const { body } = await ask(at);
			const started = samples(body).get("process_start_time_seconds") ?? 0;
			assert(started > 0, body);
			if (kind === "socket") assert(statSync(path).isSocket());
			await dynasty.succeed();
			await assert.rejects(ask(at), "the next one was asked for none");
			await dynasty.end();
		});
});

interface Panel {
	title: string;
	targets?: { expr: string }[];
	panels?: Panel[];
}

/** What the dashboard asks, with its variables filled in. */
function dashboardQueries(): string[] {
	const text = readFileSync(
		projectPath("contrib", "grafana-dashboard.json"),
		"utf8",
	);
	const { panels } = JSON.parse(text) as { panels: Panel[] };
	const all = panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
	return all.flatMap(({ targets = [] }) =>
		targets.map(({ expr }) =>
			expr
				.replaceAll("$__rate_interval", "5s")
				.replaceAll(/\$(instance|bdev|controller)\b/g, ".*"),
		),
	);
}

test("every figure that the dashboard asks for is there, and its queries parse", async () => {
	const text = await underLoad(async () => (await ask({ port })).body);
	const known = describedIn(text).flatMap(({ name, type }) =>
		type === "histogram"
			? [`${name}_bucket`, `${name}_sum`, `${name}_count`]
			: [name],
	);
	const queries = dashboardQueries();
	assert(queries.length >= 10);
	for (const query of queries) {
		assert(!query.includes("$"), query);
		const used = query.match(/\b(?:vhostctl|process)_\w+/g) ?? [];
		assert(used.length > 0, query);
		for (const name of used) assert(known.includes(name), `${name}: ${query}`);
	}
	const rules = queries.map((expr, i) => ({ record: `q:${i}`, expr }));
	const dir = makeTempDir();
	try {
		const file = join(dir, "rules.yml");
		// JSON is YAML.
		writeFileSync(file, JSON.stringify({ groups: [{ name: "all", rules }] }));
		const { status, stdout, stderr } = spawnSync(
			"promtool",
			["check", "rules", file],
			{ encoding: "utf8" },
		);
		assert.equal(status, 0, stdout + stderr);
	} finally {
		removeTempDir(dir);
	}
});

test("Prometheus scrapes it, and answers the dashboard's queries", async () => {
	const dir = makeTempDir();
	const api = await freePort();
	writeFileSync(
		join(dir, "prometheus.yml"),
		JSON.stringify({
			global: { scrape_interval: "1s", scrape_timeout: "1s" },
			scrape_configs: [
				{
					job_name: "vhostctl",
					static_configs: [{ targets: [`127.0.0.1:${port}`] }],
				},
			],
		}),
	);
	const prometheus = startProcess("prometheus", [
		`--config.file=${join(dir, "prometheus.yml")}`,
		`--storage.tsdb.path=${join(dir, "data")}`,
		`--web.listen-address=127.0.0.1:${api}`,
	]);
	type Vector = { value: [number, string] }[];
	const query = async (expr: string): Promise<Vector> => {
		const path = `/api/v1/query?query=${encodeURIComponent(expr)}`;
		const { body } = await ask({ port: api }, path);
		const answer = JSON.parse(body);
		assert.equal(answer.status, "success", `${expr}: ${body}`);
		return answer.data.result;
	};
	try {
		await underLoad(async () => {
			const rate =
				'sum(rate(vhostctl_bdev_requests_total{bdev="disk0"}[5s])) > 0';
			await waitUntil(
				async () => (await query(rate).catch(() => [])).length > 0,
				PATIENCE_MS,
				() => `a rate\n${prometheus.stderr()}`,
			);
			assert.equal((await query("up"))[0]?.value[1], "1");
			for (const expr of dashboardQueries())
				await waitUntil(
					async () => (await query(expr)).length > 0,
					PATIENCE_MS,
					() => `a value of ${expr}`,
				);
		});
	} finally {
		await prometheus.kill();
		removeTempDir(dir);
	}
});
