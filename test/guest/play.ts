// SPDX-License-Identifier: MIT
// Plays all checks in one guest, each as a subtest: one boot serves many.
import { test } from "node:test";
import { dataChecks } from "./data-checks.ts";
import { lifeChecks } from "./life-checks.ts";
import { DISKS, type GuestKind, openScene } from "./scene.ts";

export function play(kind: GuestKind): void {
	test(`${kind} guest`, async (t) => {
		const scene = await openScene(kind);
		t.after(scene.close);
		const check = (name: string, action: () => Promise<void>) =>
			t.test(name, () =>
				action().catch((error: unknown) => {
					throw new Error(scene.instance.log(), { cause: error });
				}),
			);
		for (const [name, action] of dataChecks)
			for (const [backing, disks] of Object.entries(DISKS))
				await check(`${name}, ${backing}`, () => action(scene, disks));
		for (const [name, action] of lifeChecks)
			await check(name, () => action(scene));
		await check("the guest shuts down, and the instance stays", async () => {
			await scene.guest.powerOff();
			await scene.instance.assertHealthy();
		});
	});
}
