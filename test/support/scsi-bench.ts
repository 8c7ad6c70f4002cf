// SPDX-License-Identifier: MIT
// An engine with one SCSI controller, and drivers connected to it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";
import {
	allowedCpus,
	type EngineOptions,
	type ScsiController,
} from "../../src/engine/engine.ts";
import { createRuntime } from "../../src/engine/runtime.ts";
import {
	assertNoLeak,
	footprint,
	startTestEngine,
	type TestEngine,
} from "./engine.ts";
import {
	connectScsiGuest,
	type GuestOptions,
	type ScsiAnswer,
	type ScsiCommand,
	type ScsiGuest,
} from "./scsi-guest.ts";

export const CONTROLLER = "scsi0";
export const BLOCK = 512;
export const MIB = 1024 * 1024;

export interface ScsiBench extends TestEngine {
	readonly controller: ScsiController;
	/** A RAM disk of so many MiB at a place. */
	addMalloc(
		name: string,
		target?: number,
		lun?: number,
		mib?: number,
	): Promise<number>;
	/** A sparse file of so many MiB, driven by io_uring. */
	addFile(
		name: string,
		target?: number,
		lun?: number,
		mib?: number,
	): Promise<string>;
	connect(options?: GuestOptions): Promise<ScsiGuest>;
}

let warm = false;

/** Runs a test on a bench, and checks that nothing of it is left. */
export async function onBench(
	work: (bench: ScsiBench) => Promise<void>,
	options: Partial<EngineOptions> = {},
): Promise<void> {
	// The first engine of a process opens what stays open, the runtime's own.
	if (!warm) await (await startTestEngine()).close();
	warm = true;
	const before = footprint();
	const t = await startTestEngine({ cpus: allowedCpus(), ...options });
	const runtime = createRuntime();
	const guests: ScsiGuest[] = [];
	const controller = await t.engine.createScsiController({ name: CONTROLLER });
	const place = (bdev: string, target = 0, lun = 0) =>
		t.engine.addScsiLun({ name: CONTROLLER, target, lun, bdev });
	try {
		await work({
			...t,
			controller,
			async addMalloc(name, target, lun, mib = 1) {
				const numBlocks = (mib * MIB) / BLOCK;
				await t.engine.bdevs.createMalloc({
					name,
					blockSize: BLOCK,
					numBlocks,
				});
				return place(name, target, lun);
			},
			async addFile(name, target, lun, mib = 1) {
				const filename = join(t.dir, `${name}.img`);
				const fd = openSync(filename, "w");
				ftruncateSync(fd, mib * MIB);
				closeSync(fd);
				await t.engine.bdevs.createFile({ name, driver: "aio", filename });
				await place(name, target, lun);
				return filename;
			},
			async connect(options) {
				const path = t.engine.socketPath(CONTROLLER);
				const guest = await connectScsiGuest(runtime, path, options);
				guests.push(guest);
				return guest;
			},
		});
	} finally {
		for (const guest of guests) await guest.close();
		await runtime.close();
		await t.close();
	}
	await assertNoLeak(before);
}

export const TEST_UNIT_READY = [0, 0, 0, 0, 0, 0];

export function cdb10(opcode: number, lba: number, blocks: number): number[] {
	const cdb = Buffer.alloc(10);
	cdb[0] = opcode;
	cdb.writeUInt32BE(lba, 2);
	cdb.writeUInt16BE(blocks, 7);
	return [...cdb];
}

export function cdb16(
	opcode: number,
	lba: number,
	blocks: number,
	second = 0,
): number[] {
	const cdb = Buffer.alloc(16);
	cdb[0] = opcode;
	cdb[1] = second;
	cdb.writeBigUInt64BE(BigInt(lba), 2);
	cdb.writeUInt32BE(blocks, 10);
	return [...cdb];
}

export const read = (
	lba: number,
	blocks: number,
	at: Partial<ScsiCommand> = {},
): ScsiCommand => ({
	cdb: cdb10(0x28, lba, blocks),
	room: blocks * BLOCK,
	...at,
});

export const write = (
	lba: number,
	out: Buffer,
	at: Partial<ScsiCommand> = {},
): ScsiCommand => ({
	cdb: cdb10(0x2a, lba, out.length / BLOCK),
	out,
	...at,
});

/** What an answer says, for comparisons: response, status, sense, residual. */
export function brief(answer: ScsiAnswer): string {
	const { response, status, senseText, residual } = answer;
	return `${response} ${status.toString(16)} ${senseText || "-"} ${residual}`;
}

export function assertGood(answer: ScsiAnswer): void {
	assert.equal(brief(answer), "0 0 - 0");
}

export function pattern(bytes: number, seed: number): Buffer {
	return Buffer.from(
		Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + seed) & 0xff),
	);
}
