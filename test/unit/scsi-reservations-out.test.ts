// SPDX-License-Identifier: MIT
// PERSISTENT RESERVE IN and OUT from several initiators: what each service action does, what
// it tells the others, and what it counts.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import {
	CONFLICT,
	GOOD,
	OUT,
	type OutName,
	type OutOptions,
	PREEMPTED,
	REGISTRATIONS_PREEMPTED,
	RELEASED,
	reservedScene,
	type Scene,
	scene,
} from "../support/reservations.ts";
import { transportIdOf } from "../support/scsi.ts";

type Step = [number, OutName, OutOptions, number?];

/** Sends service actions one after the other, which are GOOD unless a status is given. */
async function play(one: Scene, steps: readonly Step[]): Promise<void> {
	for (const [nexus, action, options, wanted = GOOD] of steps) {
		const answer = await one.out(nexus, action, options);
		assert.equal(
			answer.status,
			wanted,
			`${nexus}: ${action} ${answer.sense?.toString("hex")}`,
		);
		if (wanted === GOOD) assert.equal(answer.residual, 0);
	}
}

/** Unit attentions that each of the three initiators has pending. */
function told(one: Scene): number[][] {
	return [0, 1, 2].map((nexus) => one.attentions(nexus));
}

const NOTHING = [[], [], []];

test("nothing registered: what the four reports say", async () => {
	const one = scene();
	const zero = "0000000000000000";
	assert.equal((await one.in(0, 0)).toString("hex"), zero);
	assert.equal((await one.in(0, 1)).toString("hex"), zero);
	assert.equal((await one.in(0, 2)).toString("hex"), "00081d90ea010000");
	assert.equal((await one.in(0, 3)).toString("hex"), zero);
});

test("without a store, APTPL is no capability", async () => {
	const one = scene({ store: null });
	assert.equal((await one.in(0, 2)).toString("hex"), "00081c90ea010000");
});

test("REPORT CAPABILITIES tells whether APTPL is activated", async () => {
	const one = scene();
	await play(one, [[0, "register", { sark: 1n, flags: 0x01 }]]);
	assert.equal((await one.in(0, 2)).toString("hex"), "00081d91ea010000");
	await play(one, [[1, "register", { sark: 2n }]]);
	assert.equal((await one.in(0, 2)).toString("hex"), "00081d90ea010000");
});

test("the four reports byte by byte", async () => {
	const one = await reservedScene(5);
	assert.equal(
		(await one.in(2, 0)).toString("hex"),
		"0000000200000010" + "0000000000000001" + "0000000000000002",
	);
	assert.equal(
		(await one.in(2, 1)).toString("hex"),
		"0000000200000010" + "0000000000000001" + "00000000" + "0005" + "0000",
	);
	assert.equal(
		(await one.in(2, 3)).toString("hex"),
		"0000000200000060" +
			"0000000000000001" +
			"00000000010500000000000100000018" +
			transportIdOf(0).toString("hex") +
			"0000000000000002" +
			"00000000000000000000000100000018" +
			transportIdOf(1).toString("hex"),
	);
});

test("READ RESERVATION gives no key where all registrants hold it", async () => {
	for (const type of [7, 8]) {
		const one = await reservedScene(type);
		assert.deepEqual(await one.reservation(2), { key: 0n, type });
		const status = await one.fullStatus(2);
		assert.deepEqual(
			status.map(({ key, holder, type }) => ({ key, holder, type })),
			[
				{ key: 1n, holder: true, type },
				{ key: 2n, holder: true, type },
			],
		);
	}
});

for (const length of [0, 1, 7, 8, 9, 16, 23, 24, 25]) {
	test(`reports are cut to an allocation length of ${length}, not their lengths`, async () => {
		const one = await reservedScene(1);
		for (const action of [0, 1, 2, 3]) {
			const whole = await one.in(0, action);
			const part = await one.in(0, action, length);
			assert.deepEqual(part, whole.subarray(0, length));
		}
	});
}

