// SPDX-License-Identifier: MIT
// docs/rte_vhost.md: every function of DPDK's header is there, and what it is said to be here
// exists. That it does is checked when this is compiled: see Counterpart.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type {
	Device,
	DeviceConnection,
	DeviceHandlers,
	DeviceOptions,
	DeviceRequest,
	Engine,
	EngineOptions,
	RingInfo,
	Stats,
} from "vhostctl";
import { native } from "vhostctl/native";
import { projectPath } from "../support/instance.ts";

interface Exports {
	Device: Device;
	DeviceConnection: DeviceConnection;
	DeviceHandlers: DeviceHandlers;
	DeviceOptions: DeviceOptions;
	DeviceRequest: DeviceRequest;
	Engine: Engine;
	EngineOptions: EngineOptions;
	RingInfo: RingInfo;
	Stats: Stats;
	native: typeof native;
}

/** An export's name, or that of a member of one. */
type Counterpart = {
	[E in keyof Exports]: E | `${E}.${keyof Exports[E] & string}`;
}[keyof Exports];

/** All that the page may name. */
const COUNTERPARTS: readonly Counterpart[] = [
	"Device.close",
	"Device.configChanged",
	"Device.features",
	"Device.path",
	"Device.protocolFeatures",
	"Device.queues",
	"Device.stats",
	"DeviceConnection.features",
	"DeviceConnection.memory",
	"DeviceConnection.protocolFeatures",
	"DeviceConnection.readMemory",
	"DeviceConnection.rings",
	"DeviceConnection.writeMemory",
	"DeviceHandlers",
	"DeviceHandlers.onChange",
	"DeviceHandlers.onConnect",
	"DeviceHandlers.onDisconnect",
	"DeviceHandlers.onMessage",
	"DeviceHandlers.onMessageHandled",
	"DeviceHandlers.onQueueStart",
	"DeviceHandlers.onQueueStop",
	"DeviceHandlers.onRequest",
	"DeviceHandlers.onReset",
	"DeviceOptions.client",
	"DeviceOptions.features",
	"DeviceOptions.iommu",
	"DeviceOptions.packed",
	"DeviceOptions.protocolFeatures",
	"DeviceOptions.queues",
	"DeviceRequest.complete",
	"DeviceRequest.read",
	"DeviceRequest.write",
	"Engine.createDevice",
	"EngineOptions.postcopy",
	"RingInfo.address",
	"RingInfo.base",
	"RingInfo.enabled",
	"RingInfo.logged",
	"RingInfo.size",
	"RingInfo.tracked",
	"Stats",
	"native.logMark",
	"native.memCreate",
	"native.memNode",
	"native.memTranslate",
	"native.ringBase",
	"native.ringCreate",
	"native.ringNotify",
	"native.ringPop",
	"native.ringPush",
	"native.ringSignal",
];

/** The functions of rte_vhost.h in DPDK 22.11 and in 26.07, without "rte_vhost_". */
const FUNCTIONS = `
avail_entries
backend_config_change
clr_inflight_desc_packed
clr_inflight_desc_split
dequeue_burst
driver_attach_vdpa_device
driver_callback_register
driver_detach_vdpa_device
driver_disable_features
driver_enable_features
driver_get_features
driver_get_protocol_features
driver_get_queue_num
driver_get_vdpa_dev_type
driver_get_vdpa_device
driver_register
driver_set_features
driver_set_max_queue_num
driver_set_protocol_features
driver_start
driver_unregister
enable_guest_notification
enqueue_burst
extern_callback_register
get_ifname
get_log_base
get_mem_table
get_monitor_addr
get_mtu
get_negotiated_features
get_negotiated_protocol_features
get_numa_node
get_vdpa_device
get_vhost_ring_inflight
get_vhost_vring
get_vring_base
get_vring_base_from_inflight
get_vring_num
log_used_vring
log_write
notify_guest
rx_queue_count
set_inflight_desc_packed
set_inflight_desc_split
set_last_inflight_io_packed
set_last_inflight_io_split
set_vring_base
slave_config_change
va_from_guest_pa
vring_call
vring_call_nonblock
vring_stats_get
vring_stats_get_names
vring_stats_reset
`
	.trim()
	.split(/\s+/);

const page = readFileSync(projectPath("docs/rte_vhost.md"), "utf8");
/** The rows about functions: the function, and what it is here. */
const rows = new Map(
	[...page.matchAll(/^\| `rte_vhost_(\w+)` \| ([^|]*) \|/gm)].map(
		([, name = "", here = ""]): [string, string] => [name, here],
	),
);
const spans = (text: string) =>
	[...text.matchAll(/`([^`]*)`/g)].map(([, span = ""]) => span);

test("every function of the header has its row, once", () => {
	assert.equal(FUNCTIONS.length, 54);
	assert.deepEqual([...rows.keys()].sort(), FUNCTIONS.sort());
	assert.equal(page.match(/^\| `rte_vhost_/gm)?.length, FUNCTIONS.length);
});

test("a row names what is here, or says why there is nothing", () => {
	for (const [name, here] of rows) {
		const row = page
			.split("\n")
			.find((line) => line.includes(`\`rte_vhost_${name}\``));
		if (here === "–") assert.match(row ?? "", /\| – \| \S.*\|$/, name);
		else assert(spans(here).length > 0, `${name}: ${here}`);
	}
});

test("what the page names is exported", () => {
	const known = new Set<string>(COUNTERPARTS);
	const named = spans(page).filter((span) =>
		/^(native|[A-Z][a-zA-Z]+)\.[a-z]\w*$/.test(span),
	);
	const plain = [...rows.values()].flatMap(spans);
	const used = new Set([...named, ...plain]);
	for (const name of used) assert(known.has(name), `${name} is not exported`);
	for (const name of known) assert(used.has(name), `${name} is not used`);
	for (const name of used)
		if (name.startsWith("native."))
			assert.equal(typeof Reflect.get(native, name.slice(7)), "function", name);
});
