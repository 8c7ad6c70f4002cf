// SPDX-License-Identifier: MIT
import type { Buffer } from "node:buffer";
import { forgetCopyResults } from "./copy-results.ts";
import { execute, gates } from "./execute.ts";
import { outcomeOfFailure } from "./failure.ts";
import { createModePages, type ModePages } from "./mode-pages.ts";
import { operationsOf } from "./opcodes.ts";
import type { Operation } from "./operation.ts";
import { createReservations, type Reservations } from "./reservations.ts";
import { ASC, type Sense } from "./sense.ts";
import type { Command, Gate, Host, Medium, Nexus, Outcome } from "./task.ts";
import { createUnitAttentions, type UnitAttentions } from "./unit-attention.ts";

/** Work on the whole medium that goes on behind a command that has ended (SANITIZE). */
export interface BackgroundWork {
	/** Why other commands are refused meanwhile; its progress is up to date. */
	sense(): Sense;
	/** Ends it soon: the logical unit goes away. Resolves when it has. */
	cancel(): Promise<void>;
}

/** A direct access block device with a command set: SPC-4 and SBC-3. */
export interface LogicalUnit {
	/** 0..255. */
	readonly lun: number;
	readonly medium: Medium;
	readonly host: Host;
	readonly modes: ModePages;
	readonly attentions: UnitAttentions;
	readonly reservations: Reservations;
	/** What the opcode table has for this medium. */
	readonly operations: readonly Operation[];
	/** False after START STOP UNIT stopped it. */
	started: boolean;
	/** Nexuses that prevent medium removal. */
	readonly preventers: Set<Nexus>;
	background: BackgroundWork | undefined;
	/** EXTENDED COPY: what RECEIVE COPY RESULTS tells, by nexus and list identifier. */
	readonly copyResults: Map<string, Buffer>;

	/** Executes a command; never rejects. */
	execute(command: Command): Promise<Outcome>;
	/** How a transfer, or another command, ends that the medium failed. */
	outcomeOfFailure: typeof outcomeOfFailure;
	/** Whether reads and writes of a nexus need not be asked for. */
	gates(nexus: Nexus): { read: Gate; write: Gate };
	/** Whether writes may stay in a volatile cache (WCE). */
	readonly writeback: boolean;
	/** D_SENSE: which format sense data is to have. */
	readonly descriptorSense: boolean;
	/** A nexus came into being: its first command meets a unit attention. */
	nexusCame(nexus: Nexus): void;
	/** A nexus is gone: its reservations of SPC-2, attentions and the like go. */
	nexusGone(nexus: Nexus): void;
	/** LOGICAL UNIT RESET has ended all tasks: what it does to the rest (SAM-5 6.3.3). */
	reset(): void;
	/** The medium has another size. */
	capacityChanged(): void;
	/** A logical unit was added to or removed from the target. */
	lunsChanged(): void;
	/** It is taken away: background work ends. */
	close(): Promise<void>;
}

export interface LogicalUnitOptions {
	/** 0..255. */
	readonly lun: number;
	readonly medium: Medium;
	readonly host: Host;
	/** What an operator should know: failures that are no fault of the initiator. */
	readonly log?: ((message: string) => void) | undefined;
}

/** A logical unit that nobody is connected to yet. */
export function createLogicalUnit(options: LogicalUnitOptions): LogicalUnit {
	const { lun, medium, host, log } = options;
	const attentions = createUnitAttentions(host.changed);
	const modes = createModePages({ medium, host, log });
	const reservations = createReservations({ medium, host, attentions });
	if (reservations.restoreProblem !== undefined)
		log?.(`reservations were not restored: ${reservations.restoreProblem}`);
	const preventers = new Set<Nexus>();
	let started = true;
	let background: BackgroundWork | undefined;

	const unit: LogicalUnit = {
		lun,
		medium,
		host,
		modes,
		attentions,
		reservations,
		operations: operationsOf(medium),
		preventers,
		copyResults: new Map(),
		get started() {
			return started;
		},
		set started(value) {
			started = value;
			host.changed();
		},
		get background() {
			return background;
		},
		set background(value) {
			background = value;
			host.changed();
		},
		get writeback() {
			return modes.writeback;
		},
		get descriptorSense() {
			return modes.descriptorSense;
		},
		execute: (command) => execute(unit, command, log),
		outcomeOfFailure,
		gates: (nexus) => gates(unit, nexus),
		nexusCame(nexus) {
			attentions.establish(ASC.POWER_ON_OR_RESET, [nexus]);
		},
		nexusGone(nexus) {
			preventers.delete(nexus);
			attentions.forget(nexus);
			forgetCopyResults(unit.copyResults, nexus);
			reservations.nexusGone(nexus);
		},
		reset() {
			// SBC-3 4.20: a reset enters the active power condition. SANITIZE goes on (4.11).
			preventers.clear();
			unit.copyResults.clear();
			reservations.reset();
			modes.reset();
			unit.started = true;
			attentions.establish(ASC.BUS_DEVICE_RESET_FUNCTION, host.nexuses());
		},
		capacityChanged() {
			attentions.establish(ASC.CAPACITY_DATA_CHANGED, host.nexuses());
		},
		lunsChanged() {
			attentions.establish(ASC.REPORTED_LUNS_CHANGED, host.nexuses());
		},
		close: async () => background?.cancel(),
	};
	return unit;
}
