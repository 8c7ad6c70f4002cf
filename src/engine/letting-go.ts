// SPDX-License-Identifier: MIT
// Sessions of which nobody waits for the answers any more.
import type { Bdev } from "./bdev/bdev.ts";
import type { Session } from "./vhost-user/device.ts";

/** Has bdevs let go of what they keep waiting while rings of such sessions stop. */
export interface LettingGo {
	/** From here on, until end. */
	begin(session: Session, bdevs: readonly Bdev[]): void;
	/** Its rings have stopped. */
	end(session: Session): void;
}

export function createLettingGo(): LettingGo {
	const restores = new Map<Session, (() => void)[]>();
	return {
		begin(session, bdevs) {
			const before = restores.get(session) ?? [];
			restores.set(session, [...before, ...bdevs.map((bdev) => bdev.letGo())]);
		},
		end(session) {
			for (const restore of restores.get(session) ?? []) restore();
			restores.delete(session);
		},
	};
}
