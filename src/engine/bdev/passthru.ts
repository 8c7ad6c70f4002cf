// SPDX-License-Identifier: MIT
import { native } from "../../ffi/native.ts";
import type { Backend } from "./backend.ts";
import type { Bdev } from "./bdev.ts";
import { createStackedBackend } from "./stacked.ts";

/** Makes a bdev that passes everything on. Throws E_NO_MEMORY. */
export function createPassthruBackend(
	name: string,
	base: Bdev,
	reactors: readonly number[],
): Backend {
	const { numBlocks } = base.backend;
	return createStackedBackend({
		productName: "passthru",
		made: { kind: "passthru" },
		base,
		reactors,
		create: (handle) =>
			native.bdevPassthruCreate(handle, 0n, BigInt(numBlocks)),
		describe: () => ({ passthru: { name, base_bdev_name: base.name } }),
	});
}
