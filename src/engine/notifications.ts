// SPDX-License-Identifier: MIT

/** What can happen to a bdev, as SPDK names it. */
export const NOTIFICATION_TYPES = [
	"bdev_register",
	"bdev_unregister",
	"bdev_resize",
] as const;

export type NotificationType = (typeof NOTIFICATION_TYPES)[number];

export interface Notification {
	/** Counts up from 0, without a gap, while the engine lives. */
	readonly id: number;
	readonly type: NotificationType;
	/** The name of what it happened to. */
	readonly ctx: string;
}

/** What happened in an engine lately. */
export interface Notifications {
	/** Adds an event. */
	send(type: NotificationType, ctx: string): void;
	/**
	 * Those that are left of the events with this id and later ones, oldest first, `max` at
	 * most. Its first is later than asked for if that one was forgotten.
	 */
	since(id: number, max: number): Notification[];
}

/** As many events as SPDK keeps. */
const KEPT = 1024;

/** A history without events, that forgets all but the last 1024. */
export function createNotifications(): Notifications {
	const ring: Notification[] = [];
	let next = 0;
	return {
		send(type, ctx) {
			ring[next % KEPT] = { id: next, type, ctx };
			next++;
		},
		since(id, max) {
			const first = Math.max(id, next - KEPT, 0);
			const count = Math.min(Math.max(next - first, 0), max);
			return Array.from(
				{ length: count },
				(_, i) => ring[(first + i) % KEPT],
			).filter((event) => event !== undefined);
		},
	};
}
