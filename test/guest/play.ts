// SPDX-License-Identifier: MIT
// Plays all checks in a guest, over each kind of backing. One boot serves many checks, each
// of which is a subtest.
import { test } from "node:test";
import { dataChecks } from "./data-checks.ts";
import { lifeChecks } from "./life-checks.ts";
import { type Backing, type GuestKind, openScene } from "./scene.ts";

const BACKINGS: Backing[] = ["malloc", "file"];

export function playScenes(kind: GuestKind): void {
	for (const backing of BACKINGS)
		test(`${kind} guest, disks over ${backing}`, async (t) => {
			const scene = await openScene(kind, backing);
			t.after(scene.close);
			for (const [name, check] of [...dataChecks, ...lifeChecks])
				await t.test(name, () =>
					check(scene).catch((error: unknown) => {
						throw new Error(scene.instance.log(), { cause: error });
					}),
				);
			await t.test("the guest shuts down, then the instance", async () => {
				await scene.guest.powerOff();
				await scene.instance.assertHealthy();
			});
		});
}