test("an allocation length beyond the buffer is an overrun, and the rest residual", async () => {
	const one = scene();
	const cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0];
	assert.equal((await one.send(0, cdb, { room: 63 })).overrun, true);
	const answer = await one.send(0, cdb, { room: 70 });
	assert.equal(answer.overrun, false);
	assert.equal(answer.residual, 62);
});

test("REGISTER: a key, another key, and none", async () => {
	const one = scene();
	await play(one, [
		[0, "register", { sark: 0xfedc_ba98_7654_3210n }],
		[1, "register", { sark: 2n }],
		[0, "register", { key: 0xfedc_ba98_7654_3210n, sark: 3n }],
	]);
	assert.deepEqual(await one.keys(2), [3n, 2n]);
	await play(one, [[0, "register", { key: 3n, sark: 0n }]]);
	assert.deepEqual(await one.keys(2), [2n]);
	assert.deepEqual(told(one), NOTHING);
	assert.equal(await one.generation(2), 4);
});

test("REGISTER needs the key that is registered, or zero", async () => {
	const one = scene();
	await play(one, [
		[0, "register", { key: 1n, sark: 1n }, CONFLICT],
		[0, "register", { sark: 1n }],
		[0, "register", { sark: 2n }, CONFLICT],
		[0, "register", { key: 2n, sark: 2n }, CONFLICT],
		[0, "register", { key: 2n }, CONFLICT],
	]);
	assert.deepEqual(await one.keys(0), [1n]);
	assert.equal(await one.generation(0), 1);
});

test("REGISTER AND IGNORE EXISTING KEY does not look at the key", async () => {
	const one = scene();
	await play(one, [
		[0, "registerAndIgnore", { key: 99n, sark: 1n }],
		[0, "registerAndIgnore", { key: 99n, sark: 2n }],
		[1, "registerAndIgnore", { sark: 2n }],
	]);
	assert.deepEqual(await one.keys(0), [2n, 2n]);
	await play(one, [[0, "registerAndIgnore", { key: 99n }]]);
	assert.deepEqual(await one.keys(0), [2n]);
	assert.equal(await one.generation(0), 4);
});

test("to unregister what is not registered does nothing, and counts nothing", async () => {
	const one = scene();
	await play(one, [
		[0, "register", { sark: 0n, flags: 0x01 }],
		[0, "registerAndIgnore", { key: 9n, sark: 0n, flags: 0x01 }],
		[0, "register", { flags: 0x08, ids: [transportIdOf(1)] }],
	]);
	assert.equal(await one.generation(0), 0);
	assert.equal((await one.in(0, 2))[3], 0x90, "APTPL is not activated");
});

test("scope and type say nothing where something is registered or cleared", async () => {
	const one = scene();
	await play(one, [
		[0, "register", { sark: 1n, type: 15, scope: 15 }],
		[0, "registerAndIgnore", { sark: 2n, type: 15, scope: 15 }],
		[0, "clear", { key: 2n, type: 15, scope: 15 }],
	]);
	assert.deepEqual(await one.keys(0), []);
});

/** Whether the end of a reservation of the type is told to the other registrants. */
const TELLS_UNREGISTER: [number, boolean][] = [
	[1, false],
	[3, false],
	[5, true],
	[6, true],
];

for (const [type, tells] of TELLS_UNREGISTER) {
	for (const action of ["register", "registerAndIgnore"] as const) {
		test(`type ${type} ends when its holder unregisters by ${action}`, async () => {
			const one = await reservedScene(type);
			await play(one, [[0, action, { key: 1n }]]);
			assert.equal(await one.reservation(2), undefined);
			assert.deepEqual(await one.keys(2), [2n]);
			assert.deepEqual(told(one), [[], tells ? [RELEASED] : [], []]);
		});
	}
}

