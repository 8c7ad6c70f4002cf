/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "stats.h"
#include "tick.h"

struct queue *queue_create(struct vhc_ring *ring, struct vhc_blk *blk, struct vhc_stats *bdev_stats,
			   struct queue **late)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return NULL;
	queue->num_large = ring->size < QUEUE_LARGE_MAX ? ring->size : QUEUE_LARGE_MAX;
	queue->ios = aligned_alloc(64, ring->size * sizeof(*queue->ios));
	queue->large = calloc(queue->num_large, sizeof(struct iovec[VHC_CHAIN_MAX_IOV]));
	if (!queue->ios || !queue->large) {
		free(queue->ios);
		free(queue->large);
		free(queue);
		return NULL;
	}
	memset(queue->ios, 0, ring->size * sizeof(*queue->ios));
	for (uint32_t i = 0; i < ring->size; i++)
		queue->ios[i].queue = queue;
	while (queue->free_large < queue->num_large) {
		queue->large_stack[queue->free_large] = (uint16_t)queue->free_large;
		queue->free_large++;
	}
	queue->offset = ring->next_avail - ring->next_used;
	queue->stats = ring->stats;
	queue->bdev_stats = bdev_stats;
	queue->late = late;
	queue->ring = ring;
	queue->blk = blk;
	ring_ref(ring);
	blk_ref(blk);
	return queue;
}

void queue_set_channel(struct queue *queue, struct bdev_channel *channel)
{
	queue->channel = channel;
	queue->sync = channel->bdev->ops->poll == NULL;
}

void queue_destroy(struct queue *queue)
{
	vhc_ring_release(queue->ring);
	vhc_blk_release(queue->blk);
	free(queue->ios);
	free(queue->large);
	free(queue);
}

/* ---- Large requests ---- */

void io_large_iov(struct io *io)
{
	struct queue *queue = io->queue;

	if (io->flags & IO_LARGE)
		return;
	io->flags |= IO_LARGE;
	io->iov =
	    &queue->large[(size_t)queue->large_stack[--queue->free_large] * VHC_CHAIN_MAX_IOV];
}

/*
 * Takes the array back. io->iov may point anywhere into it: past the header, or
 * past all. A synchronous backend's are all taken back at the end of the batch,
 * which leaves the stack as it was.
 */
static inline void release_iov(struct queue *queue, const struct io *io)
{
	if ((io->flags & IO_LARGE) && !queue->sync)
		queue->large_stack[queue->free_large++] =
		    (uint16_t)((size_t)(io->iov - queue->large) / VHC_CHAIN_MAX_IOV);
}

/* ---- Completion ---- */

/* Counts one request that took ns. */
static void count_one(struct vhc_stats *stats, const struct io *io, uint64_t ns)
{
	bool ok = io->result == 0;

	stats_count(stats, io->op, 1, ok ? io->len : 0, !ok, ns);
}

/*
 * Counts a request of a backend that ends them in its own time, and sees to it
 * that the reactor publishes it soon.
 */
static void complete_async(struct queue *queue, const struct io *io)
{
	uint64_t ns = tick_to_ns(tick_now() - io->start);

	release_iov(queue, io);
	count_one(queue->stats, io, ns);
	if (queue->bdev_stats)
		count_one(queue->bdev_stats, io, ns);
	if (!queue->is_late) {
		queue->is_late = true;
		queue->next_late = *queue->late;
		*queue->late = queue;
	}
}

/* Takes a request back out of its batch's successes. */
static void count_failure(struct queue *queue, const struct io *io)
{
	queue->bytes[io->op] -= io->len;
	queue->errors[io->op]++;
}

void io_complete(struct io *io)
{
	struct queue *queue = io->queue;
	int32_t result = io->result;
	uint32_t data = io->op == VHC_OP_READ ? (uint32_t)io->len : 0;

	*io->status = blk_status(result);
	ring_put(queue->ring, (size_t)(io - queue->ios), result == 0 ? data + 1 : 1);
	if (__builtin_expect(!queue->sync, 0))
		complete_async(queue, io);
	else if (__builtin_expect(result != 0, 0))
		count_failure(queue, io);
}

static inline void count_op(struct queue *queue, uint32_t op, uint64_t ns)
{
	uint64_t n = queue->counts[op];
	uint64_t bytes = queue->bytes[op];
	uint64_t errors = queue->errors[op];

	if (n == 0)
		return;
	stats_count(queue->stats, op, n, bytes, errors, ns);
	if (queue->bdev_stats)
		stats_count(queue->bdev_stats, op, n, bytes, errors, ns);
	queue->counts[op] = queue->bytes[op] = queue->errors[op] = 0;
}

