// SPDX-License-Identifier: MIT
// The control socket as SPDK's own client uses it: indented JSON without a newline after it, a
// connection for each call, integers as ids, no params where there are none, batches.
// tools/try-rpc-py tries the client itself.
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect as dial } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startTestEngine, type TestEngine } from "../support/engine.ts";
import { waitUntil } from "../support/processes.ts";

const IN_TIME = 10_000;

let t: TestEngine;
before(async () => {
	t = await startTestEngine();
	writeFileSync(join(t.dir, "file"), Buffer.alloc(1024 * 1024));
});
after(() => t.close());

interface Response {
	jsonrpc: string;
	id: number;
	result?: unknown;
	error?: {
		code: number;
		message: string;
		data: { code: string; text: string };
	};
}

/** Sends text over a connection of its own and gives so many lines of what comes. */
async function exchange(text: string, lines = 1): Promise<unknown[]> {
	const socket = dial(t.control.path);
	try {
		await once(socket, "connect");
		let all = "";
		socket.setEncoding("utf8").on("data", (data: string) => {
			all += data;
		});
		socket.write(text);
		await waitUntil(
			() => all.split("\n").length > lines,
			IN_TIME,
			() => `${lines} answers: ${all}`,
		);
		return all
			.trimEnd()
			.split("\n")
			.map((line) => JSON.parse(line));
	} finally {
		socket.destroy();
	}
}

function request(id: number, method: string, params: object = {}): object {
	const some = Object.keys(params).length > 0;
	return { jsonrpc: "2.0", method, id, ...(some ? { params } : {}) };
}

async function ask(method: string, params?: object): Promise<Response> {
	const text = JSON.stringify(request(1, method, params), undefined, 2);
	const [response] = (await exchange(text)) as Response[];
	assert(response);
	assert.equal(response.jsonrpc, "2.0");
	assert.equal(response.id, 1);
	return response;
}

async function gives(method: string, params: object, result: unknown) {
	const response = await ask(method, params);
	assert.deepEqual(response.error, undefined, method);
	assert.deepEqual(response.result, result, method);
}

async function refuses(
	method: string,
	params: object,
	code: number,
	text: string,
) {
	const { error } = await ask(method, params);
	assert.equal(error?.code, code, `${method}: ${error?.message}`);
	assert.equal(error?.data.text, text, method);
}

/** What rpc.py sends for flags of a command that are not given. */
const MALLOC_FLAGS = { md_interleave: false, dif_is_head_of_md: false };

test("commands as rpc.py sends them, from the first bdev to the last", async () => {
	const filename = join(t.dir, "file");
	const blk = { readonly: false, packed_ring: false };
	const size = { num_blocks: 2048, block_size: 512 };
	await gives("bdev_malloc_create", { ...size, ...MALLOC_FLAGS }, "Malloc0");
	await gives("bdev_null_create", { ...size, name: "N" }, "N");
	const file = { filename, readonly: false, fallocate: false, nowait: false };
	await gives("bdev_aio_create", { ...file, name: "A" }, "A");
	await gives("bdev_null_resize", { name: "N", new_size: 2 }, true);
	await gives("bdev_enable_histogram", { name: "N", enable: true }, true);
	const borders = { name: "N", borders: [10, 100] };
	const counts = { borders_count: [0, 0, 0] };
	await gives("bdev_get_histogram_borders", borders, counts);
	await gives("bdev_aio_rescan", { name: "A" }, true);
	await gives(
		"vhost_create_blk_controller",
		{ ctrlr: "b", dev_name: "A", ...blk },
		true,
	);
	await gives(
		"vhost_create_scsi_controller",
		{ ctrlr: "s", delay: false },
		true,
	);
	const target = { ctrlr: "s", scsi_target_num: -1, bdev_name: "N" };
	await gives("vhost_scsi_controller_add_target", target, 0);
	await gives("scsi_get_devices", {}, [{ id: 0, device_name: "Target 0" }]);
	const slot = { ctrlr: "s", scsi_target_num: 0 };
	await gives("vhost_scsi_controller_remove_target", slot, true);
	for (const ctrlr of ["b", "s"])
		await gives("vhost_delete_controller", { ctrlr }, true);
	await gives("bdev_malloc_delete", { name: "Malloc0" }, true);
	await gives("bdev_null_delete", { name: "N" }, true);
	await gives("bdev_aio_delete", { name: "A" }, true);
	const register = (id: number, ctx: string) => ({
		type: "bdev_register",
		ctx,
		id,
	});
	await gives("notify_get_notifications", { id: 0, max: 2 ** 64 }, [
		register(0, "Malloc0"),
		register(1, "N"),
		register(2, "A"),
		{ type: "bdev_resize", ctx: "N", id: 3 },
		{ type: "bdev_unregister", ctx: "Malloc0", id: 4 },
		{ type: "bdev_unregister", ctx: "N", id: 5 },
		{ type: "bdev_unregister", ctx: "A", id: 6 },
	]);
	await gives("notify_get_notifications", { id: 3, max: 1 }, [
		{ type: "bdev_resize", ctx: "N", id: 3 },
	]);
	await gives("notify_get_types", {}, [
		"bdev_register",
		"bdev_unregister",
		"bdev_resize",
	]);
});