for (const type of [7, 8]) {
	test(`type ${type} ends when its last registrant unregisters`, async () => {
		const one = await reservedScene(type);
		await play(one, [[0, "register", { key: 1n }]]);
		assert.deepEqual(await one.reservation(2), { key: 0n, type });
		await play(one, [[1, "register", { key: 2n }]]);
		assert.equal(await one.reservation(2), undefined);
		assert.deepEqual(told(one), NOTHING);
	});

	test(`who registers beside type ${type} holds it too`, async () => {
		const one = await reservedScene(type);
		await play(one, [
			[2, "reserve", { key: 3n, type }, CONFLICT],
			[2, "register", { sark: 3n }],
			[2, "reserve", { key: 3n, type }],
			[2, "release", { key: 3n, type }],
		]);
		assert.equal(await one.reservation(2), undefined);
		assert.deepEqual(told(one), [[RELEASED], [RELEASED], []]);
	});
}

test("a registrant that is no holder unregisters quietly", async () => {
	const one = await reservedScene(6);
	await play(one, [[1, "register", { key: 2n }]]);
	assert.deepEqual(await one.reservation(2), { key: 1n, type: 6 });
	assert.deepEqual(told(one), NOTHING);
});

test("the holder keeps its reservation with another key", async () => {
	const one = await reservedScene(1);
	await play(one, [[0, "register", { key: 1n, sark: 9n }]]);
	assert.deepEqual(await one.reservation(2), { key: 9n, type: 1 });
	await play(one, [
		[0, "release", { key: 1n, type: 1 }, CONFLICT],
		[0, "release", { key: 9n, type: 1 }],
	]);
});

test("RESERVE: once, again, and not for others", async () => {
	const one = scene();
	await play(one, [
		[0, "reserve", { key: 0n, type: 1 }, CONFLICT],
		[0, "register", { sark: 1n }],
		[1, "register", { sark: 2n }],
		[0, "reserve", { key: 2n, type: 1 }, CONFLICT],
		[0, "reserve", { key: 1n, type: 1 }],
		[0, "reserve", { key: 1n, type: 1 }],
		[0, "reserve", { key: 1n, type: 3 }, CONFLICT],
		[1, "reserve", { key: 2n, type: 1 }, CONFLICT],
		[2, "reserve", { key: 0n, type: 1 }, CONFLICT],
	]);
	assert.deepEqual(await one.reservation(2), { key: 1n, type: 1 });
	assert.equal(await one.generation(2), 2);
	assert.deepEqual(told(one), NOTHING);
});

for (const [type, tells] of [...TELLS_UNREGISTER, [7, true], [8, true]] as [
	number,
	boolean,
][]) {
	test(`RELEASE of type ${type}`, async () => {
		const one = await reservedScene(type);
		await play(one, [
			[2, "release", { type }, CONFLICT],
			[1, "release", { key: 1n, type }, CONFLICT],
			[0, "release", { key: 2n, type }, CONFLICT],
		]);
		if (type < 7) await play(one, [[1, "release", { key: 2n, type }]]);
		const held = { key: type < 7 ? 1n : 0n, type };
		assert.deepEqual(await one.reservation(2), held);
		assert.deepEqual(told(one), NOTHING);
		await play(one, [[0, "release", { key: 1n, type }]]);
		assert.equal(await one.reservation(2), undefined);
		assert.deepEqual(await one.keys(2), [1n, 2n]);
		assert.deepEqual(told(one), [[], tells ? [RELEASED] : [], []]);
		assert.equal(await one.generation(2), 2);
		await play(one, [[0, "release", { key: 1n, type }]]);
	});
}

