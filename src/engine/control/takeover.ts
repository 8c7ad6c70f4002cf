// SPDX-License-Identifier: MIT
// Taking over from the instance that answers at a control socket.
import { resolve } from "node:path";
import { native } from "../../ffi/native.ts";
import { type Engine, startEngine } from "../engine.ts";
import { fromErrno, messageOf } from "../errors.ts";
import { createRuntime, type Runtime } from "../runtime.ts";
import { leaveEngine } from "../takeover/give.ts";
import { createLink, type Link } from "../takeover/link.ts";
import { FORMAT, type MakingCall } from "../takeover/parcel.ts";
import { type Anew, beginTakeover, type Legacy } from "../takeover/take.ts";
import { type Client, connect } from "./client.ts";
import type { Keeper } from "./config/keeper.ts";
import type { Maker } from "./config/maker.ts";
import type { Context } from "./methods/context.ts";
import { createMaker } from "./methods.ts";
import { type ControlServer, startControl } from "./server.ts";

export interface TakeoverRequest {
	/** Of the control socket. */
	readonly path: string;
	/** What is to be other than the predecessor has it; not the socket directory. */
	readonly anew: Anew;
	/** Methods that set what has been said anew: the predecessor's settings do not count. */
	readonly said?: ReadonlySet<string> | undefined;
	readonly kill: (signal: NodeJS.Signals) => void;
	/** Makes what is to be there beside what the predecessor, a process, has. */
	extend(context: Context, predecessor: number): Promise<void>;
	/** What is to keep changes, which wait until it can. Default: nothing. */
	keep?: ((engine: Engine) => Keeper) | undefined;
}

export interface Instance {
	readonly engine: Engine;
	readonly control: ControlServer;
}

/** Asks for a link to the instance. */
async function askForLink(client: Client, runtime: Runtime): Promise<Link> {
	const { socket } = await client.call("vhostctl_take_over", {
		format: FORMAT,
	});
	let fd: number;
	try {
		fd = native.socketConnect(socket);
	} catch (error) {
		throw fromErrno(error, socket);
	}
	try {
		return createLink(runtime.adopt(fd));
	} finally {
		native.fdClose(fd);
	}
}

/** Guests are served whether or not the control socket can be: that is told, and lived with. */
function show(control: ControlServer, { log }: Engine): void {
	try {
		control.show();
	} catch (error) {
		log.error(messageOf(error));
	}
}

/** Sets what no object is: guests are worth more. */
async function adopt(
	{ engine, call }: Maker,
	settings: readonly MakingCall[],
	said: ReadonlySet<string> = new Set(),
): Promise<void> {
	for (const setting of settings) {
		if (said.has(setting.method)) continue;
		try {
			await call(setting);
		} catch (error) {
			engine.log.warning(
				`not taken over: ${setting.method}: ${messageOf(error)}`,
			);
		}
	}
}

/** Makes of a legacy what serves it, control socket included. */
async function settleIn(
	legacy: Legacy,
	{ path, anew, said, kill, extend, keep }: TakeoverRequest,
): Promise<Instance> {
	const options = legacy.options(anew);
	const engine = await startEngine(options, legacy.inheritance);
	let control: ControlServer | undefined;
	try {
		const context = { engine, kill };
		const maker = createMaker(context);
		for (const call of legacy.calls) await maker.call(call);
		await adopt(maker, legacy.settings, said);
		await extend(context, legacy.pid);
		const lockFd = legacy.takeLock();
		const made = await startControl(engine, {
			...{ path, kill, lockFd },
			keeper: keep?.(engine),
		});
		control = made;
		const pauseMs = await legacy.takeGuests(engine, () => show(made, engine));
		if (pauseMs !== undefined)
			engine.log.notice(
				`taken over from process ${legacy.pid}: guests stood still for ${pauseMs.toFixed(1)} ms`,
			);
		return { engine, control };
	} catch (error) {
		await control?.close();
		await leaveEngine(engine);
		throw error;
	}
}

/**
 * Takes over what the instance at a control socket has: bdevs, controllers, front
 * ends and the control socket itself. The instance ends then. If this rejects it goes
 * on as if nothing had been; the reason is its own, or E_CONNECT, E_UNSUPPORTED (it is
 * of a version that hands over otherwise) or E_BUSY.
 */
export async function takeOver(request: TakeoverRequest): Promise<Instance> {
	const path = resolve(request.path);
	const client = await connect(path);
	const runtime = createRuntime();
	let link: Link | undefined;
	let legacy: Legacy | undefined;
	try {
		link = await askForLink(client, runtime);
		legacy = await beginTakeover(link, path);
		return await settleIn(legacy, request);
	} finally {
		legacy?.close();
		link?.close();
		await runtime.close();
		// Not before: Deno 2.9 closes a socket's descriptor twice, the second time perhaps one
		// that has just come over the link.
		client.close();
	}
}
