// SPDX-License-Identifier: MIT
// Random service actions from three initiators, against a model that knows the rules in
// another way: by initiator, with sets, and with nothing of what we have built.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
	CHECK,
	CONFLICT,
	GOOD,
	type OutName,
	PREEMPTED,
	REGISTRATIONS_PREEMPTED,
	RELEASED,
	type Scene,
	scene,
} from "../support/reservations.ts";
import { memoryStore, transportIdOf } from "../support/scsi.ts";

const TYPES = [1, 3, 5, 6, 7, 8];
const ALL = [0, 1, 2];

interface Model {
	/** Key of each registered initiator, in the order of registration. */
	keys: Map<number, bigint>;
	type: number | undefined;
	/** Who holds a reservation that is not of all registrants. */
	holder: number | undefined;
	generation: number;
	aptpl: boolean;
	/** Who has a reservation of SPC-2. */
	reserver: number | undefined;
	attentions: Set<number>[];
}

interface OutStep {
	readonly kind: "out";
	readonly who: number;
	readonly action: OutName;
	readonly key: bigint | "own";
	readonly sark: bigint;
	readonly type: number | "held";
	readonly aptpl: boolean;
	readonly specify: readonly number[] | undefined;
	readonly to: number;
	readonly unregister: boolean;
}

type Step =
	| OutStep
	| {
			readonly kind: "reserve" | "release" | "reset" | "reconnect";
			readonly who: number;
	  }
	| { readonly kind: "restart" };

function newModel(): Model {
	return {
		...{ keys: new Map(), type: undefined, holder: undefined },
		...{ generation: 0, aptpl: false, reserver: undefined },
		attentions: ALL.map(() => new Set()),
	};
}

const isAll = (type: number | undefined) => type === 7 || type === 8;
const isOnly = (type: number | undefined) => type === 5 || type === 6;
const isWrite = (type: number | undefined) =>
	type === 1 || type === 5 || type === 7;

function holds(model: Model, who: number): boolean {
	if (model.type === undefined || !model.keys.has(who)) return false;
	return isAll(model.type) || model.holder === who;
}

function tell(model: Model, asc: number, whom: Iterable<number>, not: number) {
	for (const who of whom) if (who !== not) model.attentions[who]?.add(asc);
}

function endReservation(model: Model) {
	model.type = undefined;
	model.holder = undefined;
}

function forget(model: Model, whom: Iterable<number>) {
	for (const who of whom) {
		model.keys.delete(who);
		if (model.holder === who) endReservation(model);
	}
	if (model.keys.size === 0) endReservation(model);
}

/** What the tables say before the list is looked at. */
function barred(model: Model, { who, action }: OutStep): boolean {
	if (model.reserver !== undefined) return true;
	if (model.type === undefined || holds(model, who)) return false;
	if (action === "register" || action === "registerAndIgnore") return false;
	if (!model.keys.has(who)) return true;
	return action === "reserve" || action === "registerAndMove";
}

function modelRegister(model: Model, step: OutStep, key: bigint): number {
	const { who, action, sark, specify } = step;
	const own = model.keys.get(who);
	if (action === "registerAndIgnore") {
		if (specify) return CHECK;
	} else if (key !== (own ?? 0n)) return CONFLICT;
	if (specify && own !== undefined) return CHECK;
	if (sark === 0n) {
		if (own === undefined) return GOOD;
		const { type } = model;
		forget(model, [who]);
		if (isOnly(type) && model.type === undefined)
			tell(model, RELEASED, model.keys.keys(), who);
	} else {
		if (specify?.some((other) => model.keys.has(other))) return CHECK;
		for (const each of [who, ...(specify ?? [])]) model.keys.set(each, sark);
	}
	model.aptpl = step.aptpl;
	model.generation++;
	return GOOD;
}

function modelPreempt(model: Model, { who, sark }: OutStep, type: number) {
	if (sark === 0n && !isAll(model.type)) return CHECK;
	const named = [...model.keys]
		.filter(([, key]) => sark === 0n || key === sark)
		.map(([each]) => each);
	if (named.length === 0) return CONFLICT;
	const takes = isAll(model.type)
		? sark === 0n
		: model.holder !== undefined && named.includes(model.holder);
	if (takes && !TYPES.includes(type)) return CHECK;
	const lost = takes ? named.filter((each) => each !== who) : named;
	const old = model.type;
	forget(model, lost);
	tell(model, REGISTRATIONS_PREEMPTED, lost, who);
	if (takes) {
		model.type = type;
		model.holder = isAll(type) ? undefined : who;
		if (type !== old) tell(model, RELEASED, model.keys.keys(), who);
	}
	model.generation++;
	return GOOD;
}