for (const type of [1, 3, 5, 6, 7, 8]) {
	for (const by of [0, 1]) {
		test(`CLEAR of type ${type} by ${by ? "another registrant" : "the holder"}`, async () => {
			const one = await reservedScene(type);
			await play(one, [
				[2, "clear", {}, CONFLICT],
				[by, "clear", { key: 7n }, CONFLICT],
				[by, "clear", { key: BigInt(by + 1) }],
			]);
			assert.deepEqual(await one.keys(2), []);
			assert.equal(await one.reservation(2), undefined);
			const others = by ? [[PREEMPTED], [], []] : [[], [PREEMPTED], []];
			assert.deepEqual(told(one), others);
			assert.equal(await one.generation(2), 3);
		});
	}
}

for (const type of [1, 3, 5, 6]) {
	test(`PREEMPT takes a reservation of type ${type}, same type`, async () => {
		const one = await reservedScene(type);
		await play(one, [
			[2, "register", { sark: 3n }],
			[1, "preempt", { key: 2n, sark: 1n, type }],
		]);
		assert.deepEqual(await one.reservation(2), { key: 2n, type });
		assert.deepEqual(await one.keys(2), [2n, 3n]);
		assert.deepEqual(told(one), [[REGISTRATIONS_PREEMPTED], [], []]);
		assert.equal(await one.generation(1), 4);
		assert.deepEqual(one.aborted, []);
	});

	test(`PREEMPT takes a reservation of type ${type}, another type`, async () => {
		const one = await reservedScene(type);
		await play(one, [
			[2, "register", { sark: 3n }],
			[1, "preempt", { key: 2n, sark: 1n, type: 8 }],
		]);
		assert.deepEqual(await one.reservation(1), { key: 0n, type: 8 });
		assert.deepEqual(told(one), [[REGISTRATIONS_PREEMPTED], [], [RELEASED]]);
	});

	test(`PREEMPT of a registrant leaves a reservation of type ${type}`, async () => {
		const one = await reservedScene(type);
		await play(one, [
			[2, "register", { sark: 3n }],
			// Scope and type are of no account: nothing is reserved.
			[2, "preempt", { key: 3n, sark: 2n, type: 15, scope: 15 }],
		]);
		assert.deepEqual(await one.reservation(2), { key: 1n, type });
		assert.deepEqual(await one.keys(2), [1n, 3n]);
		assert.deepEqual(told(one), [[], [REGISTRATIONS_PREEMPTED], []]);
	});
}

for (const type of [7, 8]) {
	test(`PREEMPT with key zero takes a reservation of type ${type} from all`, async () => {
		const one = await reservedScene(type);
		await play(one, [
			[2, "register", { sark: 1n }],
			[0, "preempt", { key: 1n, sark: 0n, type: 3 }],
		]);
		assert.deepEqual(await one.reservation(0), { key: 1n, type: 3 });
		assert.deepEqual(await one.keys(0), [1n]);
		const lost = [REGISTRATIONS_PREEMPTED];
		assert.deepEqual(told(one), [[], lost, lost]);
	});

	test(`PREEMPT with a key takes registrations, not a reservation of type ${type}`, async () => {
		const one = await reservedScene(type);
		await play(one, [[0, "preempt", { key: 1n, sark: 2n, type: 3 }]]);
		assert.deepEqual(await one.reservation(0), { key: 0n, type });
		assert.deepEqual(await one.keys(0), [1n]);
		assert.deepEqual(told(one), [[], [REGISTRATIONS_PREEMPTED], []]);
		// The last registrant removes itself: nobody holds it any more.
		await play(one, [[0, "preempt", { key: 1n, sark: 1n, type: 3 }]]);
		assert.equal(await one.reservation(0), undefined);
		assert.deepEqual(await one.keys(0), []);
		assert.deepEqual(told(one), NOTHING);
	});
}

test("PREEMPT of all who share the holder's key", async () => {
	const one = await reservedScene(5);
	await play(one, [
		[2, "register", { sark: 1n }],
		[1, "preempt", { key: 2n, sark: 1n, type: 5 }],
	]);
	assert.deepEqual(await one.keys(1), [2n]);
	const lost = [REGISTRATIONS_PREEMPTED];
	assert.deepEqual(told(one), [lost, [], lost]);
});