test("errors have a code, a sentence, and SPDK's words", async () => {
	await refuses("no_such_method", {}, -32601, "Method not found");
	await refuses("bdev_get_bdevs", { name: "none" }, -19, "No such device");
	await refuses("bdev_malloc_delete", { name: "none" }, -19, "No such device");
	await refuses(
		"vhost_get_controllers",
		{ name: "none" },
		-19,
		"No such device",
	);
	await refuses(
		"bdev_malloc_create",
		{ block_size: 512 },
		-32602,
		"Invalid parameters",
	);
	const borders = { name: "none", borders: [2, 1] };
	await refuses(
		"bdev_get_histogram_borders",
		borders,
		-32602,
		"Invalid parameters",
	);
	const scheduler = { name: "dynamic" };
	await refuses(
		"framework_set_scheduler",
		scheduler,
		-32602,
		"Invalid parameters",
	);
	const hotplug = { enable: true };
	await refuses("bdev_nvme_set_hotplug", hotplug, -32602, "Invalid parameters");
	const transport = { name: "vhost_user_blk" };
	await refuses("virtio_blk_create_transport", transport, -17, "File exists");
	await refuses(
		"virtio_blk_get_transports",
		{ name: "vfio_user" },
		-19,
		"No such device",
	);
	const { error } = await ask("bdev_get_bdevs", { name: "none" });
	assert.equal(error?.message, "no bdev none");
});

test("a batch is carried out in its order and answered by one array", async () => {
	const size = { num_blocks: 2048, block_size: 512, ...MALLOC_FLAGS };
	const batch = [
		request(1, "bdev_malloc_create", { name: "M", ...size }),
		request(2, "vhost_create_blk_controller", { ctrlr: "m", dev_name: "M" }),
		request(3, "bdev_malloc_create", { name: "M", ...size }),
	];
	const [responses] = (await exchange(JSON.stringify(batch, undefined, 2))) as [
		Response[],
	];
	assert.deepEqual(
		responses.map(({ id, result, error }) => [id, result ?? error?.code]),
		[
			[1, "M"],
			[2, true],
			[3, -17],
		],
	);
	const undo = [
		request(4, "vhost_delete_controller", { ctrlr: "m" }),
		request(5, "bdev_malloc_delete", { name: "M" }),
	];
	// Requests that a client gathers and flushes at once, with newlines between them.
	const text = undo.map((one) => JSON.stringify(one, undefined, 2)).join("\n");
	const answers = (await exchange(text, 2)) as Response[];
	for (const { result } of answers) assert.equal(result, true);
	assert.deepEqual(new Set(answers.map(({ id }) => id)), new Set([4, 5]));
});

/** What SPDK's vhost target saves of itself before any disk, with its defaults. */
const DEFAULTS: [string, object][] = [
	["framework_set_scheduler", { name: "static" }],
	["framework_set_scheduler", { name: "static", isolated_core_mask: "0x0" }],
	[
		"iobuf_set_options",
		{
			small_pool_count: 8192,
			large_pool_count: 1024,
			small_bufsize: 8192,
			large_bufsize: 135168,
			enable_numa: false,
		},
	],
	["sock_set_default_impl", { impl_name: "posix" }],
	[
		"sock_impl_set_options",
		{
			impl_name: "posix",
			recv_buf_size: 2097152,
			send_buf_size: 2097152,
			enable_recv_pipe: true,
			enable_quickack: false,
			enable_placement_id: 0,
			enable_zerocopy_send_server: true,
			enable_zerocopy_send_client: false,
			zerocopy_threshold: 0,
			tls_version: 0,
			enable_ktls: false,
		},
	],
	[
		"accel_set_options",
		{
			small_cache_size: 128,
			large_cache_size: 16,
			task_count: 2048,
			sequence_count: 2048,
			buf_count: 2048,
		},
	],
	[
		"bdev_set_options",
		{
			bdev_io_pool_size: 65535,
			bdev_io_cache_size: 256,
			bdev_auto_examine: true,
			iobuf_small_cache_size: 128,
			iobuf_large_cache_size: 16,
		},
	],
	[
		"bdev_raid_set_options",
		{ process_window_size_kb: 1024, process_max_bandwidth_mb_sec: 0 },
	],
	["bdev_iscsi_set_options", { timeout_sec: 30 }],
	[
		"bdev_nvme_set_options",
		{
			action_on_timeout: "none",
			timeout_us: 0,
			keep_alive_timeout_ms: 10000,
			nvme_adminq_poll_period_us: 10000,
			transport_retry_count: 4,
			bdev_retry_count: 3,
			ctrlr_loss_timeout_sec: 0,
			generate_uuids: false,
			dhchap_digests: ["sha256", "sha384", "sha512"],
			enable_flush: false,
		},
	],
	["bdev_nvme_set_hotplug", { period_us: 100000, enable: false }],
	["bdev_wait_for_examine", {}],
];

test("rpc.py load_config finds the methods of a saved configuration, and they pass", async () => {
	for (const current of [false, true]) {
		const flags = { current, include_aliases: false };
		const { result } = await ask("rpc_get_methods", flags);
		const names = new Set(result as string[]);
		for (const [method] of DEFAULTS) assert(names.has(method), method);
	}
	for (const [method, params] of DEFAULTS) await gives(method, params, true);
});

test("what nothing here does is told as it is", async () => {
	await gives(
		"framework_get_scheduler",
		{},
		{
			scheduler_name: "static",
			scheduler_period: 0,
			isolated_core_mask: "0",
		},
	);
	await gives("framework_get_governor", {}, {});
	await gives("virtio_blk_get_transports", {}, [{ name: "vhost_user_blk" }]);
	const { result } = await ask("framework_get_reactors");
	const { reactors } = result as {
		reactors: { lcore: number; numa_id: number }[];
	};
	assert(reactors.length > 0);
	for (const { numa_id } of reactors) assert(numa_id >= -1);
});
