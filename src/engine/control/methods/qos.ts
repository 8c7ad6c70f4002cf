// SPDX-License-Identifier: MIT
import { type Bdev, type QosLimits, VhostctlError } from "../../engine.ts";
import type { qosMethods } from "../schema/qos.ts";
import type { Handlers } from "./context.ts";

const MIB = 1024 * 1024;

/** A parameter, and the limit that it is. */
const LIMITS = {
	rw_ios_per_sec: { limit: "ios", unit: 1 },
	rw_mbytes_per_sec: { limit: "bytes", unit: MIB },
	r_mbytes_per_sec: { limit: "readBytes", unit: MIB },
	w_mbytes_per_sec: { limit: "writeBytes", unit: MIB },
} as const satisfies Record<string, { limit: keyof QosLimits; unit: number }>;

type Params = { readonly [K in keyof typeof LIMITS]?: number | undefined };

/** A bdev's limits as bdev_get_bdevs shows them and bdev_set_qos_limit takes them. */
export function rateLimits({ qos }: Bdev): Record<keyof Params, number> {
	const { ios, bytes, readBytes, writeBytes } = qos;
	return {
		rw_ios_per_sec: ios,
		rw_mbytes_per_sec: bytes / MIB,
		r_mbytes_per_sec: readBytes / MIB,
		w_mbytes_per_sec: writeBytes / MIB,
	};
}

export const qosHandlers: Handlers<keyof typeof qosMethods> = {
	async bdev_set_qos_limit({ engine }, p): Promise<true> {
		const changes = Object.entries(LIMITS).flatMap(
			([name, { limit, unit }]) => {
				const value = (p as Params)[name as keyof Params];
				return value === undefined ? [] : [[limit, value * unit] as const];
			},
		);
		if (changes.length === 0)
			throw new VhostctlError(
				"E_INVALID",
				`no limit given: want ${Object.keys(LIMITS).join(", ")}`,
			);
		await engine.bdevs.setQos(p.name, Object.fromEntries(changes));
		return true;
	},
};
