// SPDX-License-Identifier: MIT
// Offering a successor what an instance has.
import { type Engine, VhostctlError } from "../engine.ts";
import { internalsOf } from "../engine-internals.ts";
import { messageOf } from "../errors.ts";
import { handOver } from "../takeover/give.ts";
import { createLink } from "../takeover/link.ts";
import { FORMAT } from "../takeover/parcel.ts";
import type { Connection, Listener } from "../transport.ts";
import { clearStaleSocket } from "../unix-socket.ts";
import { describeEngine } from "./describe.ts";
import { describeUnsaved } from "./describe-unsaved.ts";

const SOCKET_MODE = 0o600;
/** How long an offer stands before the successor comes for it. */
const OFFER_MS = 5000;

export interface Handover {
	/**
	 * Offers everything to who connects next to the socket at the path that it gives.
	 * Throws E_BUSY (another one takes over, or something cannot be handed over),
	 * E_UNSUPPORTED (of another format).
	 */
	offer(format: number): Promise<string>;
	/** Runs what changes the engine. Throws E_BUSY while it is being handed over. */
	change<T>(work: () => Promise<T>): Promise<T>;
	/** Resolves when a successor serves. */
	readonly given: Promise<void>;
	readonly isGiven: boolean;
	/** No offers any more. Resolves when the last one has come to its end. */
	close(): Promise<void>;
}

/** Waits for the one connection that an offer is for. */
function firstConnection(
	engine: Engine,
	path: string,
): { connection: Promise<Connection>; withdraw(): void } {
	const { runtime } = internalsOf(engine);
	let listener: Listener | undefined;
	let withdraw: () => void = () => {};
	const connection = new Promise<Connection>((resolve, reject) => {
		withdraw = () =>
			reject(new VhostctlError("E_CONNECT", "the successor did not come"));
		const timer = setTimeout(() => withdraw(), OFFER_MS);
		clearStaleSocket(path);
		listener = runtime.listen(path, SOCKET_MODE, (found) => {
			clearTimeout(timer);
			listener?.close();
			resolve(found);
		});
	});
	connection.catch(() => listener?.close());
	return { connection, withdraw: () => withdraw() };
}

/**
 * lockFd: of the lock of the control socket at `path`, which `reclaim` puts back when
 * a successor that had it died.
 */
export function createHandover(
	engine: Engine,
	path: string,
	lockFd: number,
	reclaim: () => Promise<void>,
): Handover {
	const { log } = engine;
	const offerPath = `${path}.take`;
	let give: () => void = () => {};
	const given = new Promise<void>((resolve) => {
		give = resolve;
	});
	let isGiven = false;
	let closed = false;
	let withdraw: () => void = () => {};
	let running: Promise<void> | undefined;
	const changes = new Set<Promise<unknown>>();

	const carryOut = async (connecting: Promise<Connection>): Promise<void> => {
		const link = createLink(await connecting);
		withdraw = () => link.close();
		log.notice("a successor takes over");
		while (changes.size > 0) await Promise.allSettled(changes);
		const belongings = {
			calls: describeEngine(engine),
			settings: describeUnsaved(engine),
			lockFd,
		};
		const end = await handOver(internalsOf(engine), link, belongings);
		if (!end.given && end.took) await reclaim();
		if (!end.given) throw new VhostctlError("E_BUSY", end.reason);
		const pause =
			end.pauseMs === undefined ? "" : ` after ${end.pauseMs.toFixed(1)} ms`;
		log.notice(`the successor serves${pause}`);
		isGiven = true;
		give();
	};

	return {
		given,
		get isGiven() {
			return isGiven;
		},
		async offer(format) {
			if (format !== FORMAT)
				throw new VhostctlError(
					"E_UNSUPPORTED",
					`this instance hands over in format ${FORMAT}`,
				);
			if (running || isGiven || closed)
				throw new VhostctlError("E_BUSY", "another instance takes over");
			if (internalsOf(engine).devices.list().length > 0)
				throw new VhostctlError(
					"E_UNSUPPORTED",
					"a device of a program's own cannot be handed over",
				);
			describeEngine(engine); // what cannot be handed over is told now
			const offered = firstConnection(engine, offerPath);
			withdraw = offered.withdraw;
			running = carryOut(offered.connection)
				.catch((error) => {
					log.warning(`not taken over, goes on: ${messageOf(error)}`);
				})
				.finally(() => {
					running = undefined;
				});
			return offerPath;
		},
		async change(work) {
			if (running || isGiven)
				throw new VhostctlError("E_BUSY", "the instance is being taken over");
			const change = work();
			changes.add(change);
			try {
				return await change;
			} finally {
				changes.delete(change);
			}
		},
		async close() {
			closed = true;
			withdraw();
			await running;
		},
	};
}
