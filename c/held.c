/* SPDX-License-Identifier: MIT */
#include "held.h"

#include <stddef.h>

static void set_next(struct io *io, const struct io *next)
{
	io->backend = (uint64_t)(uintptr_t)next;
}

struct pace_request held_request(const struct io *io)
{
	return (struct pace_request){
	    .bytes = io->len, .arrival = pace_moment(io->start), .write = io->op == VHC_OP_WRITE};
}

/* ---- The ring of lanes ---- */

static bool has_held(const struct lane *lane)
{
	return lane->held.first[0] || lane->held.first[1];
}

static void link_lane(struct held_lanes *held, struct lane *lane)
{
	struct lane *last = held->last;

	lane->held.next = last ? last->held.next : lane;
	if (last)
		last->held.next = lane;
	held->last = lane;
	held->num_lanes++;
	pace_wait(held->pace, &lane->held.flow, true);
}

static void unlink_lane(struct held_lanes *held, struct lane *lane)
{
	struct lane *before = held->last;

	while (before->held.next != lane)
		before = before->held.next;
	before->held.next = lane->held.next;
	if (held->last == lane)
		held->last = before == lane ? NULL : before;
	held->num_lanes--;
	pace_wait(held->pace, &lane->held.flow, false);
}

/* ---- Requests ---- */

static void append(struct lane *lane, struct io *io)
{
	const bool write = io->op == VHC_OP_WRITE;

	set_next(io, NULL);
	if (lane->held.first[write])
		set_next(lane->held.last[write], io);
	else
		lane->held.first[write] = io;
	lane->held.last[write] = io;
}

void held_add(struct held_lanes *held, struct io *io)
{
	if (!has_held(io->lane))
		link_lane(held, io->lane);
	append(io->lane, io);
	held->num_requests++;
}

/* Takes one of a lane's that may go now; NULL: none may before *again. */
static struct io *take_due(struct held_lanes *held, struct lane *lane, uint64_t now,
			   uint64_t *again)
{
	for (uint32_t i = 0; i < 2; i++) {
		const bool write = lane->held.writes ^ (i > 0);
		struct io *io = lane->held.first[write];
		struct pace_request request;
		uint64_t moment;

		if (!io)
			continue;
		request = held_request(io);
		if (pace_take(held->pace, &lane->held.flow, &request, now, &moment)) {
			lane->held.first[write] = held_next(io);
			lane->held.writes = !write; /* the others are next */
			return io;
		}
		if (pace_after(*again, moment))
			*again = moment;
	}
	return NULL;
}

uint32_t held_take_due(struct held_lanes *held, uint64_t now, uint64_t *again, struct io **ios,
		       uint32_t max)
{
	uint32_t fruitless = 0;
	uint32_t n = 0;

	while (n < max && fruitless < held->num_lanes) {
		struct lane *lane = held->last->held.next;
		struct io *io = take_due(held, lane, now, again);

		if (io) {
			ios[n++] = io;
			fruitless = 0;
		} else {
			fruitless++;
		}
		held->last = lane;
		if (!has_held(lane))
			unlink_lane(held, lane);
	}
	held->num_requests -= n;
	return n;
}

struct io *held_take(struct held_lanes *held, struct lane *lane, const struct io_pick *pick)
{
	struct io *lists[2] = {lane->held.first[0], lane->held.first[1]};
	struct io *first = NULL;
	struct io *last = NULL;

	if (!has_held(lane))
		return NULL;
	lane->held.first[0] = lane->held.first[1] = NULL;
	for (uint32_t write = 0; write < 2; write++) {
		for (struct io *io = lists[write], *next; io; io = next) {
			next = held_next(io);
			if (!io_is_picked(pick, io)) {
				append(lane, io);
				continue;
			}
			set_next(io, NULL);
			if (last)
				set_next(last, io);
			else
				first = io;
			last = io;
			held->num_requests--;
		}
	}
	if (!has_held(lane))
		unlink_lane(held, lane);
	return first;
}
