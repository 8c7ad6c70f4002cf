// SPDX-License-Identifier: MIT
// Rings that wait for translations (vhost-user, "IOMMU support"). The front end is asked on the
// back-end channel and answers with an IOTLB_MSG on the main one. Its thread may be waiting for
// our answer to some message meanwhile, so no message ever waits for a translation.
import { NativeError } from "../../ffi/native.ts";
import { messageOf } from "../errors.ts";
import { PROTOCOL_FEATURES } from "./messages.ts";
import { logOf, type SessionState } from "./state.ts";
import { dropKick, type Miss, settle, type Vring } from "./vring.ts";

/** How long an update may take to be read after its miss was acknowledged, in ms. */
const GRACE = 1000;
/** The same without acknowledgement. */
const PATIENCE = 5000;

function isKnown({ iotlb }: SessionState, { iova, access }: Miss): boolean {
	return iotlb?.gap(iova, 1n, access) === undefined;
}

/** Gives a running ring the present view; with refuse, what it asked for is not to be had. */
function answerRing(
	{ iotlb }: SessionState,
	{ run }: Vring,
	refuse: boolean,
): void {
	if (!run || !iotlb) return;
	run.view = iotlb.view();
	try {
		run.running.setMem(run.view, refuse);
	} catch (error) {
		// It is being stopped, and waits for nothing then.
		if (!(error instanceof NativeError && error.code === "ENOENT")) throw error;
	}
}

/** A ring that runs, or is about to start, needs a translation. */
export function onMiss(state: SessionState, vring: Vring, miss: Miss): void {
	if (vring.run && isKnown(state, miss)) {
		// One with the present view was told of it after it had asked, and went on.
		if (vring.run.view !== state.iotlb?.view()) answerRing(state, vring, false);
		return;
	}
	if (vring.miss?.iova === miss.iova && vring.miss.access === miss.access)
		return;
	vring.miss = miss;
	void ask(state, vring, miss);
}

async function ask(
	state: SessionState,
	vring: Vring,
	miss: Miss,
): Promise<void> {
	let reason = "the front end shows nothing there";
	try {
		const { channel, protocolFeatures } = state;
		if (!channel) throw new Error("there is no back-end channel");
		const acks = (protocolFeatures & PROTOCOL_FEATURES.REPLY_ACK) !== 0n;
		await channel.iotlbMiss(miss.iova, miss.access, acks);
		const patience = acks ? GRACE : PATIENCE;
		await new Promise((resolve) => setTimeout(resolve, patience).unref());
	} catch (error) {
		reason = messageOf(error);
	}
	if (vring.miss === miss) giveUp(state, vring, miss, reason);
}

/** Nobody shows what a ring needs: its request fails; or it does not start. */
function giveUp(
	state: SessionState,
	vring: Vring,
	{ iova, parts }: Miss,
	reason: string,
): void {
	vring.miss = undefined;
	if (vring.run) answerRing(state, vring, true);
	// One that is being restarted asks again, if it still has to.
	if (vring.run || !parts) return;
	dropKick(vring);
	logOf(state).warning(`no translation of 0x${iova.toString(16)}: ${reason}`, {
		ring: vring.index,
		kind: "ring-start",
	});
}

/** Something is known that was not: rings that waited for it go on. */
export async function answerMisses(state: SessionState): Promise<void> {
	for (const vring of state.vrings.values()) {
		const { miss } = vring;
		if (!miss || !isKnown(state, miss)) continue;
		vring.miss = undefined;
		if (vring.run) answerRing(state, vring, false);
		else await startLate(state, vring);
	}
}

async function startLate(state: SessionState, vring: Vring): Promise<void> {
	try {
		await settle(vring, state);
	} catch (error) {
		logOf(state).warning(messageOf(error), { kind: "ring-start" });
	}
}
