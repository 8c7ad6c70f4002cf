// SPDX-License-Identifier: MIT
/** What a bdev tells of itself, of a create method's parameters. */
export function identity(p: {
	uuid?: string | undefined;
	vendor?: string | undefined;
	product?: string | undefined;
	serial?: string | undefined;
}) {
	const { uuid, vendor, product, serial } = p;
	return { uuid, vendor, product, serial };
}