test("the holder preempts itself to have another type", async () => {
	const one = await reservedScene(1);
	await play(one, [[0, "preempt", { key: 1n, sark: 1n, type: 6 }]]);
	assert.deepEqual(await one.reservation(0), { key: 1n, type: 6 });
	assert.deepEqual(await one.keys(0), [1n, 2n]);
	assert.deepEqual(told(one), [[], [RELEASED], []]);
});

test("PREEMPT where nothing is reserved removes registrations", async () => {
	const one = scene();
	await play(one, [
		[0, "preempt", { sark: 1n, type: 1 }, CONFLICT],
		[0, "register", { sark: 1n }],
		[1, "register", { sark: 2n }],
		[2, "register", { sark: 2n }],
		[0, "preempt", { key: 2n, sark: 2n, type: 1 }, CONFLICT],
		[0, "preempt", { key: 1n, sark: 3n, type: 1 }, CONFLICT],
		[0, "preempt", { key: 1n, sark: 2n, type: 1 }],
	]);
	assert.equal(await one.reservation(0), undefined);
	assert.deepEqual(await one.keys(0), [1n]);
	const lost = [REGISTRATIONS_PREEMPTED];
	assert.deepEqual(told(one), [[], lost, lost]);
	assert.equal(await one.generation(0), 4);
});

test("PREEMPT AND ABORT ends the tasks of those preempted, and their prevention of removal", async () => {
	const one = await reservedScene(3);
	await play(one, [[2, "register", { sark: 3n }]]);
	const [holder, , other] = one.nexuses;
	assert(holder && other);
	one.lu.preventers.add(holder).add(other);
	await play(one, [[1, "preemptAndAbort", { key: 2n, sark: 1n, type: 3 }]]);
	assert.deepEqual(one.aborted, [[holder]]);
	assert.deepEqual([...one.lu.preventers], [other]);
	assert.deepEqual(told(one), [[REGISTRATIONS_PREEMPTED], [], []]);
	assert.deepEqual(await one.reservation(1), { key: 2n, type: 3 });
});

test("PREEMPT AND ABORT spares who is not preempted: all registrants, and no reservation", async () => {
	const one = await reservedScene(8);
	await play(one, [[0, "preemptAndAbort", { key: 1n, sark: 0n, type: 8 }]]);
	assert.deepEqual(one.aborted, [[one.nexuses[1]]]);

	const other = scene();
	await play(other, [
		[0, "register", { sark: 1n }],
		[1, "register", { sark: 1n }],
		[2, "register", { sark: 2n }],
		// Its own key: its own tasks too, but for this one, and its registration.
		[0, "preemptAndAbort", { key: 1n, sark: 1n, type: 8 }],
	]);
	assert.deepEqual(other.aborted, [[other.nexuses[0], other.nexuses[1]]]);
	assert.deepEqual(await other.keys(2), [2n]);
	assert.deepEqual(told(other), [[], [REGISTRATIONS_PREEMPTED], []]);
});

test("PREEMPT AND ABORT answers when the tasks have ended, with everything else done", async () => {
	const one = await reservedScene(3);
	let end = () => {};
	const seen: unknown[] = [];
	one.host.abort = (nexuses, except) => {
		seen.push(nexuses, except?.nexus);
		return new Promise((resolve) => {
			end = resolve;
		});
	};
	let answered = false;
	const answer = one
		.out(1, "preemptAndAbort", { key: 2n, sark: 1n, type: 3 })
		.then(({ status }) => {
			answered = true;
			return status;
		});
	await new Promise(setImmediate);
	assert.deepEqual(seen, [[one.nexuses[0]], one.nexuses[1]]);
	assert.equal(answered, false);
	assert.deepEqual(await one.reservation(1), { key: 2n, type: 3 });
	end();
	assert.equal(await answer, GOOD);
});

