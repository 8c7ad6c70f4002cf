/* SPDX-License-Identifier: MIT */
/*
 * The way of a queue's requests to one backend and back. A virtio-blk queue has
 * one lane, a virtio-scsi queue one for each logical unit that is attached to it.
 */
#ifndef VHC_LANE_H
#define VHC_LANE_H

#include "io.h"
#include "pace.h"
#include "stats.h"

struct queue;
struct reactor_channel;
struct task;
struct vhc_lun;

/*
 * What becomes of a request when the backend ends it. "Now" is in the batch that submits
 * it; to a split ring without a log, which is what costs nothing to find out, or to any.
 */
enum lane_end {
	LANE_BLK_NOW,
	LANE_SCSI_NOW,
	LANE_BLK_NOW_ANY,
	LANE_SCSI_NOW_ANY,
	LANE_BLK_LATER,
	LANE_SCSI_LATER,
	LANE_DIRECT, /* it has no ring: see direct.c */
	LANE_STACK,  /* a bdev's, to what it stacks on: see stack.h */
};

/* What limits hold back of a lane (held.h): its reads, and its writes. */
struct held {
	struct io *first[2]; /* NULL: none; by whether they are writes */
	struct io *last[2];
	struct lane *next; /* in the ring of lanes that wait */
	struct pace_flow flow;
	bool writes; /* their turn is next */
};

struct lane {
	struct queue *queue;
	struct bdev_channel *channel; /* NULL: no bdev */
	struct vhc_stats *stats;      /* of the bdev on this reactor, or NULL */
	uint8_t end;		      /* enum lane_end */
	bool sync;     /* the backend ends each request in its batch: they are counted together */
	bool uncommon; /* this batch has requests other than plain reads and writes */
	bool touched;  /* linked to queue->touched */
	uint64_t counts[VHC_NUM_OPS]; /* sync: what this batch adds to the statistics */
	uint64_t bytes[VHC_NUM_OPS];
	uint64_t errors[VHC_NUM_OPS];

	struct reactor_channel *reactor_channel; /* the reactor's: it counts this lane */
	struct lane *next_touched;
	struct held held;

	/* A logical unit's. */
	struct vhc_lun *lun;
	uint32_t address;      /* VHC_LUN_ADDRESS */
	uint32_t response_len; /* with its sense data */
	uint32_t inflight;     /* submitted and not ended */
	uint32_t holds;	       /* commands wait while there are any */
	uint32_t notices;      /* LUN_IDLE upcalls that are owed */
	bool noticed;	       /* linked to queue->noticed */
	bool detached;	       /* kept for its notices alone */
	struct task *waiting;  /* commands that do, in the order they came */
	struct task **waiting_end;
	struct lane *next_noticed;
};

/* Gives a lane its backend: the channel of this thread. */
void lane_set_channel(struct lane *lane, struct bdev_channel *channel);

/*
 * Submits n requests of the lane, of which those that are counted one by one
 * have `start` set already.
 */
void lane_submit(struct lane *lane, struct io *const *ios, uint32_t n);

/* Has what limits hold back of a lane go on at once, as its ring is being stopped. */
void lane_let_go(struct lane *lane);

/* Ends, in -ECANCELED, those of a lane's requests that are wanted and that no disk works on. */
void lane_cancel(struct lane *lane, bool (*wanted)(const struct io *io));

/* Adds a batch to the statistics: all that ended in it became visible at the same time. */
void lane_count_batch(struct lane *lane, struct vhc_stats *ring_stats, uint64_t ns);

/* Notes that n requests more, or fewer, are with the backend, in stats that there may be. */
static inline void lane_count_inflight(struct vhc_stats *stats, int64_t n)
{
	if (stats)
		stats_add(&stats->inflight, (uint64_t)n);
}

/* Counts one request that the backend ended after ns, in stats that there may be. */
static inline void lane_count_one(struct vhc_stats *stats, const struct io *io, uint64_t ns)
{
	bool ok = io->result == 0;

	if (stats)
		stats_count(stats, io->op, 1, ok ? io->len : 0, !ok, ns);
}

#endif
