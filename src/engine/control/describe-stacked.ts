// SPDX-License-Identifier: MIT
// Bdevs that stack on others, as the calls that make them.
import { type Bdev, isDelay, isError, showRule } from "../engine.ts";
import { type Call, call, whoIs } from "./describe-call.ts";

/** The call that makes one, unless another's makes it too, and those that set what it does. */
export function stackedCalls(bdev: Bdev, base: string): Call[] {
	const { name, backend } = bdev;
	const { name: _, ...who } = whoIs(bdev);
	if (isDelay(backend)) {
		const { avg_read, p99_read, avg_write, p99_write } = backend.latencies();
		return [
			call("bdev_delay_create", {
				name,
				base_bdev_name: base,
				avg_read_latency: avg_read,
				p99_read_latency: p99_read,
				avg_write_latency: avg_write,
				p99_write_latency: p99_write,
				...who,
			}),
		];
	}
	if (isError(backend)) {
		const rules = backend
			.rules()
			.map(([operation, rule]) =>
				call("bdev_error_inject_error", { name, ...showRule(operation, rule) }),
			);
		return [call("bdev_error_create", { base_name: base, ...who }), ...rules];
	}
	if (backend.made.kind !== "split")
		return [
			call("bdev_passthru_create", { name, base_bdev_name: base, ...who }),
		];
	if (name !== `${base}p0`) return [];
	const { count, sizeMb } = backend.made.split;
	const size = { split_count: count, split_size_mb: sizeMb };
	return [call("bdev_split_create", { base_bdev: base, ...size })];
}
