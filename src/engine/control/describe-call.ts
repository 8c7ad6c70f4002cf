// SPDX-License-Identifier: MIT
import type { Inquiry } from "../bdev/bdev.ts";
import { inquiryOf } from "../bdev/identity.ts";
import type { Bdev } from "../engine.ts";
import type { MethodName, Params } from "./schema.ts";

/** A call of a method. */
export interface Call {
	readonly method: MethodName;
	readonly params: Readonly<Record<string, unknown>>;
}

export function call<M extends MethodName>(method: M, params: Params<M>): Call {
	// What is undefined was not given; JSON leaves it out.
	return { method, params: JSON.parse(JSON.stringify(params)) };
}

/** What a bdev tells of itself, as far as it was asked to: SPDK knows but the first two. */
export function whoIs({ name, uuid, identity, backend }: Bdev) {
	const usual = inquiryOf(name, {}, backend);
	const unlessUsual = (key: keyof Inquiry) =>
		identity[key] === usual[key] ? undefined : identity[key];
	return {
		name,
		uuid,
		vendor: unlessUsual("vendor"),
		product: unlessUsual("product"),
		serial: unlessUsual("serial"),
	};
}
