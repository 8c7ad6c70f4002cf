/* SPDX-License-Identifier: MIT */
#include "pace.h"

#include "tick.h"

#define SECOND (1000 * PACE_MS)
/* Most that one request costs: moments are compared within half of their range. */
#define MAX_COST (UINT64_C(1) << 60)

uint64_t pace_moment(uint64_t tick)
{
	return tick_to_ns(tick) * PACE_NS;
}

static uint64_t later(uint64_t moment, uint64_t other)
{
	return pace_after(moment, other) ? moment : other;
}

static uint64_t earlier(uint64_t moment, uint64_t other)
{
	return pace_after(moment, other) ? other : moment;
}

/* ---- Limits ---- */

/* What is owed to a clock at another price, as far as there is a limit. */
static uint64_t repriced(uint64_t next, uint64_t now, double from, double to)
{
	double debt = pace_after(next, now) && from > 0 ? (double)(next - now) : 0;

	debt = from > 0 ? debt / from * to : 0;
	return now + (debt < (double)MAX_COST ? (uint64_t)debt : MAX_COST);
}

void pace_set(struct pace *pace, const uint64_t limits[PACE_LIMITS], uint64_t now)
{
	for (uint32_t i = 0; i < PACE_LIMITS; i++) {
		struct pace_clock *clock = &pace->clocks[i];
		double from = atomic_load_explicit(&clock->cost, memory_order_relaxed);
		double to = limits[i] ? (double)SECOND / (double)limits[i] : 0;
		uint64_t next = atomic_load_explicit(&clock->next, memory_order_relaxed);

		if (from == to)
			continue;
		while (!atomic_compare_exchange_weak_explicit(
		    &clock->next, &next, repriced(next, now, from, to), memory_order_relaxed,
		    memory_order_relaxed))
			;
		atomic_store_explicit(&clock->cost, to, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&pace->changes, 1, memory_order_relaxed);
}

/* What a request costs on a clock; 0: it is not concerned. */
static uint64_t cost_of(const struct pace *pace, uint32_t limit, const struct pace_request *request)
{
	double cost = atomic_load_explicit(&pace->clocks[limit].cost, memory_order_relaxed);

	if (cost == 0 || limit == (request->write ? PACE_READ_BYTES : PACE_WRITE_BYTES))
		return 0;
	if (limit != PACE_IOS)
		cost *= (double)request->bytes;
	return cost < (double)MAX_COST ? (uint64_t)(cost + 0.5) : MAX_COST;
}

/* ---- Turns ---- */

void pace_wait(struct pace *pace, struct pace_flow *flow, bool waiting)
{
	if (flow->waiting == waiting)
		return;
	flow->waiting = waiting;
	if (waiting)
		atomic_fetch_add_explicit(&pace->waiting, 1, memory_order_relaxed);
	else
		atomic_fetch_sub_explicit(&pace->waiting, 1, memory_order_relaxed);
}

/* Before this nobody who asks now could have gone. */
static uint64_t floor_of(const struct pace_request *request, uint64_t now)
{
	return later(now - PACE_LATE, request->arrival - PACE_IDLE);
}

/* How long a turn is kept from a flow whose own comes later: the longer, the later that is. */
static uint64_t kept_from(uint64_t own, uint64_t turn)
{
	uint64_t keep = pace_after(own, turn) ? (own - turn) / 16 : 0;

	if (keep > PACE_KEEP_MAX)
		return PACE_KEEP_MAX;
	return keep > PACE_KEEP ? keep : PACE_KEEP;
}

/* When a flow's turn comes on one clock. */
static uint64_t turn_of(const struct pace *pace, uint32_t limit, const struct pace_flow *flow,
			uint64_t floor)
{
	uint64_t next =
	    later(atomic_load_explicit(&pace->clocks[limit].next, memory_order_relaxed), floor);

	return later(next, earlier(flow->next[limit], next + kept_from(flow->next[limit], next)));
}

/* Has a flow begin afresh after limits were set: what it used of others is past. */
static void follow_changes(const struct pace *pace, struct pace_flow *flow, uint64_t floor)
{
	uint32_t changes = pace_changes(pace);

	if (flow->changes == changes)
		return;
	flow->changes = changes;
	for (uint32_t i = 0; i < PACE_LIMITS; i++)
		flow->next[i] = floor;
}

/* Moves a clock on, unless others took that turn. */
static bool advance(struct pace_clock *clock, uint64_t cost, uint64_t floor, uint64_t now)
{
	uint64_t next = atomic_load_explicit(&clock->next, memory_order_relaxed);

	do {
		if (pace_after(next, now))
			return false;
	} while (
	    !atomic_compare_exchange_weak_explicit(&clock->next, &next, later(next, floor) + cost,
						   memory_order_relaxed, memory_order_relaxed));
	return true;
}

static void give_back(struct pace *pace, const uint64_t costs[PACE_LIMITS], uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (costs[i])
			atomic_fetch_sub_explicit(&pace->clocks[i].next, costs[i],
						  memory_order_relaxed);
}

/* Moves a flow's clock on by its share of what all that wait are given meanwhile. */
static void count_flow(const struct pace *pace, struct pace_flow *flow,
		       const uint64_t costs[PACE_LIMITS], uint64_t floor, uint64_t now)
{
	const uint32_t flows =
	    atomic_load_explicit(&pace->waiting, memory_order_relaxed) + !flow->waiting;

	for (uint32_t i = 0; i < PACE_LIMITS; i++) {
		uint64_t share = costs[i] < MAX_COST / flows ? costs[i] * flows : MAX_COST;

		if (costs[i])
			flow->next[i] = earlier(later(flow->next[i], floor), now) + share;
	}
}

bool pace_take(struct pace *pace, struct pace_flow *flow, const struct pace_request *request,
	       uint64_t now, uint64_t *again)
{
	const uint64_t floor = floor_of(request, now);
	uint64_t costs[PACE_LIMITS];
	uint64_t turn = now;

	follow_changes(pace, flow, floor);
	for (uint32_t i = 0; i < PACE_LIMITS; i++) {
		costs[i] = cost_of(pace, i, request);
		if (costs[i])
			turn = later(turn, turn_of(pace, i, flow, floor));
	}
	if (turn != now) {
		*again = turn;
		return false;
	}
	for (uint32_t i = 0; i < PACE_LIMITS; i++) {
		if (costs[i] == 0 || advance(&pace->clocks[i], costs[i], floor, now))
			continue;
		give_back(pace, costs, i);
		*again = now;
		return false;
	}
	count_flow(pace, flow, costs, later(floor, now - PACE_KEEP_MAX), now);
	return true;
}

void pace_charge(struct pace *pace, const struct pace_request *request, uint64_t now)
{
	for (uint32_t i = 0; i < PACE_LIMITS; i++) {
		struct pace_clock *clock = &pace->clocks[i];
		uint64_t cost = cost_of(pace, i, request);
		uint64_t next = atomic_load_explicit(&clock->next, memory_order_relaxed);
		uint64_t owed;

		do {
			owed = later(next, now - PACE_LATE) + cost;
			if (pace_after(owed, now + PACE_DEBT))
				owed = later(next, now + PACE_DEBT);
		} while (cost && !atomic_compare_exchange_weak_explicit(&clock->next, &next, owed,
									memory_order_relaxed,
									memory_order_relaxed));
	}
}