test("who is not here is preempted all the same", async () => {
	const one = await reservedScene(3);
	one.disconnect(0);
	await play(one, [[1, "preemptAndAbort", { key: 2n, sark: 1n, type: 3 }]]);
	assert.deepEqual(one.aborted, [[]]);
	assert.deepEqual(await one.keys(1), [2n]);
	const again = one.connect(0);
	assert.deepEqual(one.attentions(again), []);
	assert.equal(
		(await one.out(again, "register", { key: 1n })).status,
		CONFLICT,
	);
});

test("an initiator that comes back has its registration and its reservation", async () => {
	const one = await reservedScene(3);
	one.disconnect(0);
	assert.deepEqual(await one.keys(1), [1n, 2n]);
	const again = one.connect(0);
	await play(one, [[again, "reserve", { key: 1n, type: 3 }]]);
	const [stranger] = [one.connect()];
	assert.equal(
		(await one.out(stranger, "reserve", { key: 1n, type: 3 })).status,
		CONFLICT,
	);
	await play(one, [[again, "release", { key: 1n, type: 3 }]]);
});

test("two that share a TransportID are told apart by their names", async () => {
	const one = scene();
	const [first, second] = one.nexuses;
	assert(first && second);
	Object.assign(second, { transportId: first.transportId });
	await play(one, [
		[0, "register", { sark: 1n }],
		[1, "reserve", { key: 1n, type: 1 }, CONFLICT],
		[1, "register", { sark: 2n }],
		[0, "reserve", { key: 1n, type: 1 }],
		[1, "reserve", { key: 2n, type: 1 }, CONFLICT],
	]);
	assert.deepEqual(await one.keys(2), [1n, 2n]);
});

test("SPEC_I_PT registers others: those here, and those to come", async () => {
	const one = scene();
	await play(one, [
		[
			0,
			"register",
			{
				sark: 5n,
				flags: 0x08,
				ids: [transportIdOf(1), transportIdOf(3), transportIdOf(0)],
			},
		],
	]);
	assert.deepEqual(await one.keys(0), [5n, 5n, 5n]);
	assert.equal(await one.generation(0), 1);
	const late = one.connect();
	assert.equal(late, 3);
	await play(one, [
		[1, "reserve", { key: 5n, type: 5 }],
		[late, "register", { key: 5n, sark: 6n }],
		[2, "reserve", { key: 5n, type: 5 }, CONFLICT],
	]);
	assert.deepEqual(
		(await one.fullStatus(2)).map(({ id, key, holder }) => [id, key, holder]),
		[
			[transportIdOf(0).toString("hex"), 5n, false],
			[transportIdOf(1).toString("hex"), 5n, true],
			[transportIdOf(3).toString("hex"), 6n, false],
		],
	);
});

test("SPEC_I_PT with no TransportID registers the sender", async () => {
	const one = scene();
	await play(one, [[0, "register", { sark: 5n, flags: 0x08, ids: [] }]]);
	assert.deepEqual(await one.keys(0), [5n]);
});

test("ALL_TG_PT: one descriptor stands for all ports", async () => {
	const one = scene();
	await play(one, [
		[0, "register", { sark: 5n, flags: 0x04 }],
		[1, "registerAndIgnore", { sark: 6n, flags: 0x04 }],
		[2, "register", { sark: 7n }],
	]);
	assert.deepEqual(
		(await one.fullStatus(0)).map(({ key, allPorts, port }) => [
			key,
			allPorts,
			port,
		]),
		[
			[5n, true, 0],
			[6n, true, 0],
			[7n, false, 1],
		],
	);
	await play(one, [[0, "register", { key: 5n, flags: 0x04 }]]);
	assert.deepEqual(await one.keys(0), [6n, 7n]);
});

