/* SPDX-License-Identifier: MIT */
/*
 * Coalescing: calls of a busy ring are kept apart, so that its driver takes the
 * completions of a while together. SPDK's rule: with a delay base and a threshold of
 * requests a second, calls are base x (rate - threshold) / threshold apart, and a ring
 * whose rate is not above the threshold calls at once. Here the delay is at most the
 * interval over which the rate is measured: beyond that it would rest on a rate that is
 * not known any more.
 *
 * What was shown to the driver without asking whether it wants a call is due a call. The
 * driver is asked at the moment when that is sent.
 */
#ifndef VHC_COALESCE_H
#define VHC_COALESCE_H

#include <stdint.h>

struct queue;

#define COALESCE_INTERVAL_NS UINT64_C(10000000)

struct coalesce {
	uint64_t base_ns; /* 0: off, and the rest means nothing */
	uint64_t threshold;
	uint64_t delay;	    /* ticks between two calls */
	uint64_t next_call; /* tick before which none is sent */
	uint64_t since;	    /* tick at which the interval began */
	uint64_t requests;  /* ended since then */
	uint32_t unasked;   /* shown since the driver was asked last, as ring_show counts */
	uint64_t due;	    /* tick of the call that was put off; 0: none, and in no list */
	struct queue *next;
	struct queue *previous;
};

/* Queues whose calls were put off, the one that is due first in front. */
struct coalesced {
	struct queue *first;
	struct queue *last;
};

/* Nanoseconds between two calls at so many requests a second. threshold > 0. */
uint64_t coalesce_delay(uint64_t base_ns, uint64_t threshold, uint64_t rate);

/*
 * Changes a queue's setting. What was due is sent: the new one begins with a rate of
 * 0. A base of 0 turns it off; so does a ring that has nothing to call.
 */
void coalesce_set(struct queue *queue, uint64_t base_ns, uint64_t threshold);

/* queue_publish of a queue that has it on: there is something to publish. */
void coalesce_publish(struct queue *queue);

/* Sends the call that is due, if the driver wants it. */
void coalesce_send(struct queue *queue, uint64_t now);

#endif
