// SPDX-License-Identifier: MIT
import type { Operation } from "./operation.ts";
import { persistentInOperations } from "./persistent-in.ts";
import { persistentOutOperations } from "./persistent-out.ts";
import { reserveOperations } from "./reserve-release.ts";

/** RESERVE, RELEASE, PERSISTENT RESERVE IN and OUT. */
export const reservationOperations: readonly Operation[] = [
	...reserveOperations,
	...persistentInOperations,
	...persistentOutOperations,
];
