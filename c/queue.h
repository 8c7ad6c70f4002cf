/* SPDX-License-Identifier: MIT */
/*
 * A ring being served: its requests, in batches, from the ring to where they are
 * executed or answered, and back. What is the same for all kinds of ring is in
 * queue.c; blk_queue.c, scsi_queue.c, raw_queue.c and event_queue.c have the rest.
 */
#ifndef VHC_QUEUE_H
#define VHC_QUEUE_H

#include "blk.h"
#include "coalesce.h"
#include "lane.h"
#include "ring.h"

/* Most requests taken in one turn, so that the rings of a reactor share it fairly. */
#define QUEUE_BATCH RING_AHEAD
/* So few are taken together: publishing costs as much as several requests. */
#define QUEUE_BATCH_MIN 16u
/* Requests in flight that may have more than IO_INLINE_IOV pieces. */
#define QUEUE_LARGE_MAX 256u

enum queue_kind {
	QUEUE_BLK,
	QUEUE_SCSI,
	QUEUE_RAW,
	QUEUE_EVENT,
};

struct lane_table;
struct tasks;

/* The last malformed request that is to be told of. */
struct malformed {
	uint64_t next; /* tick from which on another one is told of */
	uint32_t head;
	int error; /* -errno */
	bool owed; /* its upcall */
};

/* Queues that their reactor is to look at, each in a list of its own. */
struct queue_outbox {
	struct queue *late;    /* completed something outside a batch, and did not publish it */
	struct queue *telling; /* have upcalls to post */
	struct coalesced coalesced;
};

struct queue {
	/* blk: the one there is. Others: where requests are that no backend has. */
	struct lane own;
	struct vhc_ring *ring;
	struct io *ios; /* by head */
	struct vhc_blk *blk;
	struct vhc_stats *stats; /* the ring's */
	uint64_t batch_start;	 /* tick */
	uint32_t (*poll)(struct queue *queue);
	bool kicked;  /* the next batch is one that a kick announced */
	uint8_t kind; /* enum queue_kind */

	/* SCSI, raw: what goes up. SCSI: the logical units. */
	struct tasks *tasks;
	struct lane_table *lanes;
	struct lane *noticed; /* with LUN_IDLE upcalls to post */
	bool missed;	      /* events: one had no buffer */
	bool misses;	      /* has an IOTLB_MISS upcall to post */
	struct malformed malformed;

	/* Arrays of IO_LARGE_IOV pieces for large requests; the free ones on a stack. */
	struct iovec *large;
	uint32_t num_large;
	uint32_t free_large;
	uint16_t large_stack[QUEUE_LARGE_MAX];

	/* What its reactor is to look at. */
	struct queue_outbox *outbox;
	struct queue *next_late;
	struct queue *next_telling;
	struct lane *touched; /* asynchronous lanes that were given requests */
	bool is_late;
	bool is_telling;
	struct coalesce coalesce;

	/* The reactor's, see reactor.h. */
	struct queue *next;
	uint64_t last_work;	      /* tick */
	uint8_t state;		      /* enum queue_state */
	bool stalled;		      /* sleeps though chains wait: they are of no use now */
	struct reactor_message *stop; /* the one that asked for it */
};

/*
 * Makes a queue for a ring. It holds references to both, and is linked to the
 * lists in outbox when there is reason to. It has no bdev until queue_set_channel.
 * Returns NULL without memory.
 */
struct queue *queue_create_blk(struct vhc_ring *ring, struct vhc_blk *blk,
			       struct vhc_stats *bdev_stats, struct queue_outbox *outbox);
struct queue *queue_create_scsi(struct vhc_ring *ring, const struct vhc_scsi_config *config,
				struct queue_outbox *outbox);
struct queue *queue_create_raw(struct vhc_ring *ring, struct queue_outbox *outbox);
struct queue *queue_create_event(struct vhc_ring *ring, struct queue_outbox *outbox);

/* What they have in common. */
struct queue *queue_alloc(struct vhc_ring *ring, enum queue_kind kind, struct queue_outbox *outbox);

/* Gives a blk queue its backend: the channel of this thread. */
void queue_set_channel(struct queue *queue, struct bdev_channel *channel);

/* Nothing may be in flight. The lanes' channels are the caller's to close, before. */
void queue_destroy(struct queue *queue);

/*
 * Takes a batch from the ring, submits it, publishes what ended at once. Returns
 * how many requests it took; a corrupt ring shows in ring->broken.
 */
uint32_t queue_poll(struct queue *queue);

/* Publishes what has completed, calling the driver at most once, or later. */
void queue_publish(struct queue *queue);

/* Calls the driver, whatever it asks for. One that cannot be called breaks the ring. */
void queue_call(struct queue *queue);

/* Has the reactor publish soon what completed outside a batch, or post upcalls. */
void queue_make_late(struct queue *queue);
void queue_make_tell(struct queue *queue);

/*
 * Takes what a predecessor left, while the ring is being stopped, and nothing else.
 * Returns how many.
 */
uint32_t queue_drain(struct queue *queue);

/* Counts a request of the batch of which nothing could be made, and has it told of now and then. */
void queue_malformed(struct queue *queue, size_t head, int error);

/* Posts upcalls that are owed, as far as they fit. Returns whether none is left. */
bool queue_tell(struct queue *queue, struct vhc_upcalls *upcalls);

/* Whether chains that wait in the ring are of no use until something else happens. */
bool queue_ignores_chains(const struct queue *queue);

/*
 * Calls the driver of a ring that was served before, whatever it asks for. What
 * was put last may have been told through a descriptor to which nobody listened
 * any more: QEMU gives a ring its own only after the driver may use it.
 */
void queue_call_again(struct queue *queue);

/* Requests taken and not completed: what has been taken and not put back. */
static inline uint16_t queue_inflight(const struct queue *queue)
{
	return ring_inflight(queue->ring);
}

/* The head of the chain that a request came in. */
static inline size_t queue_head(const struct queue *queue, const struct io *io)
{
	return (size_t)(io - queue->ios);
}

/*
 * Takes a large request's array back. io->iov may point anywhere into it: past
 * the header, or past all.
 */
static inline void queue_release_iov(struct queue *queue, const struct io *io)
{
	if (io->flags & IO_LARGE)
		queue->large_stack[queue->free_large++] =
		    (uint16_t)((size_t)(io->iov - queue->large) / IO_LARGE_IOV);
}

#endif
