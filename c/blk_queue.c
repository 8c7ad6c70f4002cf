/* SPDX-License-Identifier: MIT */
/* Batches of virtio-blk requests. */
#include "queue.h"
#include "queue_batch.h"

/* Puts back a request that never reached the backend. */
static void put_refused(struct queue *queue, struct io *io, const struct blk_answer *answer)
{
	uint64_t ns = tick_to_ns(tick_now() - queue->batch_start);

	ring_put(queue->ring, queue_head(queue, io), answer->written);
	/* A synchronous backend's are all taken back at the end of the batch. */
	if (!queue->own.sync)
		queue_release_iov(queue, io);
	stats_count(queue->stats, answer->op, 1, 0, answer->error, ns);
	if (queue->ring->trace)
		trace_refused(queue, io, answer->op, answer->result);
}

/*
 * Reads a request of any shape. Returns 1 if it is for the backend, 0 if it was answered
 * instead, -ENXIO if it is about memory that is not there yet.
 */
__attribute__((noinline)) static int read_any(struct queue *queue, const struct blk_limits *limits,
					      const struct ring_head *first, struct io *io)
{
	struct blk_answer answer = {.op = VHC_OP_OTHER, .error = true};
	const uint32_t head = first->index;
	struct ring_triple triple;
	struct ring_chain chain;
	int result;

	if (ring_map_packed_triple(queue->ring, first, BLK_HEADER_SIZE, 1, &triple) &&
	    blk_parse_triple(queue->blk, limits, &triple, io))
		return 1;

	io->flags = 0;
	io->iov = io->inline_iov;
	result = ring_map(queue->ring, head, io->iov, IO_INLINE_IOV, &chain);
	if (result == -E2BIG) {
		/* From its beginning again: nothing is kept of the first attempt. */
		io_large_iov(io);
		result = ring_map(queue->ring, head, io->iov, VHC_CHAIN_MAX_IOV, &chain);
	}
	if (__builtin_expect(result == -ENXIO, 0)) {
		if (!queue->own.sync)
			queue_release_iov(queue, io);
		return result;
	}
	if (result == 0 && blk_parse(queue->blk, limits, io, &chain, &answer)) {
		queue->own.uncommon = true;
		return 1;
	}
	if (result)
		answer.result = result;
	if (result || answer.result == -EPROTO)
		queue_malformed(queue, head, answer.result);
	put_refused(queue, io, &answer);
	return 0;
}

/* Reads a batch's requests. Returns how many are for the backend, at ios. */
static inline uint32_t read_requests(struct queue *queue, const struct ring_head *heads,
				     uint32_t *n, struct io **ios)
{
	const uint32_t taken = *n;
	const struct blk_limits limits = blk_limits(queue->blk);
	const struct vhc_ring *ring = queue->ring;
	const struct vhc_blk *blk = queue->blk;
	struct io **at = ios;

	for (uint32_t i = 0; i < taken; i++) {
		struct io *io = &queue->ios[heads[i].index];
		struct ring_triple triple;

		if (__builtin_expect(
			!ring_map_triple(ring, &heads[i], BLK_HEADER_SIZE, 1, &triple) ||
			    !blk_parse_triple(blk, &limits, &triple, io),
			0)) {
			int result = read_any(queue, &limits, &heads[i], io);

			if (result == 0)
				continue;
			if (result < 0) {
				*n = batch_cut(queue, heads, i, taken);
				break;
			}
		}
		queue->own.counts[io->op]++;
		queue->own.bytes[io->op] += io->len;
		*at++ = io;
	}
	return (uint32_t)(at - ios);
}

static void submit(struct queue *queue, struct io *const *ios, uint32_t n)
{
	for (uint32_t i = 0; i < n && !queue->own.sync; i++)
		ios[i]->start = queue->batch_start;
	lane_submit(&queue->own, ios, n);
}

static uint32_t blk_queue_poll(struct queue *queue)
{
	struct ring_head heads[QUEUE_BATCH];
	struct io *ios[QUEUE_BATCH];
	uint32_t n = batch_begin(queue, heads);
	uint32_t accepted;
	uint64_t ns;

	if (n == 0)
		return 0;
	accepted = read_requests(queue, heads, &n, ios);
	if (accepted > 0)
		submit(queue, ios, accepted);
	ns = batch_end(queue, heads, n);
	if (queue->own.sync) {
		/* The stack is as it was before the batch. */
		queue->free_large = queue->num_large;
		lane_count_batch(&queue->own, queue->stats, ns);
	}
	return n;
}

struct queue *queue_create_blk(struct vhc_ring *ring, struct vhc_blk *blk,
			       struct vhc_stats *bdev_stats, struct queue_outbox *outbox)
{
	struct queue *queue = queue_alloc(ring, QUEUE_BLK, outbox);

	if (!queue)
		return NULL;
	queue->poll = blk_queue_poll;
	queue->own.stats = bdev_stats;
	queue->blk = blk;
	blk_ref(blk);
	return queue;
}

void queue_set_channel(struct queue *queue, struct bdev_channel *channel)
{
	lane_set_channel(&queue->own, channel);
}
