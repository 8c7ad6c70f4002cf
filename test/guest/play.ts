// SPDX-License-Identifier: MIT
// Plays all checks in one guest, each as a subtest: one boot serves many.
import { test } from "node:test";
import { SOAK } from "../support/soak.ts";
import { blkChecks } from "./blk-checks.ts";
import { dataChecks } from "./data-checks.ts";
import { blkLifeChecks, machineChecks } from "./life-checks.ts";
import {
	BACKINGS,
	type GuestKind,
	openScene,
	type Transport,
} from "./scene.ts";
import { scsiChecks } from "./scsi-checks.ts";
import { scsiLifeChecks } from "./scsi-life-checks.ts";

/** In short: each transport over one of them. */
function backingsOf(transport: Transport) {
	if (SOAK) return BACKINGS;
	return transport === "blk" ? (["file"] as const) : (["malloc"] as const);
}

const DATA = {
	blk: [...blkChecks, ...dataChecks],
	scsi: [...scsiChecks, ...dataChecks],
};

/** In short: requests are the same in user-mode-linux, which is quicker. */
const dataOf = (kind: GuestKind, transport: Transport) =>
	kind === "qemu" && !SOAK ? [] : DATA[transport];

/** And so is what disks go through, but for what befalls the machine. */
const LIFE = { blk: blkLifeChecks, scsi: scsiLifeChecks };
const lifeOf = (kind: GuestKind, transport: Transport) =>
	kind === "qemu" && !SOAK ? machineChecks : LIFE[transport];

export function play(kind: GuestKind, transport: Transport): void {
	test(`${kind} guest, ${transport}`, async (t) => {
		const scene = await openScene(kind, transport);
		t.after(scene.close);
		const check = (name: string, action: () => Promise<void>) =>
			t.test(name, () =>
				action().catch((error: unknown) => {
					throw new Error(scene.instance.log(), { cause: error });
				}),
			);
		for (const [name, action] of dataOf(kind, transport))
			for (const backing of backingsOf(transport))
				await check(`${name}, ${backing}`, () =>
					action(scene, scene.disks[backing]),
				);
		for (const [name, action] of lifeOf(kind, transport))
			await check(name, () => action(scene));
		await check("the guest shuts down, and the instance stays", async () => {
			await scene.guest.powerOff();
			await scene.instance.assertHealthy();
		});
	});
}
