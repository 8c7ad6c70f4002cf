// SPDX-License-Identifier: MIT
// What an IOTLB knows, against a model, and against what its views translate.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { createIotlb } from "../../src/engine/vhost-user/iotlb.ts";
import { native, PAGES_SHARED } from "../../src/ffi/native.ts";

const PAGE = 4096n;
const PAGES = 32;
const IOVA = 1n << 33n;

const pages = native.pagesAlloc({
	size: PAGE * BigInt(PAGES),
	pageSize: PAGE,
	flags: PAGES_SHARED,
});
const table = native.memCreate();
native.memAddRegion(table, {
	gpa: 0n,
	size: pages.size,
	userAddr: 0n,
	fd: pages.fd,
	offset: 0n,
});
const base = native.memTranslateUser(table, 0n, 1n);
after(() => {
	native.memRelease(table);
	native.pagesFree(pages);
});

interface Step {
	kind: "show" | "hide" | "use";
	at: number;
	count: number;
	to: number;
	access: number;
}

const steps = fc.array(
	fc.record<Step>({
		kind: fc.constantFrom("show", "show", "hide", "use"),
		at: fc.nat({ max: PAGES - 1 }),
		count: fc.integer({ min: 1, max: 8 }),
		to: fc.nat({ max: PAGES - 8 }),
		access: fc.integer({ min: 1, max: 3 }),
	}),
	{ maxLength: 40 },
);

/** By page: where it is in the table, and how it may be used. */
type Model = Map<number, { to: number; access: number }>;

function translated(view: bigint, page: number): bigint | undefined {
	try {
		const iova = IOVA + PAGE * BigInt(page);
		const [piece] = native.memTranslate(view, iova, PAGE, 1);
		return piece && (piece.addr - base) / PAGE;
	} catch {
		return undefined;
	}
}

function checkKnown(iotlb: ReturnType<typeof createIotlb>, model: Model) {
	for (let page = 0; page < PAGES + 8; page++) {
		const iova = IOVA + PAGE * BigInt(page);
		const known = model.get(page);
		assert.equal(iotlb.knows(iova, PAGE), known !== undefined);
		const user = known && PAGE * BigInt(known.to) + 5n;
		assert.equal(iotlb.userAddr(iova + 5n), user);
		for (const access of [1, 2, 3]) {
			const allowed = known && (known.access & access) === access;
			assert.equal(iotlb.gap(iova, PAGE, access), allowed ? undefined : iova);
		}
	}
	const whole = PAGE * BigInt(PAGES);
	const first = Array.from({ length: PAGES }, (_, i) => i).find(
		(page) => !model.has(page),
	);
	assert.equal(
		iotlb.gap(IOVA, whole, 0),
		first === undefined ? undefined : IOVA + PAGE * BigInt(first),
	);
}

test("pieces are shown, replaced, hidden in part, and views in use stay as they are", () => {
	fc.assert(
		fc.property(steps, (list) => {
			const iotlb = createIotlb(table);
			const model: Model = new Map();
			const used: { view: bigint; model: Model }[] = [];
			for (const { kind, at, count, to, access } of list) {
				const iova = IOVA + PAGE * BigInt(at);
				const size = PAGE * BigInt(count);
				if (kind === "use") {
					// As a ring does: a reference of its own keeps it.
					used.push({
						view: native.memClone(iotlb.view()),
						model: new Map(model),
					});
				} else if (kind === "show")
					iotlb.show({ iova, size, userAddr: PAGE * BigInt(to), access });
				else iotlb.hide(iova, size);
				for (let i = 0; i < count && kind !== "use"; i++) {
					if (kind === "show") model.set(at + i, { to: to + i, access });
					else model.delete(at + i);
				}
			}
			checkKnown(iotlb, model);
			used.push({ view: native.memClone(iotlb.view()), model });
			for (const { view, model } of used) {
				for (let page = 0; page < PAGES + 8; page++) {
					const to = model.get(page)?.to;
					const expected = to === undefined ? undefined : BigInt(to);
					assert.equal(translated(view, page), expected);
				}
				native.memRelease(view);
			}
			iotlb.clear();
			checkKnown(iotlb, new Map());
			iotlb.release();
		}),
		{ numRuns: 60 },
	);
});

test("a view that a ring has is not changed by what follows", () => {
	const iotlb = createIotlb(table);
	iotlb.show({ iova: IOVA, size: PAGE, userAddr: 0n, access: 3 });
	const before = iotlb.view();
	assert.equal(iotlb.view(), before);
	const kept = native.memClone(before);
	iotlb.hide(IOVA, PAGE);
	assert.equal(translated(iotlb.view(), 0), undefined);
	assert.equal(translated(kept, 0), 0n);
	native.memRelease(kept);
	iotlb.release();
});

test("what the table does not have is not shown, and nothing changes", () => {
	const iotlb = createIotlb(table);
	iotlb.show({ iova: IOVA, size: PAGE, userAddr: 0n, access: 1 });
	for (const [changes, code] of [
		[{ userAddr: pages.size }, "EFAULT"],
		[{ size: pages.size + PAGE }, "EFAULT"],
		[{ size: 0n }, "EINVAL"],
		[{ access: 0 }, "EINVAL"],
		[{ access: 4 }, "EINVAL"],
		[{ iova: 2n ** 64n - PAGE, size: PAGE * 2n }, "EINVAL"],
	] as const) {
		const piece = { iova: IOVA, size: PAGE, userAddr: 0n, access: 3 };
		assert.throws(() => iotlb.show({ ...piece, ...changes }), { code });
		assert.equal(iotlb.gap(IOVA, PAGE, 1), undefined);
		assert.equal(iotlb.gap(IOVA, PAGE, 2), IOVA);
	}
	iotlb.release();
});