function modelMove(model: Model, { who, sark, to, ...step }: OutStep): number {
	if (model.type === undefined) return CHECK;
	if (isAll(model.type)) return CONFLICT;
	if (sark === 0n || to === who) return CHECK;
	model.keys.set(to, sark);
	model.holder = to;
	if (step.unregister) model.keys.delete(who);
	model.aptpl = step.aptpl;
	model.generation++;
	return GOOD;
}

function modelOut(model: Model, step: OutStep, key: bigint, type: number) {
	const { who, action } = step;
	if (barred(model, step)) return CONFLICT;
	if (step.specify && action !== "registerAndMove" && action !== "register")
		return CHECK;
	if (action === "register" || action === "registerAndIgnore")
		return modelRegister(model, step, key);
	if (model.keys.get(who) !== key) return CONFLICT;
	switch (action) {
		case "reserve":
			if (!TYPES.includes(type)) return CHECK;
			if (model.type !== undefined)
				return model.type === type ? GOOD : CONFLICT;
			model.type = type;
			model.holder = isAll(type) ? undefined : who;
			return GOOD;
		case "release":
			if (!holds(model, who)) return GOOD;
			if (model.type !== type) return CHECK;
			endReservation(model);
			if (type > 3) tell(model, RELEASED, model.keys.keys(), who);
			return GOOD;
		case "clear":
			tell(model, PREEMPTED, model.keys.keys(), who);
			model.keys.clear();
			endReservation(model);
			model.generation++;
			return GOOD;
		case "registerAndMove":
			return modelMove(model, step);
		default:
			return modelPreempt(model, step, type);
	}
}

function modelReserve(model: Model, who: number, reserves: boolean): number {
	if (model.keys.size > 0) {
		const registered = model.keys.has(who) && isOnly(model.type);
		return holds(model, who) || registered ? GOOD : CONFLICT;
	}
	if (reserves && model.reserver !== undefined && model.reserver !== who)
		return CONFLICT;
	if (reserves) model.reserver = who;
	else if (model.reserver === who) model.reserver = undefined;
	return GOOD;
}

function modelGates(model: Model, who: number) {
	const other = model.reserver !== undefined && model.reserver !== who;
	const free =
		model.type === undefined ||
		holds(model, who) ||
		(isOnly(model.type) && model.keys.has(who));
	const read = !other && (free || isWrite(model.type));
	return {
		read: read ? "run" : "conflict",
		write: !other && free ? "run" : "conflict",
	};
}

/** The unit under test, and which of its nexuses each initiator has now. */
interface Bench {
	one: Scene;
	nexusOf: number[];
}

async function runOut(bench: Bench, model: Model, step: OutStep) {
	const { who, action, sark, specify } = step;
	const key = step.key === "own" ? (model.keys.get(who) ?? 0n) : step.key;
	const type = step.type === "held" ? (model.type ?? 1) : step.type;
	const nexus = bench.nexusOf[who] ?? 0;
	const answer =
		action === "registerAndMove"
			? await bench.one.move(nexus, {
					...{ key, sark, type, to: step.to },
					bits: (step.unregister ? 2 : 0) | (step.aptpl ? 1 : 0),
				})
			: await bench.one.out(nexus, action, {
					...{ key, sark, type },
					flags: (step.aptpl ? 1 : 0) | (specify ? 8 : 0),
					...(specify && action === "register"
						? { ids: specify.map(transportIdOf) }
						: {}),
				});
	assert.equal(answer.status, modelOut(model, step, key, type), "status");
}

async function runOther(
	bench: Bench,
	model: Model,
	kind: "reserve" | "release" | "reset" | "reconnect",
	who: number,
) {
	const nexus = bench.nexusOf[who] ?? 0;
	if (kind === "reset") {
		bench.one.lu.reservations.reset();
		model.reserver = undefined;
	} else if (kind === "reconnect") {
		bench.one.disconnect(nexus);
		bench.nexusOf[who] = bench.one.connect(nexus);
		if (model.reserver === who) model.reserver = undefined;
		model.attentions[who]?.clear();
	} else {
		const opcode = kind === "reserve" ? 0x16 : 0x17;
		const answer = await bench.one.send(nexus, [opcode, 0, 0, 0, 0, 0]);
		const wanted = modelReserve(model, who, kind === "reserve");
		assert.equal(answer.status, wanted);
	}
}

