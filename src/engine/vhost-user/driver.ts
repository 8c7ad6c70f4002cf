// SPDX-License-Identifier: MIT
// The driver's side of vhost-user, for other programs: what a virtual machine does, without one.
export { createRuntime, type Runtime } from "../runtime.ts";
export {
	connectFrontend,
	type Frontend,
	type FrontendOptions,
} from "./frontend.ts";
export type { FrontendRing, SharedMemory } from "./frontend-rings.ts";
export type { MessageName } from "./messages.ts";
