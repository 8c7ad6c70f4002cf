// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { HANDLERS } from "../../src/engine/control/methods.ts";
import { renderReference } from "../../src/engine/control/reference.ts";
import type { Method } from "../../src/engine/control/schema/types.ts";
import {
	checkParams,
	isMethod,
	METHODS,
	type MethodName,
} from "../../src/engine/control/schema.ts";
import { VhostctlError } from "../../src/engine/errors.ts";
import { projectPath } from "../support/instance.ts";

const TABLE: Readonly<Record<string, Method>> = METHODS;
const NAMES = Object.keys(METHODS) as MethodName[];

test("every method has a handler, and every handler a method", () => {
	assert.deepEqual(Object.keys(HANDLERS).sort(), [...NAMES].sort());
});

test("the methods that were promised are there", () => {
	const promised = `rpc_get_methods spdk_get_version bdev_malloc_create
		bdev_malloc_delete bdev_null_create bdev_null_delete bdev_null_resize
		bdev_aio_create bdev_aio_delete bdev_aio_rescan bdev_uring_create
		bdev_uring_delete bdev_uring_rescan bdev_get_bdevs bdev_get_iostat
		bdev_reset_iostat bdev_enable_histogram bdev_get_histogram
		vhost_create_blk_controller vhost_get_controllers vhost_delete_controller
		vhost_create_scsi_controller vhost_start_scsi_controller
		vhost_scsi_controller_add_target vhost_scsi_controller_remove_target
		scsi_get_devices
		framework_get_reactors thread_get_stats spdk_kill_instance
		notify_get_types notify_get_notifications framework_get_scheduler
		framework_set_scheduler virtio_blk_get_transports bdev_set_options
		bdev_wait_for_examine`;
	for (const name of promised.split(/\s+/)) assert(isMethod(name), name);
});

test("docs/rpc.md is what the schema says (npm run docs makes it)", () => {
	assert.equal(
		readFileSync(projectPath("docs", "rpc.md"), "utf8"),
		renderReference(),
	);
});

test("methods say what they change as their names do", () => {
	const alters = /_(delete|resize|rescan|remove|load|resume)(_|$)/;
	for (const name of NAMES) {
		const { effect } = TABLE[name] as Method;
		assert.equal(effect === "alters", alters.test(name), name);
		if (/_(create|add)(_|$)/.test(name)) assert.equal(effect, "makes", name);
		if (/_get_/.test(name)) assert.equal(effect, "none", name);
	}
});

for (const name of NAMES) {
	const { params, example } = TABLE[name] as Method;
	const required = Object.entries(params.entries)
		.filter(([, schema]) => schema.type !== "optional")
		.map(([key]) => key);

	if (params.type === "loose_object") {
		test(`${name}: any parameters are taken`, () => {
			checkParams(name, { no_such: 1 });
			refuses(name, [], "must be an object");
		});
		continue;
	}
	test(`${name}: its example is valid, unknown parameters are not`, () => {
		if (required.length > 0) assert(example, "an example");
		const valid = example ?? {};
		checkParams(name, valid);
		refuses(name, { ...valid, no_such: 1 }, "there is no parameter 'no_such'");
		for (const wrong of ["text", 5, [], true]) {
			refuses(name, wrong, "");
		}
	});
	for (const key of required) {
		test(`${name}: ${key} is required, and named`, () => {
			const rest = { ...example };
			delete rest[key];
			refuses(name, rest, `parameter '${key}' is required`);
		});
	}
	for (const key of Object.keys(params.entries)) {
		test(`${name}: a bad ${key} is named`, () => {
			refuses(name, { ...example, [key]: { bad: 1 } }, `'${key}`);
		});
	}
}

function refuses(method: MethodName, params: unknown, message: string): void {
	assert.throws(
		() => checkParams(method, params),
		(error) => {
			assert(error instanceof VhostctlError);
			assert.equal(error.code, "E_INVALID");
			assert(error.message.includes(message), error.message);
			return true;
		},
	);
}

test("numbers keep to their ranges", () => {
	const create = (params: object) => () =>
		checkParams("bdev_malloc_create", {
			block_size: 512,
			num_blocks: 1,
			...params,
		});
	create({ num_blocks: Number.MAX_SAFE_INTEGER })();
	assert.throws(create({ num_blocks: 2 ** 53 }), /num_blocks/);
	assert.throws(create({ num_blocks: -1 }), /num_blocks/);
	assert.throws(create({ num_blocks: 1.5 }), /num_blocks/);
	assert.throws(create({ block_size: 2 ** 32 }), /block_size/);
	assert.throws(create({ uuid: "no" }), /uuid/);
	assert.throws(create({ name: "" }), /name/);
	assert.throws(create({ name: "a\nb" }), /name/);
	assert.throws(create({ md_size: 8 }), /metadata is not supported/);
	create({ md_size: 0, dif_type: 0, md_interleave: false })();
	create({ vendor: "12345678", product: "", serial: "S 1/~" })();
	assert.throws(
		create({ vendor: "123456789" }),
		/'vendor' must have at most 8/,
	);
	assert.throws(create({ serial: "\t" }), /'serial' must be printable ASCII/);
	const add = (num: number, lun?: number) => () =>
		checkParams("vhost_scsi_controller_add_target", {
			ctrlr: "c",
			bdev_name: "b",
			scsi_target_num: num,
			...(lun === undefined ? {} : { lun }),
		});
	for (const num of [-(2 ** 31), -1, 0, 255]) add(num, 255)();
	assert.throws(add(256), /scsi_target_num/);
	assert.throws(add(0, 256), /'lun'/);
	assert.throws(add(0, -1), /'lun'/);
});
