// SPDX-License-Identifier: MIT
// Sockets, messages, and events to TypeScript.
import { Buffer } from "node:buffer";
import { decode, LAYOUTS } from "../layout.ts";
import { check, library, produce } from "./call.ts";

function packFds(fds: readonly number[]): Buffer {
	const buffer = Buffer.alloc(4 * fds.length);
	for (const [i, fd] of fds.entries()) buffer.writeInt32LE(fd, 4 * i);
	return buffer;
}

export const transport = {
	upcallsCreate: () => {
		const info = Buffer.alloc(LAYOUTS.vhc_upcalls_info.size);
		const handle = produce((out) => check("vhc_upcalls_create", out, info));
		const { slots, fd } = decode("vhc_upcalls_info", info);
		return { handle, slots, fd };
	},
	upcallsAdvance: (upcalls: bigint, consumed: number) =>
		check("vhc_upcalls_advance", upcalls, consumed),
	upcallsRelease: (upcalls: bigint) =>
		library().call("vhc_upcalls_release", upcalls),

	socketListen: (path: string, mode: number) =>
		check("vhc_socket_listen", path, mode),
	socketConnect: (path: string) => check("vhc_socket_connect", path),
	socketPair: (): [number, number] => {
		const fds = Buffer.alloc(8);
		check("vhc_socket_pair", fds);
		return [fds.readInt32LE(0), fds.readInt32LE(4)];
	},
	socketPeerUid: (fd: number) => {
		const uid = Buffer.alloc(4);
		check("vhc_socket_peer_uid", fd, uid);
		return uid.readUInt32LE();
	},

	transportCreate: (upcalls: bigint) =>
		produce((out) => check("vhc_transport_create", upcalls, out)),
	transportListen: (transport: bigint, fd: number) =>
		check("vhc_transport_listen", transport, fd),
	transportConnect: (transport: bigint, fd: number) =>
		check("vhc_transport_connect", transport, fd),
	transportNext: (transport: bigint, id: number) =>
		check("vhc_transport_next", transport, id),
	transportSend: (
		transport: bigint,
		id: number,
		message: Uint8Array,
		fds: readonly number[] = [],
	) =>
		check(
			"vhc_transport_send",
			transport,
			id,
			message,
			message.length,
			packFds(fds),
			fds.length,
		),
	transportClose: (transport: bigint, id: number) =>
		check("vhc_transport_close", transport, id),
	/** Returns the descriptor. */
	transportTake: (transport: bigint, id: number) =>
		check("vhc_transport_take", transport, id),
	transportRelease: (transport: bigint) =>
		library().call("vhc_transport_release", transport),
};