test("ALL_TG_PT of a target with two ports", async () => {
	const one = scene();
	one.host.targetPorts = () => [1, 2];
	const [, second] = one.nexuses;
	assert(second);
	// The same initiator, through the other port.
	Object.assign(second, { ...one.nexuses[0], targetPort: 2 });
	await play(one, [[0, "register", { sark: 5n, flags: 0x04 }]]);
	assert.deepEqual(await one.keys(0), [5n, 5n]);
	const told = async () =>
		(await one.fullStatus(0)).map(({ key, allPorts, port, holder }) => [
			key,
			allPorts,
			port,
			holder,
		]);
	assert.deepEqual(await told(), [[5n, true, 0, false]]);
	await play(one, [[1, "reserve", { key: 5n, type: 1 }]]);
	assert.deepEqual(await told(), [
		[5n, false, 1, false],
		[5n, false, 2, true],
	]);
	await play(one, [
		[0, "reserve", { key: 5n, type: 1 }, CONFLICT],
		[0, "register", { key: 5n, flags: 0x04 }],
	]);
	assert.deepEqual(await told(), []);
	assert.equal(await one.reservation(0), undefined);
});

for (const type of [1, 3, 5, 6]) {
	test(`REGISTER AND MOVE of type ${type}`, async () => {
		const one = await reservedScene(type);
		const answer = await one.move(0, { key: 1n, sark: 8n, to: 2 });
		assert.equal(answer.status, GOOD);
		assert.equal(answer.residual, 0);
		assert.deepEqual(await one.reservation(2), { key: 8n, type });
		assert.deepEqual(await one.keys(2), [1n, 2n, 8n]);
		assert.equal(await one.generation(2), 3);
		// To one that is registered: its key changes. The old holder goes.
		const second = await one.move(2, { key: 8n, sark: 9n, to: 1, bits: 0x02 });
		assert.equal(second.status, GOOD);
		assert.deepEqual(await one.reservation(2), { key: 9n, type });
		assert.deepEqual(await one.keys(2), [1n, 9n]);
		assert.deepEqual(told(one), NOTHING);
	});
}

test("REGISTER AND MOVE to one that is not here yet", async () => {
	const one = await reservedScene(3);
	await one.move(0, { key: 1n, sark: 8n, to: 3, bits: 0x03 });
	assert.equal((await one.in(2, 2))[3], 0x91, "APTPL is activated");
	const late = one.connect();
	await play(one, [[late, "release", { key: 8n, type: 3 }]]);
	assert.deepEqual(await one.keys(2), [2n, 8n]);
});

test("REGISTER AND MOVE to one that has left: its name is still known", async () => {
	const one = await reservedScene(3);
	one.disconnect(1);
	await one.move(0, { key: 1n, sark: 8n, to: 1 });
	const [back, other] = [one.connect(1), one.connect(1)];
	Object.assign(one.nexuses[other] ?? {}, { initiator: "somebody else" });
	await play(one, [
		[other, "release", { key: 8n, type: 3 }, CONFLICT],
		[back, "release", { key: 8n, type: 3 }],
	]);
});

test("REGISTER AND MOVE is for the holder", async () => {
	const one = await reservedScene(5);
	for (const [nexus, key] of [
		[0, 2n],
		[1, 2n],
		[2, 0n],
	] as const) {
		const { status } = await one.move(nexus, { key, sark: 8n, to: 3 });
		assert.equal(status, CONFLICT);
	}
	for (const type of [7, 8]) {
		const all = await reservedScene(type);
		const { status } = await all.move(0, { key: 1n, sark: 8n, to: 2 });
		assert.equal(status, CONFLICT);
		assert.deepEqual(await all.keys(0), [1n, 2n]);
	}
});