function restart(model: Model) {
	if (!model.aptpl || model.keys.size === 0) {
		model.keys.clear();
		endReservation(model);
		model.aptpl = false;
	}
	model.generation = 0;
	model.reserver = undefined;
	for (const set of model.attentions) set.clear();
}

/** Compares all that an initiator can see. */
async function compare({ one, nexusOf }: Bench, model: Model): Promise<void> {
	for (const who of ALL) {
		const nexus = nexusOf[who] ?? 0;
		const found = one.attentions(nexus).sort();
		assert.deepEqual(found, [...(model.attentions[who] ?? [])].sort(), "told");
		model.attentions[who]?.clear();
		const of = one.nexuses[nexus];
		assert(of);
		assert.deepEqual(one.lu.reservations.gates(of), modelGates(model, who));
	}
	if (model.reserver !== undefined) return;
	const reader = nexusOf[0] ?? 0;
	assert.equal(await one.generation(reader), model.generation, "generation");
	assert.deepEqual(
		(await one.fullStatus(reader)).map(({ id, key, holder }) => ({
			...{ id, key, holder },
		})),
		[...model.keys].map(([who, key]) => ({
			id: transportIdOf(who).toString("hex"),
			...{ key, holder: holds(model, who) },
		})),
	);
	assert.deepEqual(await one.keys(reader), [...model.keys.values()]);
	const key = model.holder === undefined ? 0n : model.keys.get(model.holder);
	const { type } = model;
	assert.deepEqual(
		await one.reservation(reader),
		type === undefined ? undefined : { key, type },
	);
	const capabilities = await one.in(reader, 2);
	assert.equal(capabilities[3], model.aptpl ? 0x91 : 0x90);
}

async function play(steps: readonly Step[]): Promise<void> {
	const store = memoryStore();
	const model = newModel();
	const bench: Bench = { one: scene({ store }), nexusOf: [...ALL] };
	for (const step of steps) {
		if (step.kind === "out") await runOut(bench, model, step);
		else if (step.kind === "restart") {
			bench.one = scene({ store });
			bench.nexusOf = [...ALL];
			restart(model);
		} else await runOther(bench, model, step.kind, step.who);
		await compare(bench, model);
	}
}

const who = fc.constantFrom(...ALL);
const key = fc.constantFrom(0n, 1n, 2n, 3n, 0xffff_ffff_ffff_ffffn);
const actions: OutName[] = [
	...(["register", "registerAndIgnore", "reserve", "release"] as const),
	...(["clear", "preempt", "preemptAndAbort", "registerAndMove"] as const),
];

const out: fc.Arbitrary<OutStep> = fc.record({
	kind: fc.constant("out" as const),
	who,
	action: fc.oneof(
		{ weight: 3, arbitrary: fc.constantFrom(...actions) },
		{ weight: 2, arbitrary: fc.constantFrom("registerAndIgnore", "reserve") },
	),
	key: fc.oneof(
		{ weight: 5, arbitrary: fc.constant("own" as const) },
		{ weight: 1, arbitrary: key },
	),
	sark: key,
	type: fc.oneof(
		{ weight: 3, arbitrary: fc.constant("held" as const) },
		{ weight: 4, arbitrary: fc.constantFrom(...TYPES) },
		{ weight: 1, arbitrary: fc.constantFrom(0, 2, 4, 9, 15) },
	),
	aptpl: fc.boolean(),
	specify: fc.oneof(
		{ weight: 5, arbitrary: fc.constant(undefined) },
		{ weight: 1, arbitrary: fc.array(who, { maxLength: 3 }) },
	),
	to: who,
	unregister: fc.boolean(),
});

const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 12, arbitrary: out },
	{
		weight: 2,
		arbitrary: fc.record({
			kind: fc.constantFrom("reserve" as const, "release" as const),
			who,
		}),
	},
	{
		weight: 1,
		arbitrary: fc.record({
			kind: fc.constantFrom("reset" as const, "reconnect" as const),
			who,
		}),
	},
	{ weight: 1, arbitrary: fc.constant({ kind: "restart" as const }) },
);

test("any sequence does what the model does", async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), play),
		{ numRuns: 150 },
	);
});
