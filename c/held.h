/* SPDX-License-Identifier: MIT */
/*
 * Requests that limits hold back on one reactor. Each lane has its reads and its writes
 * wait in the order they came; the lanes take turns. All of it is the reactor thread's.
 */
#ifndef VHC_HELD_H
#define VHC_HELD_H

#include "lane.h"
#include "pace.h"

struct held_lanes {
	struct pace *pace; /* the limits; not owned */
	struct lane *last; /* of a ring of lanes that wait; the one after it is next; or NULL */
	uint32_t num_lanes;
	uint32_t num_requests;
};

/* While a request is held, its `backend` is the one behind it. */
static inline struct io *held_next(const struct io *io)
{
	return (struct io *)(uintptr_t)io->backend;
}

/* What a request, a read or a write, costs. */
struct pace_request held_request(const struct io *io);

/* Holds a read or a write back, behind those of its lane. */
void held_add(struct held_lanes *held, struct io *io);

/*
 * Takes up to max requests that may go now (moment), from each lane in turn. Returns how
 * many; *again is brought forward to the moment at which the next of those left may.
 */
uint32_t held_take_due(struct held_lanes *held, uint64_t now, uint64_t *again, struct io **ios,
		       uint32_t max);

/*
 * Takes those of a lane's that are picked, whatever the limits say: the reads, then the writes,
 * each in the order they came. Returns the first, whose held_next is the second, or NULL.
 */
struct io *held_take(struct held_lanes *held, struct lane *lane, const struct io_pick *pick);

#endif