test("PRGENERATION counts what is registered, cleared, preempted and moved, and wraps", async () => {
	const one = scene();
	const counts: [OutName, OutOptions, number][] = [
		["register", { sark: 1n }, 1],
		["register", { key: 1n, sark: 1n }, 1],
		["registerAndIgnore", { sark: 1n }, 1],
		["reserve", { key: 1n, type: 3 }, 0],
		["reserve", { key: 9n, type: 3 }, 0],
		["preempt", { key: 1n, sark: 1n, type: 5 }, 1],
		["preempt", { key: 1n, sark: 9n, type: 5 }, 0],
		["preempt", { key: 1n, sark: 0n, type: 5 }, 0],
		["preemptAndAbort", { key: 1n, sark: 1n, type: 6 }, 1],
		["release", { key: 1n, type: 5 }, 0],
		["release", { key: 1n, type: 6 }, 0],
		["clear", { key: 2n }, 0],
		["clear", { key: 1n }, 1],
	];
	let generation = 0;
	for (const [action, options, step] of counts) {
		await one.out(0, action, options);
		generation += step;
		assert.equal(await one.generation(0), generation, action);
	}
	const { persistent } = one.lu.reservations;
	one.lu.reservations.change({ ...persistent, generation: 0xffffffff });
	await play(one, [[0, "register", { sark: 1n }]]);
	assert.equal(await one.generation(0), 0);
});

test("a change of a persistent reservation tells the controller", async () => {
	const one = scene();
	const steps: [OutName, OutOptions][] = [
		["register", { sark: 1n }],
		["reserve", { key: 1n, type: 3 }],
		["release", { key: 1n, type: 3 }],
		["clear", { key: 1n }],
	];
	for (const [action, options] of steps) {
		const before = one.changes();
		await one.out(0, action, options);
		assert(one.changes() > before, action);
	}
});

test("256 registrations and no more", async () => {
	const one = scene();
	const ids = Array.from({ length: 254 }, (_, n) => transportIdOf(n + 10));
	await play(one, [
		[0, "register", { sark: 1n, flags: 0x08, ids }],
		[1, "register", { sark: 2n }],
	]);
	assert.equal((await one.keys(0)).length, 256);
	assert.equal((await one.fullStatus(0)).length, 256);
	const sense = "700005000000000a0000000055040000" + "0000";
	for (const action of ["register", "registerAndIgnore"] as const) {
		const answer = await one.out(2, action, { sark: 3n });
		assert.equal(answer.sense?.toString("hex"), sense);
	}
	await play(one, [
		[1, "reserve", { key: 2n, type: 1 }],
		[0, "register", { key: 1n, sark: 4n }],
	]);
	const moved = await one.move(1, { key: 2n, sark: 3n, to: 2 });
	assert.equal(moved.sense?.toString("hex"), sense);
	assert.deepEqual(await one.reservation(0), { key: 2n, type: 1 });
	assert.equal((await one.keys(0)).length, 256);
	// One place is free: two are too many, and then none is made.
	await play(one, [[0, "register", { key: 4n }]]);
	const answer = await one.out(2, "register", {
		sark: 3n,
		flags: 0x08,
		ids: [transportIdOf(5)],
	});
	assert.equal(answer.sense?.toString("hex"), sense);
	assert.equal((await one.keys(0)).length, 255);
	await play(one, [[2, "register", { sark: 3n }]]);
});

test("all service actions but REPLACE LOST RESERVATION", async () => {
	const one = scene();
	const pointer = "700005000000000a000000002400" + "00cc0001";
	for (let action = 8; action < 0x20; action++) {
		const cdb = [0x5f, action, 0, 0, 0, 0, 0, 0, 24, 0];
		const dataOut = Buffer.alloc(24);
		const answer = await one.send(0, cdb, { dataOut });
		assert.equal(answer.sense?.toString("hex"), pointer);
	}
	for (let action = 4; action < 0x20; action++) {
		const cdb = [0x5e, action, 0, 0, 0, 0, 0, 0, 8, 0];
		const answer = await one.send(0, cdb, { room: 8 });
		assert.equal(answer.sense?.toString("hex"), pointer);
	}
	assert.equal(Object.keys(OUT).length, 8);
});
