// SPDX-License-Identifier: MIT
// The names of initiators and targets: made of the controller's name, so that they are the
// same after a restart.
import { Buffer } from "node:buffer";
import { naaOf } from "../scsi/identity.ts";
import type { Nexus } from "../scsi/task.ts";

const SAS_PROTOCOL = 0x6;
const TRANSPORT_ID_BYTES = 24;
const SAS_ADDRESS_AT = 4;
const TARGET_PORT = 1;

/** The name of a controller's target, which is that of its only port too. */
export function targetNaa(controller: string, target: number): Buffer {
	return naaOf(`vhostctl target ${controller}:${target}`);
}

/** The TransportID of a SAS initiator port (SPC-4 7.6.4.5). */
function transportId(initiator: string): Buffer {
	const id = Buffer.alloc(TRANSPORT_ID_BYTES);
	id[0] = SAS_PROTOCOL;
	naaOf(`vhostctl initiator ${initiator}`).copy(id, SAS_ADDRESS_AT);
	return id;
}

/**
 * The initiator in a controller's slot: a front end that comes back gets the slot,
 * and with it the registrations, that it had, if it was the only one to go.
 */
export function makeNexus(controller: string, slot: number): Nexus {
	const initiator = `${controller}:${slot}`;
	return {
		initiator,
		transportId: transportId(initiator),
		targetPort: TARGET_PORT,
	};
}
