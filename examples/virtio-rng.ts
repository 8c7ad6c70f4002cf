// SPDX-License-Identifier: MIT
// A vhost-user device that is neither blk nor scsi: an entropy source (virtio 5.4). It has one
// queue, no features and no configuration; each request is a buffer to be filled.
//
//   deno run -A examples/virtio-rng.ts /run/vms        (or node dist/examples/virtio-rng.js)
//   qemu-system-x86_64 … -chardev socket,id=rng0,path=/run/vms/rng0
//       -device vhost-user-rng-pci,chardev=rng0        (the guest's memory must be shared)
import { randomBytes } from "node:crypto";
import process from "node:process";
import { type DeviceRequest, startEngine } from "vhostctl";

/** A driver may ask for any length: fewer bytes than it asked for are an answer too. */
const MAX_BYTES = 65536;

function fill(request: DeviceRequest): void {
	request.write(randomBytes(Math.min(request.writable, MAX_BYTES)));
	request.complete();
}

const [, , socketDir = "."] = process.argv;
const engine = await startEngine({ socketDir });
const device = await engine.createDevice({
	name: "rng0",
	onRequest: fill,
	onQueueStart: ({ id }) => console.log(`connection ${id}: started`),
	onQueueStop: ({ id }) => console.log(`connection ${id}: stopped`),
});
console.log(`ready: ${device.path}`);

for (const signal of ["SIGINT", "SIGTERM"])
	process.once(signal, () => void engine.close());
