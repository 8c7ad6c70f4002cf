/* SPDX-License-Identifier: MIT */
/* The beginning and the end of every kind of queue's batch. */
#ifndef VHC_QUEUE_BATCH_H
#define VHC_QUEUE_BATCH_H

#include "queue.h"
#include "tick.h"
#include "trace.h"

/*
 * How many of the waiting requests to take: half of many, so that the driver has
 * the first half back, and works on it, while the device works on the second.
 */
static inline uint32_t batch_size(const struct queue *queue, uint32_t waiting)
{
	uint32_t n = waiting;

	if (n >= QUEUE_BATCH)
		n = QUEUE_BATCH;
	else if (n > QUEUE_BATCH_MIN)
		n = n / 2 > QUEUE_BATCH_MIN ? n / 2 : QUEUE_BATCH_MIN;
	/* Each may turn out to be large. */
	return n < queue->free_large ? n : queue->free_large;
}

/* Takes a batch. Returns how many, with their heads; 0: there is none to end either. */
static inline uint32_t batch_begin(struct queue *queue, struct ring_head heads[QUEUE_BATCH])
{
	struct vhc_ring *ring = queue->ring;
	uint32_t waiting = ring_look(ring, QUEUE_BATCH);
	uint32_t n;

	if (waiting == 0)
		return 0;
	n = ring_take(ring, heads, batch_size(queue, waiting));
	if (n == 0)
		return 0;
	queue->batch_start = tick_now();
	if (__builtin_expect(ring->trace != NULL, 0) && queue->kicked)
		trace_kicked(queue, heads, n);
	ring_peek(ring, heads, n);
	return n;
}

/*
 * Ends a batch of `taken` requests before number n, which is about memory that is not there
 * yet: of it and those behind it nothing has been done. Returns n.
 */
uint32_t batch_cut(struct queue *queue, const struct ring_head *heads, uint32_t n, uint32_t taken);

/* Publishes a batch and counts it; its requests are the caller's to count. Returns its time. */
static inline uint64_t batch_end(struct queue *queue, const struct ring_head *heads, uint32_t n)
{
	struct vhc_stats *stats = queue->stats;
	uint64_t ns = tick_to_ns(tick_now() - queue->batch_start);

	if (__builtin_expect(!queue->ring->plain, 0))
		ring_end_batch(queue->ring, heads, n);
	queue_publish(queue);
	stats_add(&stats->busy_ns, ns);
	stats_add(&stats->batches, 1);
	stats_add(queue->kicked ? &stats->kicks : &stats->kicks_suppressed, 1);
	queue->kicked = false;
	if (__builtin_expect(mem_faulted(queue->ring->mem), 0))
		ring_break(queue->ring, -EFAULT, VHC_BREAK_MEMORY);
	return ns;
}

#endif
