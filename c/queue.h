/* SPDX-License-Identifier: MIT */
/* A ring being served: its requests, in batches, from the ring to a backend and back. */
#ifndef VHC_QUEUE_H
#define VHC_QUEUE_H

#include "blk.h"
#include "io.h"
#include "ring.h"

/* Most requests taken in one turn, so that the rings of a reactor share it fairly. */
#define QUEUE_BATCH 64u
/* So few are taken together: publishing costs as much as several requests. */
#define QUEUE_BATCH_MIN 16u
/* Requests in flight that may have more than IO_INLINE_IOV pieces. */
#define QUEUE_LARGE_MAX 256u

struct queue {
	struct vhc_ring *ring;
	struct io *ios; /* by head */
	struct vhc_blk *blk;
	struct bdev_channel *channel; /* NULL: no bdev */
	struct vhc_stats *stats;      /* the ring's */
	struct vhc_stats *bdev_stats; /* or NULL */
	uint64_t batch_start;	      /* tick */
	bool sync;     /* the backend ends each request in its batch: they are counted together */
	bool uncommon; /* this batch has requests other than plain reads and writes */
	uint64_t counts[VHC_NUM_OPS]; /* sync: what this batch adds to the statistics */
	uint64_t bytes[VHC_NUM_OPS];
	uint64_t errors[VHC_NUM_OPS];
	uint16_t offset; /* next_avail - next_used with nothing in flight */
	bool kicked;	 /* the next batch is one that a kick announced */

	/* Arrays of VHC_CHAIN_MAX_IOV pieces for large requests; the free ones on a stack. */
	struct iovec *large;
	uint32_t num_large;
	uint32_t free_large;
	uint16_t large_stack[QUEUE_LARGE_MAX];

	/* Completed outside a batch and not yet published: linked from *late. */
	struct queue **late;
	struct queue *next_late;
	bool is_late;

	/* The reactor's, see reactor.h. */
	struct queue *next;
	struct reactor_channel *reactor_channel;
	uint64_t last_work;	      /* tick */
	uint8_t state;		      /* enum queue_state */
	struct reactor_message *stop; /* the one that asked for it */
};

/*
 * Makes a queue for a ring. It holds references to both; queues that complete
 * out of a batch are linked to *late. It has no bdev until queue_set_channel.
 * Returns NULL without memory.
 */
struct queue *queue_create(struct vhc_ring *ring, struct vhc_blk *blk, struct vhc_stats *bdev_stats,
			   struct queue **late);

/* Gives the queue its backend: the channel of this thread. */
void queue_set_channel(struct queue *queue, struct bdev_channel *channel);

/* Nothing may be in flight. */
void queue_destroy(struct queue *queue);

/*
 * Takes a batch from the ring, submits it, publishes what ended at once. Returns
 * how many requests it took; a corrupt ring shows in ring->broken.
 */
uint32_t queue_poll(struct queue *queue);

/* Publishes what has completed, calling the driver at most once. */
void queue_publish(struct queue *queue);

/* Requests taken and not completed: what has been taken and not put back. */
static inline uint16_t queue_inflight(const struct queue *queue)
{
	return queue->ring->next_avail - queue->ring->next_used - queue->offset;
}

#endif
