// SPDX-License-Identifier: MIT
// What goes from an instance to the one that takes over, and how descriptors are named in it.
import { native } from "../../ffi/native.ts";
import { VhostctlError } from "../errors.ts";
import type { UnitImage } from "../scsi/unit-image.ts";
import type {
	SessionDocument,
	SessionImage,
} from "../vhost-user/session-image.ts";

/** Of the documents below; an instance takes over from one of the same alone. */
export const FORMAT = 1;

/** Place of a descriptor among those beside the document. */
export type Place = number;

/** A call that makes an object, or sets something. */
export interface MakingCall {
	readonly method: string;
	readonly params: Readonly<Record<string, unknown>>;
}

/** First: what the successor makes while the predecessor serves. */
export interface Estate {
	readonly format: number;
	readonly pid: number;
	readonly socketDir: string;
	readonly stateDir: string | null;
	readonly cpus: readonly number[];
	readonly mode: string;
	readonly postcopy: boolean;
	readonly calls: readonly MakingCall[];
	/** Calls that set what there is besides, in order: a successor does as well without. */
	readonly settings: readonly MakingCall[];
	/** What the calls do not say. */
	readonly bdevs: readonly {
		readonly name: string;
		readonly document: unknown;
		readonly fds: readonly Place[];
	}[];
	/** Controllers that front ends come to. */
	readonly started: readonly string[];
	/** Lock of the control socket. */
	readonly lock: Place;
	/** An eventfd with one token: who takes it has the guests from then on. */
	readonly token: Place;
}

export interface ImageParcel {
	readonly document: SessionDocument;
	readonly fds: readonly Place[];
}

export interface ControllerState {
	readonly name: string;
	/** null: it connects. */
	readonly socket: {
		readonly fd: Place;
		readonly path: string;
		readonly file: string | null;
	} | null;
	readonly sessions: readonly ImageParcel[];
	readonly units: readonly {
		readonly target: number;
		readonly lun: number;
		readonly image: UnitImage;
	}[];
}

/** Then: what there is when the guests stand still. */
export interface GuestState {
	/** When they began to stand still, by wallMs. */
	readonly since: number;
	readonly controllers: readonly ControllerState[];
	/** What Handover.save wrote. */
	readonly bdevs: readonly { readonly name: string; readonly saved: Place }[];
}

/** Last: the successor serves. */
export interface Done {
	/** How long the guests stood still. */
	readonly pauseMs: number;
}

/** A clock that two processes of a machine share: ms, with parts. */
export function wallMs(): number {
	return performance.timeOrigin + performance.now();
}

/** Collects descriptors, and names them by their places. */
export class Luggage {
	readonly fds: number[] = [];

	put(fd: number): Place {
		return this.fds.push(fd) - 1;
	}

	putAll(fds: readonly number[]): Place[] {
		return fds.map((fd) => this.put(fd));
	}
}

/** The other end: each descriptor is taken once, or closed in the end. */
export class Unpacked {
	readonly #fds: (number | undefined)[];

	constructor(fds: readonly number[]) {
		this.#fds = [...fds];
	}

	/** A descriptor that stays here. */
	peek(place: Place): number {
		const fd = this.#fds[place];
		if (fd === undefined)
			throw new VhostctlError("E_PROTOCOL", `no descriptor ${place}`);
		return fd;
	}

	/** A descriptor that is the caller's from now on. */
	take(place: Place): number {
		const fd = this.peek(place);
		this.#fds[place] = undefined;
		return fd;
	}

	/** As `take`, if work succeeds. */
	async lend<T>(
		places: readonly Place[],
		work: (fds: number[]) => Promise<T>,
	): Promise<T> {
		const result = await work(places.map((place) => this.peek(place)));
		for (const place of places) this.take(place);
		return result;
	}

	close(): void {
		for (const fd of this.#fds.splice(0))
			if (fd !== undefined) native.fdClose(fd);
	}
}

export function packImage(luggage: Luggage, image: SessionImage): ImageParcel {
	return { document: image.document, fds: luggage.putAll(image.fds) };
}
