// SPDX-License-Identifier: MIT
import { NOTIFICATION_TYPES } from "../../notifications.ts";
import type { notifyMethods } from "../schema/notify.ts";
import type { Handlers } from "./context.ts";

export const notifyHandlers: Handlers<keyof typeof notifyMethods> = {
	notify_get_types: () => [...NOTIFICATION_TYPES],
	notify_get_notifications: ({ engine }, { id, max }) =>
		engine.notifications.since(id ?? 0, max ?? Number.POSITIVE_INFINITY),
};
