// SPDX-License-Identifier: MIT
// All that a session is, for another process to go on with it: a document that may be sent as
// JSON, and descriptors, which the document names by their places.

/** A descriptor: its place in the image's fds. */
export type FdPlace = number;

/** A number of 64 bits, in decimal. */
export type Wide = string;

export interface RegionImage {
	readonly gpa: Wide;
	readonly size: Wide;
	readonly userAddr: Wide;
	readonly offset: Wide;
	readonly fd: FdPlace;
}

export interface RingImage {
	readonly index: number;
	readonly size: number;
	readonly base: number | null;
	/** Where a reset stopped it. */
	readonly left: number | null;
	readonly address: {
		readonly flags: number;
		readonly desc: Wide;
		readonly used: Wide;
		readonly avail: Wide;
		readonly log: Wide;
	} | null;
	/** null: stopped. */
	readonly kick: FdPlace | "poll" | null;
	/** null: none. */
	readonly call: FdPlace | null;
	readonly err: FdPlace | null;
	readonly enabled: boolean | null;
	readonly broken: boolean;
}

export interface SessionDocument {
	readonly version: 1;
	readonly features: Wide;
	readonly protocolFeatures: Wide;
	readonly negotiated: boolean;
	readonly status: number;
	readonly connection: FdPlace;
	/** A message that was read and not yet answered. */
	readonly message: {
		readonly data: string; // base64
		readonly fds: readonly FdPlace[];
	} | null;
	/** The back-end channel, and how many answers it still gets. */
	readonly channel: { readonly fd: FdPlace; readonly owed: number } | null;
	/** null: no table was set. */
	readonly memory: readonly RegionImage[] | null;
	readonly log: {
		readonly fd: FdPlace;
		readonly size: Wide;
		readonly offset: Wide;
	} | null;
	readonly logFd: FdPlace | null;
	/** Rings wrote under LOG_ALL before there was a log. */
	readonly unlogged: boolean;
	readonly inflight: {
		readonly fd: FdPlace;
		readonly size: Wide;
		readonly offset: Wide;
		readonly numQueues: number;
		readonly queueSize: number;
	} | null;
	readonly rings: readonly RingImage[];
	/** What VhostDevice.exportSession gave. */
	readonly device: unknown;
}

export interface SessionImage {
	readonly document: SessionDocument;
	readonly fds: readonly number[];
}
