// SPDX-License-Identifier: MIT
import { absentMethods } from "../schema/absent.ts";
import type { Handlers } from "./context.ts";

type Name = keyof typeof absentMethods;

export const absentHandlers = Object.fromEntries(
	Object.keys(absentMethods).map((name) => [name, (): true => true]),
) as Record<Name, () => true> satisfies Handlers<Name>;