/* Counts a batch: all that ended in it became visible at the same time. */
static void count_batch(struct queue *queue, uint64_t ns)
{
	count_op(queue, VHC_OP_READ, ns);
	count_op(queue, VHC_OP_WRITE, ns);
	if (__builtin_expect(!queue->uncommon, 1))
		return;
	queue->uncommon = false;
	count_op(queue, VHC_OP_FLUSH, ns);
	count_op(queue, VHC_OP_UNMAP, ns);
	count_op(queue, VHC_OP_WRITE_ZEROES, ns);
}

void queue_publish(struct queue *queue)
{
	struct vhc_ring *ring = queue->ring;

	stats_set(&queue->stats->inflight, queue_inflight(queue));
	if (ring->published == ring->next_used)
		return;
	if (!ring_publish(ring)) {
		stats_add(&queue->stats->calls_suppressed, 1);
		return;
	}
	stats_add(&queue->stats->calls, 1);
	if (ring_call(ring))
		ring->broken = -EPROTO;
}

/* ---- Batches ---- */

/* Puts back a request that never reached the backend. */
static void put_refused(struct queue *queue, struct io *io, const struct blk_answer *answer)
{
	uint64_t ns = tick_to_ns(tick_now() - queue->batch_start);

	ring_put(queue->ring, (uint32_t)(io - queue->ios), answer->written);
	release_iov(queue, io);
	stats_count(queue->stats, answer->op, 1, 0, answer->error, ns);
}

/* Reads a request of any shape. Returns false if it was answered instead. */
__attribute__((noinline)) static bool read_any(struct queue *queue, const struct blk_limits *limits,
					       uint32_t head, struct io *io)
{
	struct blk_answer answer = {.op = VHC_OP_OTHER, .error = true};
	struct ring_chain chain;
	int result;

	io->flags = 0;
	io->iov = io->inline_iov;
	result = ring_map(queue->ring, head, io->iov, IO_INLINE_IOV, &chain);
	if (result == -E2BIG) {
		/* From its beginning again: nothing is kept of the first attempt. */
		io_large_iov(io);
		result = ring_map(queue->ring, head, io->iov, VHC_CHAIN_MAX_IOV, &chain);
	}
	if (result == 0 && blk_parse(queue->blk, limits, io, &chain, &answer)) {
		queue->uncommon = true;
		return true;
	}
	put_refused(queue, io, &answer);
	return false;
}

/* Reads a batch's requests. Returns how many are for the backend, at ios. */
static inline uint32_t read_requests(struct queue *queue, const struct ring_head *heads, uint32_t n,
				     struct io **ios)
{
	const struct blk_limits limits = blk_limits(queue->blk);
	const struct vhc_ring *ring = queue->ring;
	const struct vhc_blk *blk = queue->blk;
	struct io **at = ios;

	for (uint32_t i = 0; i < n; i++) {
		struct io *io = &queue->ios[heads[i].index];
		struct ring_triple triple;

		if (__builtin_expect(
			!ring_map_triple(ring, &heads[i], BLK_HEADER_SIZE, 1, &triple) ||
			    !blk_parse_triple(blk, &limits, &triple, io),
			0) &&
		    !read_any(queue, &limits, heads[i].index, io))
			continue;
		queue->counts[io->op]++;
		queue->bytes[io->op] += io->len;
		*at++ = io;
	}
	return (uint32_t)(at - ios);
}

static void submit(struct queue *queue, struct io *const *ios, uint32_t n)
{
	for (uint32_t i = 0; i < n && !queue->sync; i++)
		ios[i]->start = queue->batch_start;
	queue->channel->bdev->ops->submit(queue->channel, ios, n);
}

static void end_batch(struct queue *queue)
{
	struct vhc_stats *stats = queue->stats;
	uint64_t ns = tick_to_ns(tick_now() - queue->batch_start);

	queue_publish(queue);
	if (queue->sync) {
		queue->free_large = queue->num_large;
		count_batch(queue, ns);
	}
	stats_add(&stats->busy_ns, ns);
	stats_add(&stats->batches, 1);
	stats_add(queue->kicked ? &stats->kicks : &stats->kicks_suppressed, 1);
	queue->kicked = false;
}

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

/* Kept whole: it is what a profile of the device's side counts (bench/io_path.c). */
__attribute__((noinline)) uint32_t queue_poll(struct queue *queue)
{
	struct vhc_ring *ring = queue->ring;
	struct ring_head heads[QUEUE_BATCH];
	struct io *ios[QUEUE_BATCH];
	int waiting = ring_available(ring);

	if (waiting <= 0)
		return 0;

	uint32_t n = batch_size(queue, (uint32_t)waiting);

	n = ring_take(ring, heads, n);
	if (n == 0)
		return 0;
	queue->batch_start = tick_now();
	ring_peek(ring, heads, n);

	uint32_t accepted = read_requests(queue, heads, n, ios);

	if (accepted > 0)
		submit(queue, ios, accepted);
	end_batch(queue);
	if (__builtin_expect(mem_faulted(ring->mem), 0))
		ring->broken = -EFAULT;
	return n;
}
