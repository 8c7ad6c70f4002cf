/* SPDX-License-Identifier: MIT */
#include "lane.h"

#include "queue.h"
#include "trace.h"

void lane_set_channel(struct lane *lane, struct bdev_channel *channel)
{
	bool scsi = lane->queue->kind == QUEUE_SCSI;
	const struct vhc_ring *ring = lane->queue->ring;
	/* What is marked in an in-flight region outlives its batch, or is a predecessor's. */
	bool plain = ring->take == RING_TAKEN && ring->again.left == 0;

	lane->channel = channel;
	lane->sync = channel->sync;
	if (lane->sync && plain)
		lane->end = scsi ? LANE_SCSI_NOW : LANE_BLK_NOW;
	else if (lane->sync)
		lane->end = scsi ? LANE_SCSI_NOW_ANY : LANE_BLK_NOW_ANY;
	else
		lane->end = scsi ? LANE_SCSI_LATER : LANE_BLK_LATER;
}

/*
 * Counts requests that stay with the backend, and remembers that the channel may have some in
 * flight now: the reactor asks for that.
 */
__attribute__((noinline)) static void note_given(struct lane *lane, uint32_t n)
{
	struct queue *queue = lane->queue;

	lane->inflight += n;
	lane_count_inflight(lane->stats, n);
	if (lane->touched)
		return;
	lane->touched = true;
	lane->next_touched = queue->touched;
	queue->touched = lane;
}

void lane_submit(struct lane *lane, struct io *const *ios, uint32_t n)
{
	if (!lane->sync)
		note_given(lane, n);
	if (__builtin_expect(lane->queue->ring->trace != NULL, 0))
		trace_submit(lane, ios, n);
	else
		lane->channel->bdev->ops->submit(lane->channel, ios, n);
}

void lane_let_go(struct lane *lane)
{
	const struct io_pick all = {.from = lane};

	if (lane->channel)
		channel_let_go(lane->channel, lane, &all);
}

void lane_cancel(struct lane *lane, bool (*wanted)(const struct io *io))
{
	const struct io_pick pick = {.from = lane, .wanted = wanted};

	if (lane->channel)
		channel_cancel(lane->channel, lane, &pick);
}

static inline void count_op(struct lane *lane, struct vhc_stats *ring_stats, uint32_t op,
			    uint64_t ns)
{
	uint64_t n = lane->counts[op];
	uint64_t bytes = lane->bytes[op];
	uint64_t errors = lane->errors[op];

	if (n == 0)
		return;
	stats_count(ring_stats, op, n, bytes, errors, ns);
	if (lane->stats)
		stats_count(lane->stats, op, n, bytes, errors, ns);
	lane->counts[op] = lane->bytes[op] = lane->errors[op] = 0;
}

void lane_count_batch(struct lane *lane, struct vhc_stats *ring_stats, uint64_t ns)
{
	count_op(lane, ring_stats, VHC_OP_READ, ns);
	count_op(lane, ring_stats, VHC_OP_WRITE, ns);
	if (__builtin_expect(!lane->uncommon, 1))
		return;
	lane->uncommon = false;
	count_op(lane, ring_stats, VHC_OP_FLUSH, ns);
	count_op(lane, ring_stats, VHC_OP_UNMAP, ns);
	count_op(lane, ring_stats, VHC_OP_WRITE_ZEROES, ns);
}
