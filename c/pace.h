/* SPDX-License-Identifier: MIT */
/*
 * Pacing: which of many requests may go when, so that together they keep to limits
 * of requests and of bytes a second.
 *
 * Each limit has a clock, shared by all reactors: the moment at which the next
 * request may go. Who lets one go moves it on by what the request costs, the time
 * that the limit allows for it (the generic cell rate algorithm: a queue of virtual
 * time, without tokens that a timer has to refill). Each ring, or logical unit on a
 * ring, is a flow with such clocks of its own, which move on by as many times the cost
 * as there are flows that wait: a flow whose clock is ahead leaves its turn to others.
 *
 * What a limit allows in any W seconds, exactly: limit * (W + PACE_LATE) and one
 * request. All functions are for any thread; a flow is its reactor's alone.
 */
#ifndef VHC_PACE_H
#define VHC_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Moments and durations are in 64ths of a nanosecond, so that the costs of small requests
 * add up to what was asked for; moments wrap, and are compared by their difference.
 */
#define PACE_NS UINT64_C(64)
#define PACE_MS (PACE_NS * 1000000)

/* What a flow that did not ask for its share may catch up. */
#define PACE_IDLE (2 * PACE_MS)
/* What those that wait may catch up when their reactor is late. */
#define PACE_LATE (10 * PACE_MS)
/*
 * How long a turn is kept for the flow that it belongs to: from flows that have had a little
 * more than their share, and from any.
 */
#define PACE_KEEP (PACE_MS / 2)
#define PACE_KEEP_MAX (1 * PACE_MS)
/* Most that requests which could not wait put off those to come. */
#define PACE_DEBT (1000 * PACE_MS)

enum pace_limit {
	PACE_IOS,	  /* requests */
	PACE_BYTES,	  /* bytes */
	PACE_READ_BYTES,  /* bytes read */
	PACE_WRITE_BYTES, /* bytes written */
	PACE_LIMITS,
};

struct pace_clock {
	_Alignas(64) _Atomic double cost; /* of one, in time; 0: no limit */
	_Atomic uint64_t next;		  /* moment */
};

struct pace {
	struct pace_clock clocks[PACE_LIMITS];
	_Alignas(64) atomic_uint waiting; /* flows that wait */
	atomic_uint changes;		  /* of limits: clocks of flows from before mean nothing */
};

/* Of one flow; all zero at first. */
struct pace_flow {
	uint64_t next[PACE_LIMITS]; /* moments */
	uint32_t changes;
	bool waiting;
};

struct pace_request {
	uint64_t bytes;
	uint64_t arrival; /* moment */
	bool write;
};

/* Differs from before when limits were set meanwhile. */
static inline uint32_t pace_changes(const struct pace *pace)
{
	return atomic_load_explicit(&pace->changes, memory_order_relaxed);
}

/* The moment of a tick. */
uint64_t pace_moment(uint64_t tick);

/* Sets limits, a second; 0: none. What was let go before still counts. */
void pace_set(struct pace *pace, const uint64_t limits[PACE_LIMITS], uint64_t now);

/* Says whether a flow waits from now on: it has requests that may not go yet. */
void pace_wait(struct pace *pace, struct pace_flow *flow, bool waiting);

/* Lets a request of a flow go, if it may now; else says at which moment to ask again. */
bool pace_take(struct pace *pace, struct pace_flow *flow, const struct pace_request *request,
	       uint64_t now, uint64_t *again);

/* Counts a request that goes whatever the limits say: those to come wait for it. */
void pace_charge(struct pace *pace, const struct pace_request *request, uint64_t now);

/* Whether one moment is after another. */
static inline bool pace_after(uint64_t moment, uint64_t other)
{
	return (int64_t)(moment - other) > 0;
}

#endif
