// SPDX-License-Identifier: MIT
// A controller that connects to its front end's socket, again and again.
import { native } from "../ffi/native.ts";
import type { Endpoint, Serve } from "./endpoint.ts";
import { messageOf } from "./errors.ts";
import type { Logger } from "./log.ts";
import type { Runtime } from "./runtime.ts";
import type { Session } from "./vhost-user/device.ts";

/** Between two tries, doubled each time up to the last; ms. */
const FIRST_WAIT = 100;
const LAST_WAIT = 2000;

function connectTo(runtime: Runtime, path: string, serve: Serve): Session {
	const fd = native.socketConnect(path);
	try {
		return serve(runtime.adopt(fd));
	} finally {
		native.fdClose(fd);
	}
}

/**
 * An endpoint that connects to the socket at a path while nobody is connected: at
 * once when it is resumed, then every so often. A front end that goes soon after it
 * came counts as one that is not there. It is suspended.
 */
export function connectAt(
	runtime: Runtime,
	path: string,
	serve: Serve,
	log: Logger,
): Endpoint {
	let session: Session | undefined;
	let timer: ReturnType<typeof setTimeout> | undefined;
	let wait = FIRST_WAIT;
	let going = false;
	/** What was last told of, so that nothing is told every two seconds. */
	let told: string | undefined;

	const later = (): void => {
		if (!going || session) return;
		timer = setTimeout(attempt, wait);
		wait = Math.min(2 * wait, LAST_WAIT);
	};
	const follow = (found: Session): void => {
		const since = performance.now();
		session = found;
		void found.ended.then(() => {
			session = undefined;
			if (performance.now() - since > LAST_WAIT) wait = FIRST_WAIT;
			later();
		});
	};
	const attempt = (): void => {
		timer = undefined;
		if (!going || session) return;
		try {
			follow(connectTo(runtime, path, serve));
			log.info(`${path}: connected`, { kind: "connected-to" });
			told = undefined;
		} catch (error) {
			const reason = messageOf(error);
			if (reason !== told)
				log.info(`${path}: ${reason}; tried again`, { kind: "connect" });
			told = reason;
			later();
		}
	};
	const stop = (): void => {
		going = false;
		clearTimeout(timer);
	};
	return {
		path,
		client: true,
		suspend: async () => stop(),
		resume() {
			if (going) return;
			going = true;
			attempt();
		},
		socket: undefined,
		inherit: follow,
		close: stop,
	};
}
